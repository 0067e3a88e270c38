"""A server with an S3 API, and clients of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.response import StreamingBody

from tests.e2e.helpers import KeyFor, maker_of_keys
from tests.support import Databases, Server

ROOT = ("root-key", "root-secret-0123")


@contextmanager
def s3_serving(databases: Databases, directory: Path) -> Iterator[Server]:
    """A server with an S3 API and the keys `ROOT`."""
    keys = {"root_access_key": ROOT[0], "root_secret_key": ROOT[1]}
    with databases.empty() as name:
        server = Server(directory, **databases.flags(name), **keys, s3_port=0)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def s3_server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests: each makes buckets of its own."""
    with s3_serving(databases, tmp_path_factory.mktemp("s3")) as server:
        yield server


def client_of(server: Server, keys: tuple[str, str] = ROOT, region: str = "us-east-1", **config: Any) -> Any:
    """A client of boto3; without retries, so that no error is hidden. It reads bodies at once: one that nobody reads
    would keep its connection, and whoever collects the garbage later would be blamed for that."""
    made = boto3.client(
        "s3",
        endpoint_url=server.s3_url,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name=region,
        config=Config(**{"signature_version": "s3v4", "retries": {"total_max_attempts": 1}} | config),
    )
    made.meta.events.register("after-call.s3", _read_body)
    return made


def _read_body(parsed: dict[str, Any], **_: Any) -> None:
    if isinstance(parsed.get("Body"), StreamingBody):
        content = parsed["Body"].read()
        parsed["Body"] = StreamingBody(BytesIO(content), len(content))


@pytest.fixture
def client(s3_server: Server) -> Any:
    return client_of(s3_server)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def key_for(s3_server: Server) -> KeyFor:
    return maker_of_keys(s3_server)


@pytest.fixture(scope="session")
def stranger(key_for: KeyFor) -> tuple[str, str]:
    """Keys of another account, which may do everything with what is its own."""
    return key_for("--owner", "stranger")


@pytest.fixture
def anonymous(s3_server: Server) -> Any:
    """A client without keys."""
    return client_of(s3_server, signature_version=UNSIGNED)
