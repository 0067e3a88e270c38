"""One server for all tests of the client and its commands; each uses names of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.client import Client
from tests.client.tools import Middle
from tests.e2e.helpers import KeyFor, maker_of_keys
from tests.s3.conftest import ROOT, s3_serving
from tests.support import Databases, Server


@pytest.fixture(scope="session")
def store_server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_serving(databases, tmp_path_factory.mktemp("client")) as server:
        yield server


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """What names of the test's own begin with."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12] + "/"


@pytest.fixture
async def client(store_server: Server, tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(store_server.url, ROOT, cache=tmp_path / "cache" / "files.sqlite") as opened:
        yield opened


@pytest.fixture
async def middle(store_server: Server) -> AsyncIterator[Middle]:
    async with Middle(store_server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def key_for(store_server: Server) -> KeyFor:
    return maker_of_keys(store_server)
