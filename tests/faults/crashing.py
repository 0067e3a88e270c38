"""A load of clients that outlives servers and faults, and what must be true after them."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import httpx

from app.cli.upkeep import _check, _collect
from app.embedded.process import identify
from app.models.runs import Collected
from app.settings import Settings, load_settings
from app.upkeep.findings import Report
from tests.faults.tools import MIB, read_back
from tests.support import Server, eventually


@dataclass
class Load:
    """Clients that upload, read and delete; what they were told. `refused` counts uploads that failed."""

    server: Server
    kept: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    common: bytes = field(default_factory=lambda: os.urandom(3 * MIB))

    def on(self, server: Server) -> Load:
        """The same on a server that was started again."""
        return replace(self, server=server)

    def run(self, clients: int = 3) -> None:
        """Work until the worker that serves now is gone."""
        workers = {identify(pid) for pid in eventually(self.server.worker_pids)}
        self.run_while(lambda: all(worker and identify(worker.pid) == worker for worker in workers), clients)

    def run_while(self, going: Callable[[], bool], clients: int, rest: float = 0) -> None:
        """`rest`: seconds that each client does nothing after each file."""
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda _: self._client(going, rest), range(clients)))

    def _client(self, going: Callable[[], bool], rest: float) -> None:
        with httpx.Client(base_url=self.server.url, timeout=30, trust_env=False) as client:
            while going():
                with suppress(httpx.HTTPError):
                    self._replace_one(client)
                    self._read_one(client)
                time.sleep(rest)

    def _read_one(self, client: httpx.Client) -> None:
        with self.lock:
            file_id, content = random.choice(list(self.kept.items())) if self.kept else ("", b"")
        if file_id:
            answer = client.get(f"/api/files/{file_id}")
            assert answer.status_code in (200, 503) or file_id not in self.kept, answer.text
            assert answer.status_code != 200 or answer.content == content

    def _replace_one(self, client: httpx.Client) -> None:
        content = self.common + os.urandom(MIB + 1)
        answer = client.post("/api/upload", files={"file": ("a.bin", content)})
        if answer.status_code != 201:
            assert answer.status_code in (503, 507), answer.text
            self.refused.append(answer.status_code)
            return
        file_id = answer.json()["fileId"]
        with self.lock:
            self.kept[file_id] = content
            goes = next(iter(self.kept)) if len(self.kept) > 6 else None
            if goes:
                del self.kept[goes]
                self.unsure.add(goes)
        if goes and client.delete(f"/api/files/{goes}").status_code == 204:
            self.deleted.add(goes)
            self.unsure.discard(goes)


def collect(server: Server, **settings: float) -> Collected:
    """What `mini-s3 gc` does beside the server, without the start of a process."""
    return asyncio.run(_collect(_settings(server, **settings), dry_run=False))


def check(server: Server) -> Report:
    """What `mini-s3 check --read-data` does."""
    return asyncio.run(_check(_settings(server), read_data=True, repair=False, force=False))


def _settings(server: Server, **settings: Any) -> Settings:
    outside = {"mongo_url": server.mongo_url, "mongo_database": server.mongo_database} if server.mongo_url else {}
    return load_settings({"data_dir": server.data_dir} | outside | settings)


def check_what_was_promised(load: Load) -> None:
    """Every acknowledged upload reads back, what was deleted stays so, and nothing leaks."""
    server = load.server
    for file_id, content in load.kept.items():
        read_back(server, file_id, content)
    for file_id in load.deleted:
        assert server.client.get(f"/api/files/{file_id}").status_code == 404
    listed = {file["id"] for file in server.client.get("/api/files?limit=1000").json()["files"]}
    assert set(load.kept) <= listed
    collect(server, grace=0, upload_expiry=0)
    assert check(server).findings == []
    assert not collect(server, grace=0, upload_expiry=0).found_work
    for file_id in listed:
        server.client.delete(f"/api/files/{file_id}")
    collect(server, grace=0)
    assert not list((server.data_dir / "nodes").glob("*/??/*"))
