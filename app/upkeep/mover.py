"""Putting new blobs of a chunk in the place of others (rules R1, R2, R3).

bytes read, verified ── new blobs named ── written, durable ── offered instead of the old ones ── those retired
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.faults import pause
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader
from app.streams.splitter import Part, Splitter
from app.types import Blob, NodeId, Redundancy, new_generation


class Mover:
    """Calls raise DatabaseUnavailable; a node that fails only means that nothing is moved.

    They are False where nothing was changed: the chunk did meanwhile, it can't be read, or a node failed.
    """

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster
        self._reader = ChunkReader(cluster, hasher)
        self._splitter = Splitter(hasher)

    async def move(self, chunk: Chunk, old: Blob, to: NodeId) -> bool:
        """Move one blob of a live chunk to a node, which may be the one that it is on."""
        return await self.recast(chunk, [old], [to])

    async def add(self, chunk: Chunk, to: Sequence[NodeId]) -> bool:
        """Make blobs that a live chunk lacks, on nodes that have none."""
        return await self.replace(chunk, (), to)

    async def recast(
        self, chunk: Chunk, drop: Collection[Blob], to: Sequence[NodeId], redundancy: Redundancy | None = None
    ) -> bool:
        """As `replace`; what was dropped is unlinked."""
        if not await self.replace(chunk, drop, to, redundancy):
            return False
        await self._cluster.unlink(drop)
        return True

    async def replace(
        self,
        chunk: Chunk,
        drop: Collection[Blob],
        to: Sequence[NodeId],
        redundancy: Redundancy | None = None,
        data: memoryview | None = None,
    ) -> bool:
        """Offer new blobs of a live chunk, one on each of the nodes `to`, instead of some, which are left to the
        caller, unnamed. Where the redundancy becomes another one, all shards are to be dropped; copies may stay
        if others are added to them. `data` are the chunk's bytes where they were read and verified already."""
        if data is None:
            data = (await self._reader.inspect(chunk)).data
        if data is None:
            return False
        redundancy = redundancy or chunk.redundancy
        parts = (await self._splitter.split({chunk.digest: data}, redundancy))[chunk.digest]
        writes = [
            (Blob(node, chunk.digest, new_generation(), part.shard), part.body)
            for node, part in zip(to, _left(parts, chunk, drop), strict=False)
        ]
        added = [blob for blob, _ in writes]
        if not added or not await self._chunks.name_added(chunk, added):
            return False
        await pause("copy-named")
        failed = await self._cluster.write_all(writes)
        await pause("copied")
        if not failed and await self._mending.switch(chunk, drop, added, redundancy.for_size(chunk.size)):
            await pause("switched")
            return True
        await self._chunks.drop_added(added)
        await self._cluster.unlink(added)
        return False


def _left(parts: Sequence[Part], chunk: Chunk, drop: Collection[Blob]) -> list[Part]:
    """The parts that no blob holds which is kept."""
    kept = {blob.part for blob in chunk.blobs if blob.part and blob not in drop}
    return [part for part in parts if part.shard not in kept or part.shard is None]
