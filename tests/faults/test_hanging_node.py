"""A disk that hangs: calls on it never return, and its threads can't be called off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.faults.tools import MIB, metric
from tests.support import Server, eventually

HANGING = """
import io, os, time
from app.nodes import breaker, guarded

# Everything else as it is: only patience is short.
for call in guarded.TERMS:
    guarded.TERMS[call] = guarded.Terms(2, tries=guarded.TERMS[call].tries)
guarded._SOUNDING = 0.5
breaker._REST = breaker._LONGEST_REST = 0.5

def hanging(call):
    def called(place, *rest, **named):
        while str(place).startswith({disk!r}) and os.path.exists({control!r}):
            time.sleep(0.02)
        return call(place, *rest, **named)
    return called

for name in ("open", "unlink", "scandir", "statvfs"):
    setattr(os, name, hanging(getattr(os, name)))
io.open = hanging(io.open)
"""


class Disk:
    """The one of the second node."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def hang(self) -> None:
        self._control.touch()

    def go_on(self) -> None:
        self._control.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    folder, control = tmp_path / "data" / "nodes" / "node2", tmp_path / "hangs"
    (tmp_path / "sitecustomize.py").write_text(HANGING.format(disk=str(folder), control=str(control)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    disk = Disk(control)
    try:
        yield disk
    finally:
        disk.go_on()


def node2(server: Server) -> Any:
    (node,) = [node for node in server.client.get("/api/stats").json()["nodes"] if node["id"] == "node2"]
    return node


def nodes_of(server: Server, file_id: str) -> set[str]:
    chunks = server.client.get(f"/api/files/{file_id}/manifest").json()["chunks"]
    return {node for chunk in chunks for node in chunk["nodes"]}


def on_others(server: Server) -> tuple[str, bytes]:
    """A file of which nothing is on the second node."""
    while True:
        content = os.urandom(MIB)
        file_id = server.upload(content)["fileId"]
        if "node2" not in nodes_of(server, file_id):
            return file_id, content


def test_a_disk_that_hangs_stalls_no_other(start_server: StartServer, disk: Disk) -> None:
    server = start_server()
    kept, content = on_others(server)
    spread = server.upload(whole := os.urandom(12 * MIB))["fileId"]
    assert "node2" in nodes_of(server, spread)

    disk.hang()
    with ThreadPoolExecutor(4) as threads:
        bodies = [os.urandom(12 * MIB) for _ in range(4)]
        uploads = [threads.submit(server.upload, body) for body in bodies]
        while not all(upload.done() for upload in uploads):
            assert server.client.get(f"/api/files/{kept}").content == content
            assert server.client.get("/ready").json()["nodes"]["total"] == 3
    stored = [upload.result()["fileId"] for upload in uploads]
    for file_id, body in zip(stored, bodies, strict=True):
        assert nodes_of(server, file_id) == {"node1", "node3"}
        assert server.client.get(f"/api/files/{file_id}").content == body

    eventually(lambda: node2(server)["state"] == "down")
    health = node2(server)["health"]
    assert health["breaker"] == "open"
    assert health["timeouts"] > 0
    assert server.client.get("/ready").json()["nodes"] == {"up": 2, "total": 3}
    assert metric(server, "mini_s3_node_timeouts_total") > 0
    assert 'mini_s3_node_state{node="node2"} 5.0' in server.client.get("/metrics").text
    refused = server.client.get(f"/api/files/{spread}")
    assert (refused.status_code, refused.json()["code"]) == (503, "nodes-unavailable")

    disk.go_on()
    eventually(lambda: server.client.get(f"/api/files/{spread}").content == whole)
    eventually(lambda: "node2" in nodes_of(server, server.upload(os.urandom(6 * MIB))["fileId"]))
    assert [server.client.get(f"/api/files/{file_id}").content for file_id in stored] == bodies
    assert not server.events("damage found")


def test_a_server_starts_although_a_known_disk_hangs(start_server: StartServer, disk: Disk) -> None:
    first = start_server()
    kept, content = on_others(first)
    first.stop()
    disk.hang()
    server = start_server()
    assert node2(server)["state"] == "down"
    assert server.client.get(f"/api/files/{kept}").content == content
    assert nodes_of(server, server.upload(os.urandom(8 * MIB))["fileId"]) == {"node1", "node3"}
    disk.go_on()
    eventually(lambda: node2(server)["state"] == "active")
    eventually(lambda: "node2" in nodes_of(server, server.upload(os.urandom(6 * MIB))["fileId"]))


def test_a_disk_that_hangs_now_and_then_costs_no_upload(start_server: StartServer, disk: Disk) -> None:
    server = start_server()
    for _ in range(3):
        disk.hang()
        body = os.urandom(8 * MIB)
        file_id = server.upload(body)["fileId"]
        assert nodes_of(server, file_id) == {"node1", "node3"}
        disk.go_on()
        assert server.client.get(f"/api/files/{file_id}").content == body
        eventually(lambda: "node2" in nodes_of(server, server.upload(os.urandom(6 * MIB))["fileId"]))
