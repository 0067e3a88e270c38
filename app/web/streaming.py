"""Answers that are streamed, and never look complete when they are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import MiniS3Error
from app.http.ranges import ByteRange
from app.logs import get_logger

log = get_logger(__name__)

Parts = Sequence[tuple[bytes, ByteRange]]
"""What is sent: each range of the file, behind some bytes of framing."""

Read = Callable[[ByteRange], AsyncGenerator[memoryview, None]]
"""Reads the bytes of a range."""


async def streamed(pieces: Pieces, status: int, headers: dict[str, str]) -> Response:
    """The answer; `headers` tell its Content-Length."""
    whole = await pieces.open(int(headers["Content-Length"]))
    return Verified(status, headers, pieces) if whole is None else Response(whole, status, headers)


class Pieces:
    """The pieces of an answer's body, read by `read`: `parts`, then some closing bytes. The first piece is read before
    the head of the answer is sent, so that damage found there still gets an error document."""

    def __init__(self, read: Read, parts: Parts, closing: bytes = b"") -> None:
        self._pieces = self._read(read, parts, closing)
        self._first: bytes | memoryview | None = None

    async def open(self, size: int) -> bytes | memoryview | None:
        """Read the first piece. Return it if it is all of the `size` bytes, and nothing went wrong behind it."""
        self._first = first = await anext(self._pieces, None)
        if first is None or len(first) < size:
            return None
        self._first = None
        await anext(self._pieces, None)
        return first

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        async with aclosing(self._pieces):
            if self._first is not None:
                yield self._first
                self._first = None
            async for piece in self._pieces:
                yield piece

    @staticmethod
    async def _read(read: Read, parts: Parts, closing: bytes) -> AsyncGenerator[bytes | memoryview, None]:
        for head, part in parts:
            async with aclosing(read(part)) as pieces:
                async for piece in pieces:
                    if head:
                        yield head
                        head = b""  # noqa: PLW2901 - it goes before the first piece only
                    yield piece
        if closing:
            yield closing


class Verified(Response):
    """Streams a body; broken off when bytes are missing, so that it can't look complete."""

    def __init__(self, status: int, headers: dict[str, str], body: Pieces) -> None:
        super().__init__(status_code=status, headers=headers)
        self._pieces = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        gone = asyncio.create_task(_disconnected(receive))
        try:
            async with aclosing(self._pieces.pieces()) as pieces:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for piece in pieces:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body"})
        except MiniS3Error as error:
            # Leaving the answer unfinished makes the server close the connection.
            log.error("download broken off", code=error.code, error=error.message)
        finally:
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
