"""Emptying a node, so that it can be taken out of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.chunks import Chunk, Chunks
from app.models.database import Database
from app.models.tallies import NodeTally, Tallies
from app.nodes.cluster import Cluster
from app.types import NodeId
from app.upkeep.mover import Mover
from app.upkeep.pace import Progress

log = get_logger(__name__)

_AT_ONCE = 8
"""Blobs that are moved at a time."""


@dataclass(slots=True)
class Drained:
    """Blobs that were moved, their bytes, and chunks that could not be moved off the node."""

    blobs: int = 0
    bytes: int = 0
    left: int = 0


class Drain:
    """Calls raise DatabaseUnavailable. What was moved is moved: one that is broken off goes on where it was."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._chunks = Chunks(database)
        self._tallies = Tallies(database)
        self._cluster = cluster
        self._mover = Mover(database, cluster)

    async def run(self, node: NodeId, progress: Progress) -> Drained:
        """Move all blobs of live chunks from a node that gets no new ones to others.

        Chunks that are being written or removed are left to those who do that; run it again.
        """
        done = Drained()
        held = (await self._tallies.read()).nodes.get(node, NodeTally())
        progress.stage(f"drain {node}", held.chunks)
        before = -1
        while done.blobs > before:
            before, done.left = done.blobs, 0
            async for chunks in self._chunks.on_node(node):
                for at in range(0, len(chunks), _AT_ONCE):
                    await self._move_all(chunks[at : at + _AT_ONCE], node, done)
                    progress.advance(_AT_ONCE)
        return done

    async def _move_all(self, chunks: Sequence[Chunk], node: NodeId, done: Drained) -> None:
        moved = await asyncio.gather(*(self._move(chunk, node) for chunk in chunks))
        sizes = [chunk.size for chunk, gone in zip(chunks, moved, strict=True) if gone]
        done.blobs += len(sizes)
        done.bytes += sum(sizes)
        done.left += len(chunks) - len(sizes)

    async def _move(self, chunk: Chunk, node: NodeId) -> bool:
        """Whether the node's blob of the chunk is elsewhere now."""
        old = next((blob for blob in chunk.blobs if blob.node == node), None)
        if old is None or chunk.state != "live":
            return False
        try:
            (to,) = self._cluster.place(beside=[blob.node for blob in chunk.blobs])
        except (NodesUnavailable, NoSpace) as error:
            log.warning("not moved", chunk=chunk.digest.hex(), error=error.message)
            return False
        return await self._mover.move(chunk, old, to)
