"""kill -9 in the middle of uploads: what was acknowledged is there, what was not can be sent again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import StartServer
from tests.faults.tools import FORM, MIB, metric, paused_body, read_back, transactions_end_after
from tests.support import PATIENCE, Databases, Server, eventually


class Load:
    """Clients that upload one new file after the other, and remember which were acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.failed: list[bytes] = []
        self._url = url
        self._stop = threading.Event()

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        with ThreadPoolExecutor(clients) as threads:
            loops = [threads.submit(self._upload_on_and_on) for _ in range(clients)]
            try:
                eventually(lambda: len(self.acknowledged) >= clients)
                yield
            finally:
                self._stop.set()
        for loop in loops:
            loop.result()

    def _upload_on_and_on(self) -> None:
        while not self._stop.is_set():
            content = os.urandom(5 * MIB + 7)
            try:
                answer = httpx.post(
                    f"{self._url}/api/upload", files={"file": ("a", content)}, timeout=30, trust_env=False
                )
            except httpx.TransportError:
                self.failed.append(content)
                # Nobody may be there for a moment; the loop ends with the test.
                self._stop.wait(0.05)
            else:
                assert answer.status_code == 201, answer.text
                self.acknowledged[answer.json()["fileId"]] = content


@contextmanager
def upload_that_is_cut_off(server: Server, content: bytes) -> Iterator[None]:
    """Inside, the upload stands in the middle of its body; somebody there must end who takes it."""
    in_the_middle, over = threading.Event(), threading.Event()

    def pause() -> None:
        in_the_middle.set()
        over.wait()

    half = len(content) // 2
    body = paused_body(content[:half], pause, content[half:])
    with ThreadPoolExecutor(1) as threads:
        upload = threads.submit(httpx.post, f"{server.url}/api/upload", content=body, headers=FORM, trust_env=False)
        try:
            assert in_the_middle.wait(PATIENCE)
            yield
        finally:
            over.set()
        assert isinstance(upload.exception(PATIENCE), httpx.TransportError)


def nothing_is_lost(server: Server, load: Load) -> None:
    assert load.acknowledged
    for file_id, content in load.acknowledged.items():
        read_back(server, file_id, content)
    for content in load.failed[:5]:
        read_back(server, server.upload(content)["fileId"], content)


@pytest.fixture
def short_transactions(databases: Databases) -> Iterator[None]:
    with databases.client() as client, transactions_end_after(client, 2):
        yield


@pytest.mark.usefixtures("short_transactions")
def test_a_worker_that_is_killed_under_load_is_replaced(start_server: StartServer) -> None:
    server = start_server(workers=2)
    before = set(server.worker_pids())
    load = Load(server.url)
    cut_off = os.urandom(40 * MIB)
    with load.running(clients=3), upload_that_is_cut_off(server, cut_off):
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(set(server.worker_pids()) - before) == 2)
        seen = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > seen)
    nothing_is_lost(server, load)
    assert "big.bin" not in {file["name"] for file in server.client.get("/api/files").json()["files"]}
    read_back(server, server.upload(cut_off)["fileId"], cut_off)
    assert server.client.get("/ready").status_code == 200
    # What the dead ones held of the memory does not count any more.
    assert metric(server, "mini_s3_buffers_bytes") == 0


def test_one_worker_of_two_carries_on_while_the_other_is_away(start_server: StartServer) -> None:
    server = start_server(workers=2)
    first, _ = server.worker_pids()
    content = os.urandom(3 * MIB)
    os.kill(first, signal.SIGKILL)
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        # A connection that the dead worker had just taken is lost with it, a new one is not.
        answer = eventually(lambda: _posted(client, content))
    read_back(server, answer.json()["fileId"], content)


def _posted(client: httpx.Client, content: bytes) -> httpx.Response | None:
    try:
        answer = client.post("/api/upload", files={"file": ("a", content)})
    except httpx.TransportError:
        return None
    assert answer.status_code == 201, answer.text
    return answer


def test_a_whole_server_that_is_killed_under_load_loses_nothing(start_server: StartServer) -> None:
    server = start_server(mongo_url="", redis_url="")
    load = Load(server.url)
    cut_off = os.urandom(40 * MIB)
    with load.running(clients=3), upload_that_is_cut_off(server, cut_off):
        server.kill()
    again = start_server(mongo_url="", redis_url="")
    listed = again.client.get("/api/files", params={"limit": 1000}).json()["files"]
    assert load.acknowledged.keys() <= {file["id"] for file in listed}
    assert "big.bin" not in {file["name"] for file in listed}
    nothing_is_lost(again, load)
    read_back(again, again.upload(cut_off)["fileId"], cut_off)
