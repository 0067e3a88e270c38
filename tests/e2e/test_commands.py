"""`mini-s3 gc`, `check` and `usage` as processes of their own, beside a server and without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from app.embedded.data_dir import running
from tests.conftest import StartServer
from tests.e2e.helpers import command, result_of
from tests.support import Server, blob_names, eventually

MIB = 1 << 20


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose server has been stopped; its database is an embedded one."""
    folder = tmp_path_factory.mktemp("embedded")
    server = Server(folder, gc_interval=0)
    try:
        content = os.urandom(2 * MIB)
        server.upload(content, "a/1")
        deleted = server.upload(content + os.urandom(MIB), "b/2")["fileId"]
        assert server.client.delete(f"/api/files/{deleted}").status_code == 204
        beside(server)
    finally:
        assert server.stop() == 0
    return server.data_dir


def beside(server: Server) -> None:
    """The commands find the database of a running server, and a second server is refused."""
    eventually(lambda: server.client.get("/api/stats").json()["storedBytes"] == 2 * MIB)
    assert result_of("check", "--data-dir", server.data_dir, "--read-data")["clean"]
    assert len(blob_names(server)) == 3
    done = result_of("gc", "--data-dir", server.data_dir, "--dry-run", "--grace", 0)
    assert (done["dryRun"], done["chunksRemoved"], done["bytesFreed"]) == (True, 1, MIB)
    assert result_of("gc", "--data-dir", server.data_dir)["chunksRemoved"] == 0, "the grace period of an hour"
    done = result_of("gc", "--data-dir", server.data_dir, "--grace", 0)
    assert (done["chunksRemoved"], done["bytesFreed"], done["nodesSwept"]) == (1, MIB, True)
    assert len(blob_names(server)) == 2
    eventually(lambda: (server.client.get("/api/stats").json()["lastCollection"] or {}).get("chunksRemoved") == 1)


def test_without_a_server_the_database_is_started_and_ended(embedded: Path) -> None:
    usage = result_of("usage", "--data-dir", embedded)
    assert [(group["prefix"], group["uniqueBytes"]) for group in usage["groups"]] == [("a/", 2 * MIB)]
    report = result_of("check", "--data-dir", embedded)
    assert report["checked"] == {"files": 1, "pages": 1, "chunks": 2, "blobs": 2, "bytesRead": 0}
    assert running(embedded) is None
    server = Server(embedded.parent)
    try:
        assert server.client.get("/api/stats").json()["files"] == 1
    finally:
        assert server.stop() == 0


def test_damage_is_told_with_the_files_that_it_touches(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    server.upload(os.urandom(1000), "good.bin")
    hurt = server.upload(os.urandom(2000), "hurt.bin")["fileId"]
    (path,) = [path for path in (server.data_dir / "nodes").glob("*/??/*") if path.stat().st_size == 2000]
    path.write_bytes(b"0" * 2000)
    store = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database, "--data-dir", server.data_dir)
    assert command("check", *store).returncode == 0, "sizes are right"
    told = command("check", *store, "--read-data")
    assert told.returncode == 1
    assert "hurt.bin" in told.stdout
    assert "good.bin" not in told.stdout
    report = result_of("check", *store, "--read-data", "--repair", code=1)
    assert [(finding["kind"], finding["mended"]) for finding in report["findings"]] == [("blob-wrong", False)]
    assert report["files"] == [{"id": hurt, "name": "hurt.bin"}]
    server.upload(b"0" * 2000, "other.bin")
    assert result_of("check", *store, code=1)["findings"][0]["kind"] == "chunk-lost"


def test_a_node_that_is_away(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(gc_interval=0)
    ids = [server.upload(os.urandom(1000))["fileId"] for _ in range(3)]
    store = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database, "--data-dir", server.data_dir)
    for file_id in ids:
        server.client.delete(f"/api/files/{file_id}")
    server.stop()
    node = server.data_dir / "nodes" / "node2"
    node.rename(tmp_path / "unmounted")
    report = result_of("check", *store, code=1)
    assert [(finding["kind"], finding["node"]) for finding in report["findings"]] == [("node-absent", "node2")]
    done = result_of("gc", *store, "--grace", 0)
    assert (done["chunksRemoved"], done["chunksLeft"]) == (2, 1)
    assert not node.exists()
    (tmp_path / "unmounted").rename(node)
    assert result_of("gc", *store, "--grace", 0)["chunksRemoved"] == 1
    assert result_of("check", *store)["clean"]
    assert blob_names(server) == set()


@pytest.mark.parametrize(
    ("words", "stage"), [("gc", "unnamed blobs"), ("check --read-data", "blobs, every byte"), ("usage", "files")]
)
def test_on_a_terminal_a_bar_tells_how_far_it_is(embedded: Path, words: str, stage: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "app", *words.split(), "--data-dir", str(embedded), "--json"]
    terminal = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=terminal) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # The end of a terminal is an error.
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
        assert process.stdout
        assert json.load(process.stdout)
    assert process.returncode == 0
    assert re.search(rf"{stage} .*\d+/\d+", shown.decode()), shown


@pytest.mark.parametrize("name", ["gc", "check", "usage"])
def test_what_is_no_store_is_refused_in_words(name: str, tmp_path: Path, mongo_url: str) -> None:
    done = command(name, "--data-dir", tmp_path / "nothing")
    assert done.returncode == 2
    assert "There is no store in" in done.stderr
    assert not (tmp_path / "nothing").exists()
    done = command(name, "--data-dir", tmp_path, "--mongo-url", mongo_url, "--mongo-database", "nothing_here")
    assert done.returncode == 2
    assert "There is no store in this database" in done.stderr
    assert command(name, "--grace", "soon").returncode == 2
