"""MongoDB or Redis away, hanging, and back."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.embedded import redis_server
from tests.conftest import StartServer
from tests.support import Server, blob_names, eventually, running

MIB = 1 << 20
PROMISED = 5.0
"""Seconds within which a request fails when MongoDB is away."""
SLACK = 3.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ms3-") as sockets:
        yield Path(sockets)


@contextmanager
def redis(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    binary = redis_server.find_binary()
    assert binary is not None
    with running(redis_server.program(binary, folder, folder, folder / "redis.log")) as process:
        yield process


def unavailable(server: Server, method: str, path: str, **request: object) -> None:
    answer = httpx.request(method, server.url + path, timeout=PROMISED + SLACK, trust_env=False, **request)  # type: ignore[arg-type]
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == "database-unavailable"
    assert int(answer.headers["retry-after"]) > 0


def mongod_of(server: Server) -> int:
    found = subprocess.run(
        ["pgrep", "-f", f"mongod --dbpath {server.data_dir}/mongo"], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_without_mongodb_every_call_says_so_and_it_comes_back(start_server: StartServer, how: signal.Signals) -> None:
    server = start_server(mongo_url="", redis_url="")
    file_id = server.upload(os.urandom(2 * MIB))["fileId"]
    database = mongod_of(server)
    if how is signal.SIGKILL:
        # A supervisor that sleeps starts nothing again.
        server.process.send_signal(signal.SIGSTOP)
    os.kill(database, how)
    form = {"files": {"file": ("a", b"x")}}
    calls = [("GET", f"/api/files/{file_id}", {}), ("GET", "/api/files", {}), ("POST", "/api/upload", form)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda call: unavailable(server, call[0], call[1], **call[2]), calls))
    ready = server.client.get("/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "down")
    assert server.client.get("/health").status_code == 200
    if how is signal.SIGKILL:
        server.process.send_signal(signal.SIGCONT)
    else:
        os.kill(database, signal.SIGCONT)
    eventually(lambda: server.client.get("/ready").status_code == 200)
    assert server.client.get(f"/api/files/{file_id}").status_code == 200
    assert len(server.client.get("/api/files").json()["files"]) == 1
    assert server.upload(b"again")["success"]


def test_an_upload_that_loses_mongodb_on_the_way_fails_clearly(start_server: StartServer) -> None:
    server = start_server(mongo_url="", redis_url="")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    content, end = os.urandom(80 * MIB), b"\r\n--b--\r\n"
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", "/api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(len(head) + len(content) + len(end)))
    connection.endheaders(head + content[: 33 * MIB])
    eventually(lambda: len(blob_names(server)) > 0)
    os.kill(mongod_of(server), signal.SIGSTOP)
    try:
        for start in range(33 * MIB, len(content), MIB):
            connection.send(content[start : start + MIB])
        connection.send(end)
    except OSError:
        pass
    answer = connection.getresponse()
    assert answer.status == 503
    answer.read()
    connection.close()
    os.kill(mongod_of(server), signal.SIGCONT)
    eventually(lambda: server.client.get("/ready").status_code == 200)
    assert server.client.get("/api/files").json()["files"] == []
    upload = server.upload(content)
    assert server.client.get(f"/api/files/{upload['fileId']}").content == content


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_without_redis_everything_goes_on(start_server: StartServer, folder: Path, how: signal.Signals) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(redis(folder))
        server = start_server(workers=2, redis_url=redis_server.url(folder), rate_api="1000/minute")
        server.upload(os.urandom(MIB))
        process.send_signal(how)
        content = os.urandom(20 * MIB)
        before = blob_names(server)
        with ThreadPoolExecutor(6) as threads:
            uploads = list(threads.map(lambda _: server.upload(content), range(6)))
        for upload in uploads:
            assert server.client.get(f"/api/files/{upload['fileId']}").content == content
        # Two workers may both write a chunk, but only what a document names stays.
        assert len(blob_names(server) - before) == 20
        assert server.client.get("/ready").json()["redis"] == "down"
        assert server.client.get("/ready").status_code == 200
        process.send_signal(signal.SIGCONT)
        if how is signal.SIGKILL:
            process.wait()
            stack.enter_context(redis(folder))
        eventually(lambda: server.client.get("/ready").json()["redis"] == "up")
        assert server.upload(os.urandom(MIB))["success"]


def test_a_flushed_redis_costs_nothing(start_server: StartServer, folder: Path) -> None:
    import redis as client_library

    with redis(folder), client_library.Redis.from_url(redis_server.url(folder)) as client:
        server = start_server(workers=2, redis_url=redis_server.url(folder))
        content = os.urandom(40 * MIB)
        with ThreadPoolExecutor(5) as threads:
            uploads = [threads.submit(server.upload, content) for _ in range(4)]
            while not all(upload.done() for upload in uploads):
                client.flushall()
        ids = [upload.result()["fileId"] for upload in uploads]
        assert len(blob_names(server)) == 40
        assert all(server.client.get(f"/api/files/{file_id}").content == content for file_id in ids)


def test_embedded_databases_that_die_are_started_again(start_server: StartServer) -> None:
    server = start_server(mongo_url="", redis_url="")
    file_id = server.upload(b"kept")["fileId"]
    for name in ("mongod", "redis"):
        os.kill(child(server, name), signal.SIGKILL)
        eventually(lambda name=name: len(started(server, name)) == 1)  # type: ignore[misc]
        eventually(lambda: server.client.get("/ready").json() == READY)
        assert server.client.get(f"/api/files/{file_id}").content == b"kept"
        assert server.upload(name.encode())["success"]


READY = {"status": "ready", "database": "up", "redis": "up", "nodes": {"up": 3, "total": 3}}


def child(server: Server, name: str) -> int:
    return int(next(event["pid"] for event in server.events("child ready") if event["child"] == name))


def started(server: Server, name: str) -> list[object]:
    return [event for event in server.events("child started again") if event["child"] == name]
