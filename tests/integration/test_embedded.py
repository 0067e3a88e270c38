"""The real mongod and Redis under a real parent process, which is stopped, killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pymongo
import pytest
from pymongo.errors import PyMongoError

from app.embedded import mongod, redis_server
from app.embedded.data_dir import RunState, running
from app.embedded.process import ProcessId, identify
from app.errors import ConfigError

ROOT = Path(__file__).parents[2]

HOST = """
import asyncio, json, pathlib, signal, sys
from app.embedded.services import EmbeddedServices
from app.errors import ConfigError
from app.settings import Settings

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with EmbeddedServices(Settings(data_dir=sys.argv[1])) as services:
        print("READY", flush=True)
        await asyncio.Event().wait()

try:
    asyncio.run(main())
except asyncio.CancelledError:
    print("STOPPED", flush=True)
except ConfigError as error:
    print("ERROR", error.message, flush=True)
"""


def _found() -> bool:
    try:
        return bool(mongod.find_binary() and redis_server.find_binary())
    except ConfigError:
        return False


pytestmark = pytest.mark.skipif(not _found(), reason="needs mongod and Redis: the extra `embedded`")


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def gone(processes: list[ProcessId]) -> bool:
    return all(identify(process.pid) != process for process in processes)


class Host:
    """A parent process on a data directory."""

    def __init__(self, data: Path, temporary: Path, output: Path) -> None:
        self.data, self._output = data, output
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
        environment |= {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                (sys.executable, "-c", HOST, str(data)), cwd=ROOT, env=environment, stdout=file, stderr=file
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def state(self) -> RunState:
        state = running(self.data)
        assert state
        return state

    @property
    def children(self) -> list[ProcessId]:
        return list(self.state.children.values())

    def says(self, word: str) -> None:
        until(lambda: word in self.output or self.process.poll() is not None)
        assert word in self.output, self.output

    def ready(self) -> Host:
        self.says("READY")
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        children, runtime_dir = self.children, self.state.runtime_dir
        self.process.terminate()
        self.says("STOPPED")
        assert self.process.wait() == 0
        assert gone(children)
        assert not runtime_dir.exists()
        assert running(self.data) is None


class Place:
    """Where hosts are started; whatever a failing test leaves running is ended."""

    def __init__(self, folder: Path) -> None:
        self.data, self.temporary = folder / "data", folder / "t"
        self.temporary.mkdir()
        self._folder = folder
        self._hosts: list[Host] = []

    def host(self) -> Host:
        self._hosts.append(Host(self.data, self.temporary, self._folder / f"output{len(self._hosts)}"))
        return self._hosts[-1]

    def end(self) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                for child in json.loads((self.data / "run.json").read_text())["children"].values():
                    if identify(child["pid"]) == ProcessId(child["pid"], child["born"]):
                        os.kill(child["pid"], signal.SIGKILL)
        finally:
            for host in self._hosts:
                host.kill()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        yield place
        assert list(place.temporary.iterdir()) == []
    finally:
        place.end()


@contextlib.contextmanager
def database(state: RunState) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](state.mongo_url, serverSelectionTimeoutMS=20_000) as client:
        yield client


def initiate(state: RunState) -> None:
    with database(state) as client:
        member = {"_id": 0, "host": mongod.INITIATE}
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
        until(lambda: client.admin.command("hello")["isWritablePrimary"])


def store(state: RunState, value: int) -> None:
    """In a transaction, as only a primary of a set takes it."""
    with database(state) as client:
        until(lambda: client.admin.command("hello")["isWritablePrimary"])
        with client.start_session() as session, session.start_transaction():
            client.test.values.insert_one({"_id": value}, session=session)


def stored(state: RunState) -> list[int]:
    with database(state) as client:
        until(lambda: client.admin.command("hello")["isWritablePrimary"])
        return [document["_id"] for document in client.test.values.find().sort("_id")]


def redis(state: RunState, *words: str) -> bytes:
    command = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(unquote(state.redis_url.removeprefix("unix://")))
        connection.sendall(f"*{len(words)}\r\n{command}".encode())
        return connection.recv(1000)


def test_data_stay_over_an_orderly_restart(place: Place) -> None:
    host = place.host().ready()
    first = host.state
    assert host.process.pid == first.server.pid
    initiate(first)
    store(first, 1)
    assert redis(first, "SET", "a", "1") == b"+OK\r\n"
    host.stop()

    host = place.host().ready()
    assert host.state.runtime_dir != first.runtime_dir, "the set must not depend on where its socket is"
    store(host.state, 2)
    assert stored(host.state) == [1, 2]
    assert redis(host.state, "GET", "a") == b"$1\r\n1\r\n"
    host.stop()


def test_nobody_else_reaches_the_databases(place: Place) -> None:
    host = place.host().ready()
    runtime_dir = host.state.runtime_dir
    assert runtime_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in runtime_dir.iterdir()} == {0}
    folders = [Path(f"/proc/{child.pid}/fd") for child in host.children]
    inodes = {str(entry.readlink()) for folder in folders for entry in folder.iterdir()}
    assert any(inode.startswith("socket:") for inode in inodes)
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in inodes
    host.stop()


def test_after_kill_9_of_the_parent_no_child_stays_and_the_next_start_finds_the_data(place: Place) -> None:
    host = place.host().ready()
    initiate(host.state)
    store(host.state, 1)
    children, runtime_dir = host.children, host.state.runtime_dir
    assert len(children) == 2
    host.kill()
    assert running(place.data) is None
    until(lambda: gone(children))

    host = place.host().ready()
    assert not runtime_dir.exists()
    assert stored(host.state) == [1]
    host.stop()


def test_the_next_start_waits_for_a_child_that_is_still_running(place: Place) -> None:
    host = place.host().ready()
    initiate(host.state)
    store(host.state, 1)
    old = host.state.children["mongod"]
    os.kill(old.pid, signal.SIGSTOP)
    host.kill()

    host = place.host()
    host.says("ending a child of a killed server")
    assert identify(old.pid) == old
    assert "READY" not in host.output
    os.kill(old.pid, signal.SIGCONT)
    host.ready()
    assert identify(old.pid) != old
    assert stored(host.state) == [1]
    host.stop()


def test_a_killed_database_comes_back_with_its_data(place: Place) -> None:
    host = place.host().ready()
    initiate(host.state)
    store(host.state, 1)
    assert redis(host.state, "PING") == b"+PONG\r\n"
    before = host.state.children
    for child in before.values():
        os.kill(child.pid, signal.SIGKILL)

    def back() -> bool:
        try:
            return stored(host.state) == [1] and redis(host.state, "PING") == b"+PONG\r\n"
        except (OSError, PyMongoError):
            return False

    until(lambda: set(host.children).isdisjoint(before.values()))
    until(back)
    host.stop()


def test_two_parents_on_one_data_directory(place: Place) -> None:
    first = place.host().ready()
    second = place.host()
    second.says(f"ERROR another Mini-S3 (process {first.process.pid}) is running on {place.data}.")
    assert redis(first.state, "PING") == b"+PONG\r\n"
    first.stop()


def test_a_parent_that_is_told_to_stop_while_it_starts_leaves_nothing(place: Place) -> None:
    host = place.host()
    until(lambda: (state := running(place.data)) and "mongod" in state.children)
    host.stop()


def test_damaged_data_are_told_with_mongods_own_reason(place: Place) -> None:
    (place.data / "mongo").mkdir(parents=True)
    (place.data / "mongo" / "storage.bson").write_bytes(b"not BSON")
    host = place.host()
    host.says("ERROR mongod did not start")
    assert str(place.data / "mongod.log") in host.output
    assert '"s":"I"' not in host.output
