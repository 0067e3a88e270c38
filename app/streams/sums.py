"""Digests of a whole body, beside those of its chunks, for S3 clients; ETags of multipart uploads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

Kind = Literal["md5", "sha1", "sha256", "sha512", "crc32", "crc32c", "crc64nvme"]

_HERE = 32 << 10
"""Bytes of a piece that is hashed on the event loop, as long as none waits: no more than it takes to ask a thread."""

_MOST = 4 << 20
"""Bytes that may wait for a thread when `update` returns."""


class _Sum(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


_HASHES: Mapping[str, Callable[[], _Sum]] = {
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}


def _new(kind: Kind) -> _Sum:
    if kind in _HASHES:
        return _HASHES[kind]()
    # A tenth of all that a worker would import, and only the S3 API has CRCs.
    from app.streams.crcs import Crc  # noqa: PLC0415

    return Crc(kind)


class Sums:
    """Digests of the pieces of one body, in their order. One call of `update` or `finish` at a time.

    Pieces go to a worker thread; those that come meanwhile wait for the next turn. A piece must keep its bytes
    until `finish` returns, or until `close` and whatever thread still reads it.
    """

    def __init__(self, kinds: Collection[Kind]) -> None:
        self._sums = {kind: _new(kind) for kind in kinds}
        self._pieces: list[bytes | memoryview] = []
        self._waiting = 0
        self._turn: asyncio.Future[int] | None = None

    async def update(self, data: bytes | memoryview) -> None:
        """Take the next piece. Waits while more than `_MOST` bytes are not hashed yet."""
        self._advance()
        if self._turn is None and len(data) <= _HERE:
            self._add([data])
            return
        self._pieces.append(data)
        self._waiting += len(data)
        self._advance()
        while self._turn is not None and self._waiting > _MOST:
            await asyncio.wait([self._turn])
            self._advance()

    async def finish(self) -> Mapping[Kind, bytes]:
        """The digests of all pieces."""
        self._advance()
        while self._turn is not None:
            await asyncio.wait([self._turn])
            self._advance()
        return {kind: running.digest() for kind, running in self._sums.items()}

    def close(self) -> None:
        """The body is given up: nothing more is hashed but what a thread is at."""
        self._pieces.clear()
        if self._turn is not None:
            self._turn.cancel()

    def _advance(self) -> None:
        """Take note of a turn that has ended, and give all pieces that wait the next one."""
        if self._turn is not None and self._turn.done():
            turn, self._turn = self._turn, None
            self._waiting -= turn.result()
        if self._turn is None and self._pieces:
            pieces, self._pieces = self._pieces, []
            self._turn = asyncio.get_running_loop().run_in_executor(None, self._add, pieces)

    def _add(self, pieces: Sequence[bytes | memoryview]) -> int:
        for piece in pieces:
            for running in self._sums.values():
                running.update(piece)
        return sum(map(len, pieces))


def composite(kind: Kind, parts: Sequence[bytes]) -> bytes:
    """The digest of the digests of all parts, in their order: a COMPOSITE checksum of the S3 API."""
    running = _new(kind)
    running.update(b"".join(parts))
    return running.digest()


def multipart_etag(parts: Sequence[bytes]) -> str:
    """The ETag of a multipart upload, with its quotes, from the MD5 digests of its parts in their order."""
    return f'"{composite("md5", parts).hex()}-{len(parts)}"'
