"""Bytes that are appended to an upload session as they come, so that little is lost by a crash.

They are cut into parts of some tens of MiB, or of what comes within some seconds, between two chunks if that does not
take too long. While a part is committed the next one is received already. Whoever begins to append
takes over: the parts of the one before are refused from then on (see `sessions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from app.models.sessions import Part, PartSums, UploadSession, Writer
from app.streams.chunker import room_at
from app.streams.ingest import Ingest, Stages

_PART = 32 << 20
"""Bytes after which a part is committed."""

_SOON, _AT_LAST = 5.0, 30.0
"""Seconds after which a part is committed: between two chunks, and anywhere."""

Then = Callable[[Part], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Turn:
    """Who appends to which session, and from which offset on. With `whole` all of it becomes one part, in the end."""

    session: UploadSession
    writer: Writer
    offset: int
    whole: bool = False


class Appender:
    """Write the bytes, and `finish`. Calls raise NoSuchUpload, OffsetMismatch and what `Ingest` raises; then what was
    committed before stays."""

    def __init__(self, stages: Stages, turn: Turn, then: Then) -> None:
        """`then` is called after each commit."""
        self._stages = stages
        self._turn = turn
        self._then = then
        self._offset = turn.offset
        self._since = monotonic()
        self._size = 0
        self._ingest: Ingest | None = None
        self._committing: asyncio.Task[None] | None = None

    async def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            taken = self._until_cut(len(rest))
            await self._take(rest[:taken])
            rest = rest[taken:]
            if self._may_cut():
                await self._end_part()

    async def finish(self) -> None:
        """Commit what was written; it is durable when this returns."""
        await self._end_part()
        await self._settle()

    async def close(self) -> None:
        """Give up what is not on its way to be committed. Never raises."""
        if self._committing:
            await asyncio.gather(self._committing, return_exceptions=True)
        if self._ingest:
            await self._ingest.abort()

    def _until_cut(self, size: int) -> int:
        """How many of these bytes go into the part before it may be looked at whether it ends."""
        if self._turn.whole:
            return size
        due = self._size >= _PART or monotonic() - self._since > _SOON
        return min(size, room_at(self._offset + self._size)) if due else min(size, _PART - self._size)

    def _may_cut(self) -> bool:
        if self._turn.whole:
            return False
        age = monotonic() - self._since
        between = room_at(self._offset + self._size) == room_at(0)
        return age > _AT_LAST or (between and (self._size >= _PART or age > _SOON))

    async def _take(self, data: memoryview) -> None:
        if self._ingest is None:
            self._ingest = Ingest(self._stages, self._turn.session.owner)
            await self._ingest.begin_file(self._turn.session.entry.key, "", self._offset)
        self._size += len(data)
        await self._ingest.write(data)

    async def _end_part(self) -> None:
        """Send the part on its way, when the one before is committed."""
        await self._settle()
        if self._ingest:
            self._committing = asyncio.create_task(self._commit(self._ingest, self._offset))
            self._ingest = None
        self._offset += self._size
        self._size, self._since = 0, monotonic()

    async def _settle(self) -> None:
        if self._committing:
            await asyncio.shield(self._committing)
            self._committing = None

    async def _commit(self, ingest: Ingest, offset: int) -> None:
        turn = self._turn
        try:
            await ingest.end_file()
            part = await ingest.commit_part(turn.session, offset + 1, PartSums(""), turn.writer)
        except BaseException:
            await ingest.abort()
            raise
        await self._then(part)


@asynccontextmanager
async def open_appender(stages: Stages, turn: Turn, then: Then) -> AsyncIterator[Appender]:
    """What is not finished when it is left is given up."""
    appender = Appender(stages, turn, then)
    try:
        yield appender
    finally:
        await asyncio.shield(asyncio.ensure_future(appender.close()))
