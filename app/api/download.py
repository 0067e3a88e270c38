"""GET and HEAD of a file's bytes: conditions, ranges, and a body of which every byte was verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.callers import caller_of
from app.errors import MiniS3Error, PreconditionFailed
from app.http.conditions import Verdict, check, range_applies
from app.http.disposition import attachment
from app.http.ranges import ByteRange, ByterangesBody, parse_ranges
from app.logs import get_logger
from app.store.store import Store
from app.types import File

log = get_logger(__name__)

Parts = Sequence[tuple[bytes, ByteRange]]
"""What is sent: each range of the file, behind some bytes of framing."""


class Download:
    def __init__(self, store: Store) -> None:
        self._store = store

    def _seen(self, request: Request) -> Store:
        return self._store.seen_by(caller_of(request))

    async def by_id(self, request: Request) -> Response:
        return await self._answer(request, await self._seen(request).file(request.path_params["id"]))

    async def by_content(self, request: Request) -> Response:
        return await self._answer(request, await self._seen(request).content(request.path_params["id"]))

    async def _answer(self, request: Request, file: File) -> Response:
        etag = f'"{file.content_id}"'
        headers = {
            "ETag": etag,
            "Last-Modified": format_datetime(file.created_at, usegmt=True),
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
        }
        verdict = check(request.headers, etag=etag, modified=file.created_at)
        if verdict is Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=headers)
        if verdict is Verdict.FAILED:
            raise PreconditionFailed("The file is not in the state that the request asks for.")
        headers["Content-Disposition"] = attachment(file.name)
        ranges = None
        if request.method == "GET" and range_applies(
            request.headers.get("if-range"), etag=etag, modified=file.created_at
        ):
            ranges = parse_ranges(request.headers.get("range"), file.size)
        status, parts, closing = self._framed(file, ranges, headers)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        body = _Body(self._store, file, parts, closing)
        whole = await body.open(int(headers["Content-Length"]))
        return Verified(status, headers, body) if whole is None else Response(whole, status, headers)

    @staticmethod
    def _framed(file: File, ranges: Sequence[ByteRange] | None, headers: dict[str, str]) -> tuple[int, Parts, bytes]:
        """The status, what is sent, and the closing bytes; headers that depend on them are added."""
        headers["Content-Type"] = file.content_type
        if ranges is None:
            headers["Content-Length"] = str(file.size)
            return 200, [(b"", ByteRange(0, file.size))], b""
        if len(ranges) == 1:
            headers["Content-Length"] = str(ranges[0].size)
            headers["Content-Range"] = ranges[0].content_range(file.size)
            return 206, [(b"", ranges[0])], b""
        framing = ByterangesBody(ranges, file.size, file.content_type)
        headers["Content-Type"] = framing.content_type
        headers["Content-Length"] = str(framing.content_length)
        return 206, list(zip(framing.heads, ranges, strict=True)), framing.closing


class _Body:
    """The pieces of the answer. The first is read before the head of the answer is sent, so that
    damage found there still gets an error document."""

    def __init__(self, store: Store, file: File, parts: Parts, closing: bytes) -> None:
        self._pieces = self._read(store, file, parts, closing)
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
    async def _read(store: Store, file: File, parts: Parts, closing: bytes) -> AsyncGenerator[bytes | memoryview, None]:
        for head, part in parts:
            async with aclosing(store.read(file, part.start, part.stop)) as pieces:
                async for piece in pieces:
                    if head:
                        yield head
                        head = b""  # noqa: PLW2901 - it goes before the first piece only
                    yield piece
        if closing:
            yield closing


class Verified(Response):
    """Streams a body; broken off when bytes are missing, so that it can't look complete."""

    def __init__(self, status: int, headers: dict[str, str], body: _Body) -> None:
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
