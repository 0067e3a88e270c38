"""A server with an S3 API for clients that nobody here wrote, and how they are run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.tools import MIB, Stock
from tests.s3.conftest import client_of, s3_serving
from tests.support import Databases, Server


@pytest.fixture(scope="session")
def s3_server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests: each makes a bucket of its own."""
    with s3_serving(databases, tmp_path_factory.mktemp("clients")) as server:
        yield server


@pytest.fixture
def stock(s3_server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stock]:
    """Runs clients in a home of their own, with a bucket of the test's own."""
    bucket = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    client_of(s3_server).create_bucket(Bucket=bucket)
    clients = Stock(s3_server, bucket, tmp_path)
    yield clients
    clients.end()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of files: empty, small, large enough for an upload in parts, with names that have to be quoted."""
    rng = random.Random(1)
    names = [
        "empty",
        "a file+with %41 & ü",
        "deep/er/down",
        "deep/er.txt",
        "deep/~x='1'",
        *(f"many/{n}" for n in range(20)),
    ]
    sizes = [0, *(rng.randrange(1, 40_000) for _ in names[1:])]
    for name, size in [*zip(names, sizes, strict=True), ("large", 9 * MIB + 1)]:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
    return tmp_path / "tree"
