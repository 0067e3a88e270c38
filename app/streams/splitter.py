"""From a chunk to the bodies of its blobs: copies of it, or shards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.nodes import erasure
from app.streams.buffers import Loans
from app.streams.hasher import Hasher
from app.types import Digest, Redundancy, Shard

_KEPT = 64
"""Chunks whose parities are kept memory for. They are lent for as long as they are written."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one blob holds: the whole chunk, or the shard that `shard` names."""

    body: bytes | memoryview
    shard: Shard | None = None


class Splitter:
    """One for each process: it keeps memory that is used again."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._memory = Loans(_KEPT)

    async def split(
        self, chunks: Mapping[Digest, bytes | memoryview], redundancy: Redundancy
    ) -> dict[Digest, list[Part]]:
        """For each chunk the parts that its blobs are to hold, in their order; `redundancy` is what larger
        chunks are kept by. The parts look at the chunks' memory. The call is not to be cancelled."""
        coded = {digest: chunk for digest, chunk in chunks.items() if redundancy.for_size(len(chunk)).coded}
        parts = {digest: [Part(chunk)] * (redundancy.spare + 1) for digest, chunk in chunks.items()}
        if coded:
            shards = await asyncio.to_thread(lambda: [self._shards(chunk, redundancy) for chunk in coded.values()])
            digests = iter(await self._hasher.digests([shard for some in shards for shard in some]))
            for digest, some in zip(coded, shards, strict=True):
                parts[digest] = [Part(shard, Shard(number, next(digests))) for number, shard in enumerate(some)]
        return parts

    def _shards(self, chunk: bytes | memoryview, redundancy: Redundancy) -> Sequence[bytes | memoryview]:
        room = redundancy.spare * redundancy.blob_size(len(chunk))
        return erasure.encode(chunk, redundancy, self._memory.lend(room))
