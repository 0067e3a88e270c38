"""A load of clients that outlives servers, and what must be true after all crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import httpx

from tests.faults.tools import MIB, read_back
from tests.support import Server, eventually

WORK = ("uploadsEnded", "pagesReleased", "chunksRemoved", "copiesDropped", "unnamedBlobsRemoved", "chunksLeft")


@dataclass
class Load:
    """Clients that upload and delete until the server is gone; what they were told."""

    server: Server
    kept: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    common: bytes = field(default_factory=lambda: os.urandom(3 * MIB))

    def on(self, server: Server) -> Load:
        """The same on a server that was started again."""
        return replace(self, server=server)

    def run(self, clients: int = 3) -> None:
        """Work until the worker that serves now is gone."""
        pids = eventually(self.server.worker_pids)
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda _: self._client(pids), range(clients)))

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


def upkeep(server: Server, name: str, *words: object) -> Any:
    """Run a command on the server's store; its exit code must be 0."""
    outside = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database) if server.mongo_url else ()
    command = [sys.executable, "-m", "app", name, "--data-dir", server.data_dir, *outside, "--json", *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check_what_was_promised(load: Load) -> None:
    """Every acknowledged upload reads back, what was deleted stays so, and nothing leaks."""
    server = load.server
    for file_id, content in load.kept.items():
        read_back(server, file_id, content)
    for file_id in load.deleted:
        assert server.client.get(f"/api/files/{file_id}").status_code == 404
    listed = {file["id"] for file in server.client.get("/api/files?limit=1000").json()["files"]}
    assert set(load.kept) <= listed
    upkeep(server, "gc", "--grace", 0, "--upload-expiry", 0)
    assert upkeep(server, "check", "--read-data")["findings"] == []
    again = upkeep(server, "gc", "--grace", 0, "--upload-expiry", 0)
    assert {name: again[name] for name in WORK} == dict.fromkeys(WORK, 0)
    for file_id in listed:
        server.client.delete(f"/api/files/{file_id}")
    upkeep(server, "gc", "--grace", 0)
    assert not list((server.data_dir / "nodes").glob("*/??/*"))
