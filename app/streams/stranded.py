"""Live chunks that must not be linked, because of the nodes that they are on.

A commit refuses a chunk that nobody holds yet if a blob of it is on a node that is being removed, and
one that is held if nodes were removed and what is left does not give it back. An upload that meets
such a chunk has its bytes: it gives up what is there, and writes the chunk anew, as it does with one
that was claimed or lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.types import Blob

_ANY_TIME = datetime.max.replace(tzinfo=UTC)


class Stranded:
    """All calls raise DatabaseUnavailable."""

    def __init__(self, chunks: Chunks, mending: Mending, cluster: Cluster) -> None:
        self._chunks = chunks
        self._mending = mending
        self._cluster = cluster

    async def among(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """Those that are live and stranded. Nodes that are not known are asked for first: they may be new."""
        live = [chunk for chunk in chunks if chunk.state == "live"]
        if not any(map(self._is_stranded, live)):
            return []
        await self._cluster.look_again()
        return [chunk for chunk in live if self._is_stranded(chunk)]

    def _is_stranded(self, chunk: Chunk) -> bool:
        if chunk.refs:
            return len(self._left(chunk)) < chunk.redundancy.needed
        return any(self._cluster.is_leaving(blob.node) for blob in chunk.blobs)

    def _left(self, chunk: Chunk) -> list[Blob]:
        return [blob for blob in chunk.blobs if not self._cluster.is_removed(blob.node)]

    async def give_up(self, chunks: Sequence[Chunk]) -> list[Blob]:
        """Let the chunks be dead if nobody holds them (rule R5), else lost, unless they changed meanwhile.
        Returns the blobs that are named no more, for the caller to unlink (rule R2)."""
        claimed = await self._chunks.claim([chunk.digest for chunk in chunks if not chunk.refs], _ANY_TIME)
        unnamed = [blob for chunk in claimed for blob in chunk.named]
        for chunk in chunks:
            if chunk.refs and await self._mending.lose(chunk):
                unnamed += self._left(chunk)
        return unnamed
