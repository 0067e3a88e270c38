"""Blobs that no document names: what crashed writers, movers and collectors left on the nodes.

No age is asked for. A blob is named before it is written (rule R1) and its generation never comes
back (rule R3), so one that was seen on a node, and then is not named, will never be again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from app.errors import NodeError
from app.faults import pause
from app.logs import get_logger
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.mending import Mending
from app.nodes.base import Stored
from app.nodes.cluster import Cluster
from app.types import Blob, Digest, NodeId

log = get_logger(__name__)

_BATCH = 1000


class Sweeper:
    """All calls raise DatabaseUnavailable; nodes that do not answer are passed over."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster

    async def sweep(self, first_byte: int) -> list[Stored]:
        """Remove what `unnamed` finds; return what was removed."""
        unnamed = await self.unnamed(first_byte)
        await pause("unnamed-seen")
        left = await self._cluster.unlink(stored.blob for stored in unnamed)
        return [stored for stored in unnamed if stored.blob not in left]

    async def unnamed(self, first_byte: int) -> list[Stored]:
        """Blobs, unfinished ones included, that no document names, of digests that begin with this byte.

        Not among them are those of a chunk that has lost all its named blobs: they may save it.
        """
        listed = [stored for node in self._cluster.node_ids for stored in await self._listed(node, first_byte)]
        await pause("blobs-listed")
        suspects: list[Stored] = []
        for at in range(0, len(listed), _BATCH):
            batch = listed[at : at + _BATCH]
            found = await self._chunks.find({stored.blob.digest for stored in batch})
            suspects += [stored for stored in batch if not _names(found, stored.blob)]
        if not suspects:
            return []
        present = {stored.blob for stored in listed}
        found = {}
        for at in range(0, len(suspects), _BATCH):
            found |= await self._mending.look_surely({stored.blob.digest for stored in suspects[at : at + _BATCH]})
        return [
            stored
            for stored in suspects
            if not _names(found, stored.blob) and not self._may_save(found.get(stored.blob.digest), present)
        ]

    async def _listed(self, node: NodeId, first_byte: int) -> Sequence[Stored]:
        try:
            return await self._cluster.list_blobs(node, first_byte)
        except NodeError as error:
            log.warning("node not swept", node=node, error=error.message)
            return ()

    def _may_save(self, chunk: Chunk | None, present: Set[Blob]) -> bool:
        if chunk is None or not chunk.refs or chunk.state not in ("live", "lost"):
            return False
        return sum(blob in present for blob in chunk.blobs) < chunk.redundancy.needed


def _names(found: Mapping[Digest, Chunk], blob: Blob) -> bool:
    chunk = found.get(blob.digest)
    return chunk is not None and blob in chunk.named
