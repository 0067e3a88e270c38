"""A download, from the file's pages to verified bytes.

Chunks are read in groups: the documents of a group are looked up in one query, its blobs are read at
the same time, and hashed in one call, before any of its bytes leave. While one group is being sent the
next is read ahead, as far as the memory for that, which all downloads share, allows. The first group
is small, so that the answer begins soon; each further one has twice as many chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from app.errors import Damaged, NodesUnavailable
from app.logs import get_logger
from app.metrics import DAMAGE
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.pages import Pages
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader, Suspect, unheard
from app.types import Blob, ChunkRef, File, Page, PageRef

log = get_logger(__name__)

_FIRST, _GROUP = 4, 16
"""Chunks read and verified together, at first and at the most: as many as there are lanes to hash them in."""

_SHARED = 64
"""Chunks that all downloads of a process may hold beyond the two that each is entitled to: one that
is being sent and one that is read ahead."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """The part of a chunk that was asked for: bytes `start` to `stop` of it."""

    ref: ChunkRef
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class PlacedChunk:
    """A chunk of a file: its number, its offset in the file, and its document if there is one."""

    index: int
    offset: int
    ref: ChunkRef
    chunk: Chunk | None


class Egress:
    def __init__(
        self, pages: Pages, chunks: Chunks, cluster: Cluster, hasher: Hasher, suspect: Suspect = unheard
    ) -> None:
        """`suspect` is told of chunks that a blob is bad of, or missing."""
        self._pages = pages
        self._chunks = chunks
        self._hasher = hasher
        self._suspect = suspect
        self._reader = ChunkReader(cluster, hasher, kept=_SHARED, suspect=suspect)
        self._spare = _SHARED

    async def read(self, file: File, start: int, stop: int) -> AsyncGenerator[memoryview, None]:
        """The file's bytes from `start` to `stop`, each piece verified.

        Raises Damaged where bytes are missing or wrong and no good copy is left, NodesUnavailable
        where none can be reached, DatabaseUnavailable. Whoever stops early closes the generator.
        """
        slices = self._slices(file, start, stop)
        size = _FIRST
        current = await self._begin(slices, size)
        upcoming: _Group | None = None
        try:
            while current:
                pieces = await current.pieces
                size = min(2 * size, _GROUP)
                upcoming = await self._begin(slices, size)
                for piece in pieces:
                    yield piece
                self._end(current)
                current, upcoming = upcoming, None
        finally:
            await self._give_up([group for group in (current, upcoming) if group])
            await slices.aclose()

    async def list_chunks(self, file: File, after: int, limit: int) -> list[PlacedChunk]:
        """Up to `limit` chunks of the file, from number `after` on. Raises Damaged where a page is missing."""
        placed: list[tuple[int, int, ChunkRef]] = []
        index = offset = 0
        for page_ref in file.pages:
            if index + page_ref.chunks > after and len(placed) < limit:
                page_index, page_offset = index, offset
                for ref in (await self._page(file, page_ref)).chunks:
                    if page_index >= after and len(placed) < limit:
                        placed.append((page_index, page_offset, ref))
                    page_index += 1
                    page_offset += ref.size
            index += page_ref.chunks
            offset += page_ref.size
        found = await self._chunks.find({ref.digest for _, _, ref in placed})
        return [PlacedChunk(number, at, ref, found.get(ref.digest)) for number, at, ref in placed]

    async def _slices(self, file: File, start: int, stop: int) -> AsyncGenerator[_Slice, None]:
        offset = 0
        for page_ref in file.pages:
            if offset + page_ref.size > start and offset < stop:
                at = offset
                for ref in (await self._page(file, page_ref)).chunks:
                    if at + ref.size > start and at < stop:
                        yield _Slice(ref, max(0, start - at), min(ref.size, stop - at))
                    at += ref.size
            offset += page_ref.size

    async def _page(self, file: File, ref: PageRef) -> Page:
        page = file.only_page or await self._pages.read(ref.id)
        if page is None:
            DAMAGE.labels("page").inc()
            log.error("damage found", kind="page", page=ref.id.hex(), file=file.id)
            raise _damaged()
        return page

    # Groups

    async def _begin(self, slices: AsyncIterator[_Slice], size: int) -> _Group | None:
        """Start to read the next group, of up to `size` chunks, or None at the end."""
        extra = min(self._spare, size - 1)
        self._spare -= extra
        group: list[_Slice] = []
        try:
            async for piece in slices:
                group.append(piece)
                if len(group) > extra:
                    break
        except BaseException:
            self._spare += extra
            raise
        if not group:
            self._spare += extra
            return None
        return _Group(asyncio.create_task(self._fetch(group)), extra)

    def _end(self, group: _Group) -> None:
        self._spare += group.extra

    async def _give_up(self, groups: Sequence[_Group]) -> None:
        """End groups whose bytes nobody wants any more, even if cancelled meanwhile."""
        try:
            await _settled([group.pieces for group in groups])
        finally:
            for group in groups:
                self._end(group)

    async def _fetch(self, group: Sequence[_Slice]) -> list[memoryview]:
        refs = {piece.ref.digest: piece.ref for piece in group}
        found = await self._chunks.find(refs)
        readings = await asyncio.gather(*(self._fetched(ref, found.get(ref.digest)) for ref in refs.values()))
        digests = await self._hasher.digests([data or b"" for data in readings])
        bodies = {}
        for ref, data, digest in zip(refs.values(), readings, digests, strict=True):
            if data is None:
                bodies[ref.digest] = await self._rescued(ref)
            elif digest == ref.digest:
                bodies[ref.digest] = data
            else:
                # Whoever looks closer may come upon a good blob first, and never meet the bad one.
                self._suspect(ref.digest)
                bodies[ref.digest] = await self._rescued(ref)
        return [bodies[piece.ref.digest][piece.start : piece.stop] for piece in group]

    async def _fetched(self, ref: ChunkRef, chunk: Chunk | None) -> memoryview | None:
        return await self._reader.fetch(chunk, ref.size) if chunk else None

    async def _rescued(self, ref: ChunkRef) -> memoryview:
        """The chunk by whichever blobs are good; its document is read afresh, for they may have moved."""
        chunk = (await self._chunks.find([ref.digest])).get(ref.digest)
        if chunk is None or chunk.state != "live" or not chunk.blobs:
            self._report(ref, "chunk", None)
            raise _damaged()
        inspection = await self._reader.inspect(chunk)
        for kind in ("wrong", "missing", "size"):
            for blob in inspection.of_kind(kind):
                self._report(ref, kind, blob)
        if inspection.data is not None:
            return inspection.data
        if inspection.of_kind("unreachable"):
            raise NodesUnavailable("The storage node that holds this file does not answer.")
        raise _damaged()

    def _report(self, ref: ChunkRef, kind: str, blob: Blob | None) -> None:
        self._suspect(ref.digest)
        DAMAGE.labels(kind).inc()
        log.error(
            "damage found",
            kind=kind,
            chunk=ref.digest.hex(),
            node=blob.node if blob else None,
            blob=blob.name if blob else None,
        )


@dataclass(frozen=True, slots=True)
class _Group:
    pieces: asyncio.Task[list[memoryview]]
    extra: int


async def _settled(tasks: Sequence[asyncio.Task[list[memoryview]]]) -> None:
    """Cancel the tasks and wait until they have ended, however."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _damaged() -> Damaged:
    return Damaged("Stored bytes of this file are missing or wrong. The administrator finds details in the log.")
