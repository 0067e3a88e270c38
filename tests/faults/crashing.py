"""A load of clients that outlives servers and faults, and what must be true after them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import httpx

from tests.faults.tools import MIB, read_back
from tests.support import Server, eventually

WORK = ("uploadsEnded", "pagesReleased", "chunksRemoved", "copiesDropped", "unnamedBlobsRemoved", "chunksLeft")


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
        pids = eventually(self.server.worker_pids)
        self.run_while(lambda: self.server.worker_pids() == pids, clients)

    def run_while(self, going: Callable[[], bool], clients: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda _: self._client(going), range(clients)))

    def _client(self, going: Callable[[], bool]) -> None:
        with httpx.Client(base_url=self.server.url, timeout=30, trust_env=False) as client:
            while going():
                with suppress(httpx.HTTPError):
                    self._replace_one(client)
                    self._read_one(client)

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
