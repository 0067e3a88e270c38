"""Full and failing disks: on small file systems where tests may mount some (as root), else on
directories in which the server's own writes fail beyond a size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import Server, eventually

MIB = 1 << 20


SIZES = {"small1": 12 * MIB, "small2": 12 * MIB, "large": 200 * MIB}

QUOTA = """
import errno, os
from pathlib import Path

SIZES = {sizes!r}
write = os.write

def limited(descriptor, data):
    path = os.readlink(f"/proc/self/fd/{{descriptor}}")
    for disk, size in SIZES.items():
        if path.startswith(disk + "/"):
            used = sum(file.stat().st_size for file in Path(disk).glob("??/*"))
            if used + len(data) > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(descriptor, data)

os.write = limited
"""


@pytest.fixture
def small_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Two disks of 12 MiB and one of 200 MiB."""
    disks = {tmp_path / name: size for name, size in SIZES.items()}
    with ExitStack() as stack:
        for disk in disks:
            disk.mkdir()
        if os.geteuid() == 0:
            for disk, size in disks.items():
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
                stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
        else:
            named = {str(disk): size for disk, size in disks.items()}
            (tmp_path / "sitecustomize.py").write_text(QUOTA.format(sizes=named))
            monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
        yield list(disks)


def states(server: Server) -> dict[str, str]:
    return {node["id"]: node["state"] for node in server.client.get("/api/stats").json()["nodes"]}


def post(server: Server, content: bytes) -> Any:
    return server.client.post("/api/upload", files={"file": ("a", content)})


def test_a_full_node_is_passed_over(start_server: StartServer, small_disks: list[Path]) -> None:
    server = start_server(nodes=",".join(map(str, small_disks)))
    content = os.urandom(60 * MIB)
    upload = server.upload(content)
    assert server.client.get(f"/api/files/{upload['fileId']}").content == content
    eventually(lambda: states(server) == {"small1": "full", "small2": "full", "large": "active"})
    assert not [path for disk in small_disks for path in disk.glob("*/.tmp-*")]


def test_when_all_nodes_are_full_the_upload_fails_and_the_server_goes_on(
    start_server: StartServer, small_disks: list[Path]
) -> None:
    first, second, _ = small_disks
    server = start_server(nodes=f"{first},{second}")
    kept = server.upload(b"kept")["fileId"]
    refused = post(server, os.urandom(40 * MIB))
    assert (refused.status_code, refused.json()["code"]) == (507, "no-space")
    assert len(server.client.get("/api/files").json()["files"]) == 1
    eventually(lambda: set(states(server).values()) == {"full"})
    assert server.client.get(f"/api/files/{kept}").content == b"kept"
    for path in first.glob("??/*"):
        if path.stat().st_size == MIB:
            path.unlink()
    answer = eventually(lambda: (again := post(server, os.urandom(MIB))).status_code == 201 and again)
    assert answer.json()["chunks"]["new"] == 1
    eventually(lambda: "active" in states(server).values())


def test_a_failing_node_is_passed_over_until_it_works_again(start_server: StartServer, tmp_path: Path) -> None:
    nodes = [tmp_path / name for name in ("good", "bad")]
    server = start_server(nodes=",".join(map(str, nodes)))
    bad = nodes[1]
    aside = tmp_path / "aside"
    bad.rename(aside)
    content = os.urandom(20 * MIB)
    upload = server.upload(content)
    assert server.client.get(f"/api/files/{upload['fileId']}").content == content
    eventually(lambda: states(server) == {"good": "active", "bad": "down"})
    nodes[0].rename(tmp_path / "aside2")
    unreachable = server.client.get(f"/api/files/{upload['fileId']}")
    assert (unreachable.status_code, unreachable.json()["code"]) == (503, "nodes-unavailable")
    assert not server.events("damage found")
    refused = post(server, os.urandom(MIB))
    assert (refused.status_code, refused.json()["code"]) == (503, "nodes-unavailable")
    assert server.client.get("/ready").status_code == 503
    (tmp_path / "aside2").rename(nodes[0])
    aside.rename(bad)
    eventually(lambda: post(server, os.urandom(4 * MIB)).status_code == 201)
    eventually(lambda: post(server, os.urandom(4 * MIB)).status_code == 201 and "down" not in states(server).values())
