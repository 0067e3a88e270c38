"""From the blobs of a chunk to its bytes.

`fetch` is the fast way: of each chunk as many blobs as are needed, from the nodes that are most likely to
answer; others as soon as one fails, or keeps the reader waiting. Its caller checks the digest of the
chunk. Where that is wrong, or not enough blobs came, `inspect` tells which ones are bad, and makes the
chunk of those that are good.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import BlobDamaged, BlobMissing, NodeError
from app.logs import get_logger
from app.models.chunk import Chunk
from app.nodes import erasure
from app.nodes.cluster import Cluster
from app.streams.buffers import Loans
from app.streams.hasher import Hasher
from app.types import Blob, Digest, Redundancy

log = get_logger(__name__)

_HEDGE = 0.2
"""Seconds that blobs may take before others are read as well; the first that come are taken."""

Suspect = Callable[[Digest], None]
"""Hears of a chunk that a blob is bad of, or missing. It never waits and never fails."""

Verdict = Literal["good", "missing", "size", "wrong", "unreachable"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """`data` are the chunk's bytes, which have its digest, or None where they can't be had; `verdicts` tell of
    each blob that was read what it is."""

    data: memoryview | None
    verdicts: Mapping[Blob, Verdict]

    def of_kind(self, *verdicts: Verdict) -> list[Blob]:
        return [blob for blob, verdict in self.verdicts.items() if verdict in verdicts]


def unheard(digest: Digest) -> None:
    """A `Suspect` that does nothing."""


class ChunkReader:
    """`kept` chunks' memory is used again, instead of fresh one."""

    def __init__(self, cluster: Cluster, hasher: Hasher, kept: int = 16, suspect: Suspect = unheard) -> None:
        self._suspect = suspect
        self._cluster = cluster
        self._hasher = hasher
        self._memory = Loans(kept)

    async def fetch(self, chunk: Chunk, size: int) -> memoryview | None:
        """The chunk's bytes, `size` of them, as its blobs say, or None if not enough of those can be read."""
        if chunk.state != "live" or len(chunk.blobs) < chunk.redundancy.needed:
            return None
        if len(chunk.blobs) == 1:
            return await self._read(chunk.blobs[0], self._memory.lend(size))
        return await _Fetching(self, chunk, size).run(self._cluster.by_readiness(chunk.blobs, chunk.redundancy))

    async def inspect(self, chunk: Chunk, *, every: bool = False) -> Inspection:
        """Read blobs, offered ones only, until there are enough good ones, or every one of them."""
        waiting = deque(self._cluster.by_readiness(chunk.blobs, chunk.redundancy))
        verdicts: dict[Blob, Verdict] = {}
        good: dict[int, memoryview] = {}
        while waiting and (every or len(good) < chunk.redundancy.needed):
            together = len(waiting) if every else min(len(waiting), chunk.redundancy.needed - len(good))
            blobs = [waiting.popleft() for _ in range(together)]
            for blob, (verdict, body) in zip(
                blobs, await self.judge([(b, chunk.blob_size) for b in blobs]), strict=True
            ):
                verdicts[blob] = verdict
                if verdict == "good":
                    good[_number(blob, len(good))] = body
        return Inspection(await self._assembled(chunk, good), verdicts)

    async def judge(self, blobs: Sequence[tuple[Blob, int]]) -> list[tuple[Verdict, memoryview]]:
        """What each of these blobs is, which should have so many bytes, and its bytes where it is good."""
        found = await asyncio.gather(*(self._found(blob, size) for blob, size in blobs))
        digests = await self._hasher.digests([body for _, body in found])
        return [
            (verdict, body) if verdict != "good" or digest == blob.checksum else ("wrong", body[:0])
            for (blob, _), (verdict, body), digest in zip(blobs, found, digests, strict=True)
        ]

    async def _found(self, blob: Blob, size: int) -> tuple[Verdict, memoryview]:
        body = self._memory.lend(size)
        try:
            await self._cluster.read_into(blob, body)
        except BlobMissing:
            return "missing", body[:0]
        except BlobDamaged:
            return "size", body[:0]
        except NodeError:
            return "unreachable", body[:0]
        return "good", body

    async def _assembled(self, chunk: Chunk, good: Mapping[int, memoryview]) -> memoryview | None:
        if len(good) < chunk.redundancy.needed:
            return None
        if not chunk.redundancy.coded:
            return next(iter(good.values()))
        data = await decoded(good, chunk.redundancy, chunk.size)
        if await self._hasher.digests([data]) != [chunk.digest]:
            log.error("good shards give a wrong chunk", chunk=chunk.digest.hex())
            return None
        return data

    async def _read(self, blob: Blob, memory: memoryview) -> memoryview | None:
        try:
            await self._cluster.read_into(blob, memory)
        except (BlobMissing, BlobDamaged):
            # Another blob may do, and then nobody else hears of it.
            self._suspect(blob.digest)
            return None
        except NodeError:
            return None
        return memory


class _Fetching:
    """One chunk of several blobs, on its way."""

    def __init__(self, reader: ChunkReader, chunk: Chunk, size: int) -> None:
        self._reader = reader
        self._redundancy = chunk.redundancy
        self._size = size
        self._step = chunk.redundancy.blob_size(size)
        self._whole = reader._memory.lend(self._step * chunk.redundancy.needed if chunk.redundancy.coded else 0)
        self._waiting: deque[Blob] = deque()
        self._running: dict[asyncio.Task[memoryview | None], int] = {}
        self._got: dict[int, memoryview] = {}

    async def run(self, blobs: Sequence[Blob]) -> memoryview | None:
        self._waiting.extend(blobs)
        try:
            self._start(self._redundancy.needed)
            while self._lacking and self._running:
                done, _ = await asyncio.wait(
                    self._running, timeout=_HEDGE if self._waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._start(self._lacking)
                for task in done:
                    self._take(task)
        finally:
            for task in self._running:
                task.cancel()
        return None if self._lacking else await self._assembled()

    @property
    def _lacking(self) -> int:
        return self._redundancy.needed - len(self._got)

    def _start(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            blob = self._waiting.popleft()
            task = asyncio.create_task(self._reader._read(blob, self._room(blob)))
            self._running[task] = _number(blob, len(self._waiting))

    def _room(self, blob: Blob) -> memoryview:
        """Memory for a blob. Shards of the chunk itself go where they belong in it; a copy that is left may
        still be written to, so that the next one gets memory of its own."""
        if blob.part and blob.part.index < self._redundancy.needed:
            return self._whole[blob.part.index * self._step :][: self._step]
        return self._reader._memory.lend(self._step)

    def _take(self, task: asyncio.Task[memoryview | None]) -> None:
        number = self._running.pop(task)
        body = task.result()
        if body is None:
            self._start(1)
        elif self._lacking:
            self._got[number] = body

    async def _assembled(self) -> memoryview:
        if not self._redundancy.coded:
            return next(iter(self._got.values()))
        if all(number < self._redundancy.needed for number in self._got):
            return self._whole[: self._size]
        return await decoded(self._got, self._redundancy, self._size)


def _number(blob: Blob, otherwise: int) -> int:
    """Which shard a blob is; of a copy, anything that tells it from others."""
    return blob.part.index if blob.part else otherwise


async def decoded(shards: Mapping[int, memoryview], redundancy: Redundancy, size: int) -> memoryview:
    """As `erasure.decode`, off the event loop."""
    return await asyncio.to_thread(lambda: erasure.decode(shards, redundancy, size))
