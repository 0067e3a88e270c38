"""The server dies at each named point of the code in turn; nothing that was promised is lost.

Points that no server passes by itself, those of movers, are left to the model and to `tests/upkeep`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import httpx
import pytest

from app.faults import KILL_VARIABLE, POINTS, Point
from tests.conftest import StartServer
from tests.faults.tools import MIB, read_back, transactions_end_after
from tests.support import Databases, Server, eventually

OF_MOVERS = ("copy-named", "copied", "switched", "copy-dropped")
NEEDS_LITTER = ("unnamed-seen",)
"""Points of a sweep, which a server makes when it starts: it finds what an earlier crash left."""
PASSED = [point for point in POINTS if point not in OF_MOVERS and point != "upload-ended"]


@dataclass
class Load:
    """Clients that upload and delete until the server is gone; what they were told."""

    server: Server
    kept: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    common: bytes = field(default_factory=lambda: os.urandom(3 * MIB))

    def run(self, pids: list[int]) -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: self._client(pids), range(3)))

    def _client(self, pids: list[int]) -> None:
        with httpx.Client(base_url=self.server.url, timeout=30, trust_env=False) as client:
            while self.server.worker_pids() == pids:
                try:
                    self._once(client)
                except httpx.HTTPError:
                    return

    def _once(self, client: httpx.Client) -> None:
        content = self.common + os.urandom(MIB + 1)
        answer = client.post("/api/upload", files={"file": ("a.bin", content)})
        if answer.status_code != 201:
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


@pytest.fixture(autouse=True)
def short_transactions(databases: Databases) -> Iterator[None]:
    with databases.client() as client, transactions_end_after(client, 2):
        yield


def upkeep(server: Server, name: str, *words: object) -> Any:
    """Run a command on the server's store; its exit code must be 0."""
    store = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database, "--data-dir", server.data_dir)
    command = [sys.executable, "-m", "app", name, *store, "--json", *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("point", PASSED)
def test_a_crash_at_any_point_loses_and_leaks_nothing(
    start_server: StartServer, databases: Databases, point: Point
) -> None:
    """Seen to fail without the picking-up of dead chunks (at `claimed`), and when an upload is answered
    before its commit (at `commit-half-done`)."""
    if point in NEEDS_LITTER:
        crash(start_server, "blob-renamed")
    load = crash(start_server, point)
    server = start_server(gc_interval=0)
    for file_id, content in load.kept.items():
        read_back(server, file_id, content)
    for file_id in load.deleted:
        assert server.client.get(f"/api/files/{file_id}").status_code == 404
    listed = {file["id"] for file in server.client.get("/api/files?limit=100").json()["files"]}
    assert set(load.kept) <= listed
    upkeep(server, "gc", "--grace", 0, "--upload-expiry", 0)
    assert upkeep(server, "check", "--read-data")["findings"] == []
    with databases.client() as client:
        store = client[server.mongo_database]
        assert store.chunks.count_documents({"refs": 0}) == 0
        assert store.pages.count_documents({"refs": 0}) == 0
        assert store.uploads.count_documents({}) == 0
    for file_id in listed:
        server.client.delete(f"/api/files/{file_id}")
    upkeep(server, "gc", "--grace", 0)
    assert not list((server.data_dir / "nodes").glob("*/??/*"))


def crash(start_server: StartServer, point: Point) -> Load:
    """A server under load that is killed at `point`, with all that belongs to it."""
    # The identities of the three nodes are written as blobs are.
    times = 4 if point in ("blob-begun", "blob-renamed") else 1
    server = start_server(grace=0, gc_interval=0.5, env={KILL_VARIABLE: f"{point}:{times}"})
    pids = eventually(server.worker_pids)
    load = Load(server)
    load.run(pids)
    eventually(lambda: server.worker_pids() != pids)
    server.kill()
    return load
