"""tus clients that nobody here wrote: they upload, and go on when the server was killed in the middle, many times."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.uploader import Uploader

from tests.clients.tools import MIB, kill_worker
from tests.clients.tus import finished_js, start_js
from tests.conftest import StartServer
from tests.e2e.helpers import own_server
from tests.faults.crashing import check, collect
from tests.faults.tools import read_back, transactions_end_after
from tests.support import Databases, Server, eventually

SPEAKS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(databases, tmp_path_factory) as running:
        yield running


def file_of(server: Server, url: str) -> str:
    return str(server.client.head(url, headers=SPEAKS).headers["x-file-id"])


@pytest.mark.parametrize("endpoint", ["/api/tus", "/api/tus/"])
@pytest.mark.parametrize(
    "options",
    [{}, {"chunk_size": MIB + 3}, {"upload_checksum": True, "chunk_size": 2 * MIB}],
    ids=["whole", "in pieces", "with checksums"],
)
def test_tuspy(server: Server, endpoint: str, options: dict[str, Any]) -> None:
    content = random.Random(1).randbytes(5 * MIB + 77)
    metadata = {"filename": "a ü.bin", "filetype": "text/x-of-the-tests"}
    client = TusClient(server.url + endpoint)
    uploader = client.uploader(file_stream=BytesIO(content), metadata=metadata, **options)
    uploader.upload()
    file_id = file_of(server, uploader.url)
    read_back(server, file_id, content)
    info = server.client.get(f"/api/files/{file_id}/info").json()
    assert (info["name"], info["contentType"]) == ("a ü.bin", "text/x-of-the-tests")


def test_tuspy_goes_on_later(server: Server) -> None:
    content = random.Random(2).randbytes(3 * MIB)
    client = TusClient(f"{server.url}/api/tus")
    first = client.uploader(file_stream=BytesIO(content), chunk_size=MIB // 2)
    first.upload(stop_at=MIB)
    second = client.uploader(file_stream=BytesIO(content), url=first.url)
    assert second.offset == MIB
    second.upload()
    read_back(server, file_of(server, first.url), content)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": MIB + 3},
        {"parallelUploads": 3},
        {"uploadDataDuringCreation": True, "chunkSize": 2 * MIB},
        {"overridePatchMethod": True},
        {"uploadLengthDeferred": True, "chunkSize": 2 * MIB},
    ],
    ids=lambda options: next(iter(options), "whole"),
)
def test_tus_js_client(server: Server, tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(random.Random(3).randbytes(5 * MIB + 77))
    (upload,) = finished_js(start_js(server, [path], **options))
    assert upload["interruptions"] == 0
    read_back(server, upload["fileId"], path.read_bytes())
    info = server.client.get(f"/api/files/{upload['fileId']}/info").json()
    assert (info["name"], info["contentType"]) == ("a.bin", "text/x-of-the-tests")


# Interruptions

INTERRUPTIONS = 200
PYTHONS, NODES = 20, 8
"""Uploads at the same time, by either client."""


class Patient(Uploader):
    """tuspy's own, which tries again as long as it takes, and counts how often a request was broken off."""

    interruptions = 0

    def _retry_or_cry(self, error: Any) -> None:
        self._retried = 0
        self.interruptions += isinstance(error, TusUploadFailed) and error.status_code is None
        super()._retry_or_cry(error)


@dataclass
class Load:
    """Uploads by tuspy, one after the other in each thread, until it is told to end."""

    server: Server
    ending: threading.Event = field(default_factory=threading.Event)
    kept: dict[str, bytes] = field(default_factory=dict)
    uploaders: list[Patient] = field(default_factory=list)

    @property
    def interruptions(self) -> int:
        return sum(uploader.interruptions for uploader in self.uploaders)

    def upload(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.ending.is_set():
            content = dice.randbytes(dice.randrange(MIB, 4 * MIB))
            uploader = self._begun(
                file_stream=BytesIO(content),
                chunk_size=dice.choice([40_000, 150_000, 500_000, len(content)]),
                upload_checksum=dice.random() < 0.3,
            )
            self.uploaders.append(uploader)
            uploader.upload()
            self.kept[uploader.url] = content

    def _begun(self, **options: Any) -> Patient:
        """tuspy tries nothing again before there are bytes to send."""
        client = TusClient(f"{self.server.url}/api/tus")
        while True:
            with suppress(TusCommunicationError):
                uploader = Patient(client=client, retries=1, retry_delay=0.05, **options)
                uploader.set_url(uploader.create_url())
                return uploader


def test_clients_go_on_after_two_hundred_kills_in_the_middle(
    start_server: StartServer, databases: Databases, tmp_path: Path
) -> None:
    """The process that serves is killed while many uploads are on their way: each of them is interrupted, somewhere."""
    server = start_server(gc_interval=0)
    load, dice = Load(server), random.Random(5)
    paths = [tmp_path / f"{number}.bin" for number in range(NODES)]
    for number, path in enumerate(paths):
        path.write_bytes(random.Random(number).randbytes(24 * MIB))
    with (
        databases.client() as client,
        transactions_end_after(client, 2),
        ThreadPoolExecutor(PYTHONS) as pool,
    ):
        working = [pool.submit(load.upload, seed) for seed in range(PYTHONS)]
        process = start_js(server, paths, chunkSize=300_000)
        try:
            while load.interruptions < INTERRUPTIONS:
                in_the_middle(client, server, dice.randrange(2 * MIB, 8 * MIB))
                kill_worker(server)
        finally:
            load.ending.set()
        for work in working:
            work.result()
        uploads = finished_js(process)
    assert sum(upload["interruptions"] for upload in uploads) >= NODES
    assert len(uploads) == NODES
    for upload, path in zip(uploads, paths, strict=True):
        read_back(server, upload["fileId"], path.read_bytes())
    for url, content in load.kept.items():
        read_back(server, file_of(server, url), content)
    files = server.client.get("/api/files?limit=1000").json()["files"]
    assert len(files) == len(load.kept) + NODES
    # What a process that was killed had begun to write is nobody's.
    collect(server, grace=0, upload_expiry=0)
    assert check(server).findings == []
    for file in files:
        server.client.delete(f"/api/files/{file['id']}")
    collect(server, grace=0, upload_expiry=0)
    assert not list((server.data_dir / "nodes").glob("*/??/*"))


def in_the_middle(client: pymongo.MongoClient[dict[str, Any]], server: Server, more: int) -> None:
    """Wait until so many more bytes have arrived."""
    sessions = client[server.mongo_database]["upload_sessions"]

    def arrived() -> int:
        found = list(sessions.aggregate([{"$group": {"_id": None, "bytes": {"$sum": "$offset"}}}]))
        return int(found[0]["bytes"]) if found else 0

    before = arrived()
    eventually(lambda: arrived() > before + more, 60)
