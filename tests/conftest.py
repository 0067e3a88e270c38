"""Fixtures. Databases are real ones, started once, in temporary folders and on sockets."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.api.app import Parts
from app.embedded import mongod, redis_server
from app.models.database import Database, open_database
from app.models.meta import prepare
from app.server import open_parts
from tests import s3_engine
from tests.support import Databases, Server, eventually, running

MOST_DISK = 4 << 30
"""Bytes that a run of all tests has on disk at the most, and some to spare."""

MEMORY = Path("/dev/shm")

LONG = ("tests/properties/", "tests/interleavings/", "tests/faults/")
"""Where tests are that take long."""

shared: dict[str, subprocess.Popen[bytes]] = {}
"""The databases of all tests, by what they are."""


def pytest_sessionstart() -> None:
    where = tempfile.gettempdir()
    if shutil.disk_usage(where).free < MOST_DISK:
        pytest.exit(f"The tests need {MOST_DISK >> 30} GiB in {where}. Make room, or set TMPDIR.", returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process begins with its share of the tests that take long, so that none of them is left for the end."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.nodeid.startswith(LONG)]
    short = [item for item in items if not item.nodeid.startswith(LONG)]
    bounds = [len(short) * number // processes for number in range(processes + 1)]
    shares = [long[number::processes] + short[bounds[number] : bounds[number + 1]] for number in range(processes)]
    items[:] = [item for share in shares for item in share]


def pytest_runtest_setup() -> None:
    """Without its databases each test would wait, and fail, for itself."""
    for name, process in shared.items():
        if process.poll() is not None:
            pytest.exit(f"The {name} of the tests has ended with code {process.returncode}.", returncode=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A short directory: paths of sockets are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ms3-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def shared_data(sockets: Path) -> Iterator[Path]:
    """Where the databases of all tests keep what none of these looks for on a disk: in memory, where there
    is enough, for they sync after each write, and most tests would wait for that most of the time."""
    room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MOST_DISK
    with tempfile.TemporaryDirectory(prefix="ms3-", dir=MEMORY if room else sockets) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def mongo_url(sockets: Path, shared_data: Path) -> Iterator[str]:
    data = shared_data / "mongo"
    data.mkdir()
    with running(mongod.program(mongod.find_binary(), data, sockets, data / "log")) as shared["mongod"]:
        url = mongod.url(sockets)
        with pymongo.MongoClient(url) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": mongod.INITIATE}]})
            eventually(lambda: client.admin.command("hello")["isWritablePrimary"])
        yield url


@pytest.fixture(scope="session")
def redis_url(sockets: Path, shared_data: Path) -> Iterator[str]:
    data = shared_data / "redis"
    data.mkdir()
    binary = redis_server.find_binary()
    assert binary is not None
    with running(redis_server.program(binary, data, sockets, data / "log")) as shared["Redis"]:
        yield redis_server.url(sockets)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_engine.Engine]:
    with s3_engine.seaweed(tmp_path_factory.mktemp("seaweed")) as engine:
        yield engine


@pytest.fixture
def s3(seaweed: s3_engine.Engine, monkeypatch: pytest.MonkeyPatch) -> s3_engine.Engine:
    """The S3 engine of all tests, and its keys in the environment. A test takes a prefix of its own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (s3_engine.KEYS | {"NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    return seaweed


@pytest.fixture(scope="session")
def databases(mongo_url: str, redis_url: str) -> Iterator[Databases]:
    with closing(Databases(mongo_url, redis_url)) as databases:
        yield databases


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    """An empty, prepared database."""
    with databases.empty() as name:
        async with open_database(databases.mongo_url, name) as opened:
            await prepare(opened)
            yield opened


OpenStore = Callable[..., AbstractAsyncContextManager[Parts]]


@pytest.fixture
def open_store(databases: Databases, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the store of this test in this process, as often as wanted; settings by name."""
    with databases.empty() as name:

        @asynccontextmanager
        async def opened(**settings: Any) -> AsyncIterator[Parts]:
            async with open_parts(databases.assignment(name, tmp_path / "data", **settings)) as parts:
                yield parts.api

        yield opened


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(databases: Databases, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers on the shared databases; what still runs in the end is stopped."""
    with databases.empty() as name, ExitStack() as stack:

        def start(**settings: Any) -> Server:
            server = Server(tmp_path, **(databases.flags(name) | settings))
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module that neither hurt it nor mind what others stored."""
    with databases.empty() as name:
        running_server = Server(tmp_path_factory.mktemp("server"), **databases.flags(name))
        try:
            yield running_server
        finally:
            running_server.stop()
