"""Bytes of unknown number, which can be read once: cut, hashed, and offered a batch at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress

from app.client.link import Link
from app.client.local import cut
from app.client.results import Span, Upload
from app.client.sessions import Session, uploads_of
from app.client.tasks import in_thread, together
from app.client.uploads import Negotiation
from app.client.watch import Watch
from app.errors import ChunksMissing, MiniS3Error, UploadInterrupted
from app.streams.hasher import Hasher
from app.types import CHUNK_SIZE

BATCH = 32 * CHUNK_SIZE
"""Bytes hashed, and asked for, at once."""
_HELD = 2
"""Batches that are on their way while the next is read."""
_PIECE = 1 << 20


class _Held:
    """Chunks in memory, until they are sent."""

    def __init__(self, offset: int, memory: memoryview) -> None:
        self._offset = offset
        self._memory = memory

    async def read(self, spans: Sequence[Span]) -> AsyncIterator[memoryview]:
        for span in spans:
            yield self._memory[span.offset - self._offset : span.stop - self._offset]


class Pipe:
    """Uploads batches of bytes, as `batches` makes them."""

    def __init__(self, link: Link, hasher: Hasher, sending: asyncio.Semaphore) -> None:
        self._link = link
        self._hasher = hasher
        self._sending = sending

    async def upload(self, batches: AsyncIterable[memoryview], name: str, content_type: str, watch: Watch) -> Upload:
        """Raises MiniS3Error, UploadInterrupted where bytes are to be sent again that are gone."""
        session = await Session.begin(self._link, name, content_type, None)
        negotiation = Negotiation(session, self._sending, watch)
        spans: list[Span] = []
        places = asyncio.Semaphore(_HELD)
        try:
            async with together() as group:
                offset = 0
                async for batch in batches:
                    await places.acquire()
                    chunks = cut(batch)
                    some, held = [], _Held(offset, batch)
                    for chunk, digest in zip(chunks, await self._hasher.digests(chunks), strict=True):
                        some.append(Span(offset, len(chunk), digest))
                        offset += len(chunk)
                    watch.hashed(len(batch))
                    spans += some
                    offering = group.create_task(negotiation.offer(held, some))
                    offering.add_done_callback(lambda _: places.release())
            answer = await negotiation.complete(None, spans)
        except MiniS3Error as error:
            with suppress(MiniS3Error):
                await session.abort()
            if isinstance(error, ChunksMissing):
                raise UploadInterrupted("The server lost bytes of the upload. Send it again.") from error
            raise
        return uploads_of(answer, "chunks", [negotiation.sent])[0]


async def batches(pieces: AsyncIterable[bytes]) -> AsyncGenerator[memoryview, None]:
    """The bytes in batches of `BATCH`, the last one shorter; a first one even where there are none."""
    memory, filled, first = memoryview(bytearray(BATCH)), 0, True
    async for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = min(len(rest), BATCH - filled)
            memory[filled : filled + taken] = rest[:taken]
            rest = rest[taken:]
            filled += taken
            if filled == BATCH:
                yield memory
                memory, filled, first = memoryview(bytearray(BATCH)), 0, False
    if filled or first:
        yield memory[:filled]


async def pieces_of(descriptor: int) -> AsyncGenerator[bytes, None]:
    """What is read from there: a pipe, a terminal, or a file. No thread waits in a read, which nothing would end."""
    while piece := await _read(descriptor):
        yield piece


async def _read(descriptor: int) -> bytes:
    """The next bytes, none at the end."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def note() -> None:
        if not readable.done():
            readable.set_result(None)

    try:
        # For this one read alone: a word that came late would have the next one wait, and everything with it.
        loop.add_reader(descriptor, note)
    except PermissionError:  # A file, or /dev/null, which nobody has to wait for.
        return await in_thread(os.read, descriptor, _PIECE)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _PIECE)
