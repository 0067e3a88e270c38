"""Linking what the store has and writing what it has not (rules R1, R2, R3, R6).

A batch costs a fixed number of round trips to the database: one look-up when all its chunks are
known; a look-up, a naming and a switch to live when they are new and nobody else wants them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from app.coord.locks import Locks
from app.errors import NodesUnavailable
from app.faults import pause
from app.models.chunk import Chunk, Naming
from app.models.chunks import Chunks
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.splitter import Part, Splitter
from app.streams.stranded import Stranded
from app.types import ONE_COPY, Blob, Digest, Generation, Redundancy, new_generation

_PATIENCE = 2.0
"""Seconds that another writer's naming is respected although nobody holds the chunk's lock: that
writer has crashed, or Redis is away. Taking over too early costs double work, never data; but whoever
takes over is alive, so the patience doubles with each one, or slow writers would do so for ever."""

_WAIT = 1.0
"""Seconds to wait for another writer before looking again."""

_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How new chunks are kept, and whether fewer blobs will do while nodes are away."""

    redundancy: Redundancy = ONE_COPY
    degraded: bool = False


class Deduper:
    def __init__(
        self,
        chunks: Chunks,
        mending: Mending,
        cluster: Cluster,
        locks: Locks,
        splitter: Splitter,
        policy: WritePolicy = WritePolicy(),
    ) -> None:
        self._chunks = chunks
        self._mending = mending
        self._cluster = cluster
        self._stranded = Stranded(chunks, mending, cluster)
        self._locks = locks
        self._splitter = splitter
        self._policy = policy

    async def store(self, batch: Mapping[Digest, bytes | memoryview]) -> set[Digest]:
        """See that every chunk of the batch is live; return the digests that this call wrote.

        Raises NoSpace, NodesUnavailable, DatabaseUnavailable. The call is not to be cancelled.
        """
        missing = dict(batch)
        written: set[Digest] = set()
        attempt = _Attempt()
        while missing:
            found = await self._chunks.find(missing)
            await pause("looked-up")
            if stranded := await self._stranded.among(found.values()):
                attempt.superseded += await self._stranded.give_up(stranded)
                found = await self._chunks.find(missing)
            await self._link(missing, found)
            if missing:
                done = await self._write_free(missing, found, attempt)
                written |= done
                for digest in done:
                    del missing[digest]
        # All chunks are live under other namings now: nothing names these blobs any more (rule R2).
        await self._cluster.unlink(attempt.superseded)
        return written

    async def store_again(self, batch: Mapping[Digest, bytes | memoryview]) -> set[Digest]:
        """As `store`, for chunks that a commit refused: a node that they are on may be on its way out."""
        await self._cluster.look_again()
        return await self.store(batch)

    async def _link(self, missing: dict[Digest, bytes | memoryview], found: Mapping[Digest, Chunk]) -> None:
        """Take the live chunks out of those that are missing."""
        live = [chunk for chunk in found.values() if chunk.state == "live"]
        for chunk in live:
            del missing[chunk.digest]
        unreferenced = [chunk.digest for chunk in live if not chunk.refs]
        if unreferenced:
            await self._chunks.touch(unreferenced)

    async def _write_free(
        self,
        missing: Mapping[Digest, bytes | memoryview],
        found: Mapping[Digest, Chunk],
        attempt: _Attempt,
    ) -> set[Digest]:
        """Write those chunks that nobody else is writing; if there are none, wait for somebody."""
        taken = await self._locks.take(digest.hex() for digest in missing)
        try:
            free = [d for d in missing if d.hex() in taken and attempt.may_name(found.get(d))]
            if free:
                return await self._write({digest: missing[digest] for digest in free}, found, attempt)
        finally:
            await self._locks.release(taken)
        if taken:
            await asyncio.sleep(_PAUSE)
        else:
            await self._locks.wait((digest.hex() for digest in missing), _WAIT)
        return set()

    async def _write(
        self,
        batch: Mapping[Digest, bytes | memoryview],
        found: Mapping[Digest, Chunk],
        attempt: _Attempt,
    ) -> set[Digest]:
        """Name, write all blobs, make live; return what became live by this. A node that fails is no
        error yet: its chunks stay missing, and the next attempt places them elsewhere."""
        parts = await self._splitter.split(batch, self._policy.redundancy)
        namings = {digest: self._naming(digest, len(batch[digest]), parts[digest], found) for digest in batch}
        attempt.own.update(naming.generation for naming in namings.values())
        won = await self._name(list(namings.values()))
        await pause("named")
        writes = [
            (blob, part.body)
            for digest in won
            for blob, part in zip(namings[digest].blobs, parts[digest], strict=False)
        ]
        failed = await self._cluster.write_all(writes)
        await pause("blobs-written")
        lacking = {blob.digest for blob in failed}
        durable = [namings[digest] for digest in won - lacking]
        live = await self._chunks.make_live(durable) if durable else set()
        await pause("live")
        # Those that lack a blob, and those whose naming was taken over before they became live.
        attempt.superseded += [blob for blob, _ in writes if blob not in failed and blob.digest not in live]
        return live

    async def _name(self, namings: Sequence[Naming]) -> set[Digest]:
        held = [naming for naming in namings if naming.instead_of and naming.instead_of.refs]
        free = [naming for naming in namings if naming not in held]
        won = await self._chunks.name(free) if free else set()
        for naming in held:
            if await self._mending.name_held(naming):
                won.add(naming.digest)
            else:
                await self._cluster.look_again()  # A node may be about to be removed.
        return won

    def _naming(self, digest: Digest, size: int, parts: Sequence[Part], found: Mapping[Digest, Chunk]) -> Naming:
        redundancy = self._policy.redundancy.for_size(size)
        nodes = self._cluster.place(digest, redundancy.total)
        if len(nodes) < (redundancy.needed if self._policy.degraded else redundancy.total):
            raise NodesUnavailable(
                f"Only {len(nodes)} nodes take writes just now, and each chunk needs {redundancy.total}."
            )
        blobs = tuple(
            Blob(node, digest, new_generation(), part.shard) for node, part in zip(nodes, parts, strict=False)
        )
        return Naming(size, blobs, blobs[0].generation, found.get(digest), redundancy)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """Another writer's naming of a chunk: since when it is seen, and how long it is respected."""

    generation: Generation
    since: float
    patience: float


class _Attempt:
    """What one call of `store` has named itself, and what it has seen others name. `superseded` are blobs
    that it wrote in vain."""

    def __init__(self) -> None:
        self.own: set[Generation] = set()
        self.superseded: list[Blob] = []
        self._seen: dict[Digest, _Sighting] = {}

    def may_name(self, chunk: Chunk | None) -> bool:
        if chunk is None or chunk.state in ("dead", "lost") or chunk.generation in self.own:
            return True
        seen = self._seen.get(chunk.digest)
        if seen is None or seen.generation != chunk.generation:
            patience = 2 * seen.patience if seen else _PATIENCE
            seen = self._seen[chunk.digest] = _Sighting(chunk.generation, monotonic(), patience)
        return monotonic() - seen.since >= seen.patience
