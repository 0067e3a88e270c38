"""What fault tests share: a database that may be hurt, bodies that pause in the middle."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pymongo

from app.embedded import mongod
from app.embedded.child import Program
from tests.support import Server, eventually, running

CLIENT_PATIENCE = 8.0
"""What a client waits for an answer that is promised within five seconds."""

MIB = 1 << 20
BOUNDARY = "fault-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
GENEROUS = {"rate_api": "1000000/minute", "rate_upload": "1000000/minute", "rate_download": "1000000/minute"}


class OwnDatabase:
    """A database server of one test, which may be paused, killed and started again."""

    def __init__(self, program: Program, url: str) -> None:
        self.url = url
        self._program = program
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._stack.close()
        self._process = self._stack.enter_context(running(self._program))

    def pause(self) -> None:
        """Returns when none of its threads goes on."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        eventually(lambda: all("State:\tT" in (task / "status").read_text() for task in tasks.iterdir()))

    def go_on(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._stack.close()


@contextmanager
def own_mongod(directory: Path) -> Iterator[OwnDatabase]:
    data = directory / "mongo"
    data.mkdir()
    with tempfile.TemporaryDirectory(prefix="ms3-") as sockets:
        program = mongod.program(mongod.find_binary(), data, Path(sockets), directory / "mongo.log")
        test_commands = ("--setParameter", "enableTestCommands=1")
        database = OwnDatabase(
            Program(
                program.name,
                (*program.command, *test_commands),
                program.ready,
                cwd=program.cwd,
                log=program.log,
            ),
            mongod.url(Path(sockets)),
        )
        try:
            database.start()
            with pymongo.MongoClient[dict[str, Any]](database.url) as client:
                members = [{"_id": 0, "host": mongod.INITIATE}]
                client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                eventually(lambda: client.admin.command("hello")["isWritablePrimary"])
            yield database
        finally:
            database.close()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


def form_head(name: str = "big.bin") -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def paused_body(before: bytes, act: Callable[[], object], after: bytes, name: str = "big.bin") -> Iterator[bytes]:
    """A form whose body stops in the middle while `act` is done."""
    yield form_head(name)
    for at in range(0, len(before), 256 << 10):
        yield before[at : at + (256 << 10)]
    act()
    for at in range(0, len(after), 256 << 10):
        yield after[at : at + (256 << 10)]
    yield FORM_TAIL


def metric(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    text = server.client.get("/metrics").text
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))


def read_back(server: Server, file_id: str, content: bytes) -> None:
    answer = server.client.get(f"/api/files/{file_id}")
    assert answer.status_code == 200, answer.text
    assert answer.content == content


@contextmanager
def transactions_end_after(client: pymongo.MongoClient[dict[str, Any]], seconds: int) -> Iterator[None]:
    """The server ends the transaction of a client that died sooner than after its default of a minute."""
    name = "transactionLifetimeLimitSeconds"
    before = client.admin.command({"getParameter": 1, name: 1})[name]
    client.admin.command({"setParameter": 1, name: seconds})
    try:
        yield
    finally:
        client.admin.command({"setParameter": 1, name: before})
