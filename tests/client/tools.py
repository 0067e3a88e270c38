"""What tests of the client share."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from app.client import Watch
from app.types import CHUNK_SIZE

MIB = 1 << 20

Heard = Callable[[bytes], bytes | None]
"""What becomes of bytes of an answer; None ends the connection in their place."""


class Middle:
    """Stands between a client and a server of this machine, and tampers with what the server says."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self.heard: Heard = bytes
        self._carried: list[asyncio.Task[None]] = []
        self.sent = 0
        self.requests: list[str] = []
        """The first lines of the requests that began a piece, as nearly all do."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carried.append(cast("asyncio.Task[None]", asyncio.current_task()))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(self._ask(reader, there_writer), self._answer(there_reader, writer))
        finally:
            for one in (writer, there_writer):
                one.close()
                with suppress(OSError):
                    await one.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            line = piece.partition(b"\r\n")[0]
            if line.endswith(b" HTTP/1.1"):
                self.requests.append(line.decode().removesuffix(" HTTP/1.1"))
            self.sent += len(piece)
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            passed = self.heard(piece)
            if passed is None:
                break
            writer.write(passed)
            await writer.drain()
        writer.close()


class Counting(Watch):
    """Adds up what it hears."""

    def __init__(self) -> None:
        self.totals = {"hashed": 0, "moved": 0, "spared": 0}

    def hashed(self, size: int) -> None:
        self.totals["hashed"] += size

    def moved(self, size: int) -> None:
        self.totals["moved"] += size

    def spared(self, size: int) -> None:
        self.totals["spared"] += size


def written(path: Path, content: bytes, *, age: float = 60) -> Path:
    """A file that was written to last so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    aged(path, age)
    return path


def aged(path: Path, age: float = 60) -> None:
    then = time.time_ns() - int(age * 1e9)
    os.utime(path, ns=(then, then))


def digests_of(content: bytes) -> list[bytes]:
    return [hashlib.sha256(content[at : at + CHUNK_SIZE]).digest() for at in range(0, len(content), CHUNK_SIZE)]
