"""Making a copy of a chunk take the place of one of its blobs (rules R1, R2, R3).

copy named ── bytes read, verified, written, durable ── offered instead of the old blob ── old one retired
"""

from __future__ import annotations

import hashlib
from asyncio import to_thread
from collections.abc import Sequence

from app.errors import NodeError
from app.faults import pause
from app.logs import get_logger
from app.models.chunks import Chunk, Chunks
from app.models.database import Database
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.types import Blob, NodeId, new_generation

log = get_logger(__name__)


class Mover:
    """Calls raise DatabaseUnavailable; a node that fails only means that nothing is moved."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster

    async def move(self, chunk: Chunk, old: Blob, to: NodeId) -> bool:
        """Move one blob of a live chunk to a node, which may be the one that it is on.

        False where that was not possible: the chunk changed, no good copy could be read, or a node failed.
        """
        if not await self.replace(chunk, old, to, chunk.blobs):
            return False
        await self._cluster.unlink([old])
        return True

    async def replace(self, chunk: Chunk, old: Blob, to: NodeId, sources: Sequence[Blob]) -> bool:
        """As `move`, from the first of `sources` that is good; `old` is left to the caller, unnamed."""
        copy = await self._written(chunk, to, sources)
        if copy is None:
            return False
        if not await self._mending.switch(old, copy):
            await self._drop(copy)
            return False
        await pause("switched")
        return True

    async def _written(self, chunk: Chunk, to: NodeId, sources: Sequence[Blob]) -> Blob | None:
        """A copy that is named, durable, and not offered yet."""
        copy = Blob(to, chunk.digest, new_generation())
        if not await self._chunks.name_copy(chunk, copy):
            return None
        await pause("copy-named")
        if not await self._copy(chunk.size, sources, copy):
            await self._drop(copy)
            return None
        await pause("copied")
        return copy

    async def add(self, chunk: Chunk, to: NodeId) -> bool:
        """Make one more copy of a live chunk, on a node that has none. False as for `move`."""
        copy = await self._written(chunk, to, chunk.blobs)
        if copy and await self._mending.offer(copy):
            return True
        if copy:
            await self._drop(copy)
        return False

    async def good(self, blob: Blob, size: int) -> memoryview | None:
        """The blob's bytes, if they are what its name says."""
        try:
            data = await self._cluster.read(blob, size)
        except NodeError:
            return None
        return data if (await to_thread(hashlib.sha256, data)).digest() == blob.digest else None

    async def _copy(self, size: int, sources: Sequence[Blob], copy: Blob) -> bool:
        for source in sources:
            data = await self.good(source, size)
            if data is not None:
                try:
                    await self._cluster.write(copy, data)
                except NodeError:
                    return False
                return True
        return False

    async def _drop(self, copy: Blob) -> None:
        await self._chunks.drop_copy(copy)
        await self._cluster.unlink([copy])
