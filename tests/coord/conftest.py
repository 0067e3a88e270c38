"""Fixtures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coord.tools import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="ms3-") as directory:
        server = RedisServer(Path(directory))
        with server.running():
            yield server
