"""A Redis that tests may hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from app.embedded import redis_server
from tests.support import PATIENCE, running


class RedisServer:
    """A Redis of the test's own, which it may hurt."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = redis_server.url(directory)
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        binary = redis_server.find_binary()
        assert binary is not None
        with running(
            redis_server.program(binary, self._directory, self._directory, self._directory / "log")
        ) as process:
            self._process = process
            yield

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number is signal.SIGKILL:
            self._process.wait(PATIENCE)

    def keys(self) -> list[Any]:
        with Redis.from_url(self.url) as client:
            return list(client.scan_iter())

    def flush(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
    return value
