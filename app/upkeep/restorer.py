"""Mending one chunk: good blobs instead of those that are bad, missing, or were never made.

One who is called lost is offered no more: then an upload of the same bytes is stored again, and heals
every file that holds the chunk. Several who restore the same chunk at once do no harm (see `mover`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from app.coord.locks import LocalLocks
from app.errors import NodeError, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.dedupe import Deduper, WritePolicy
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader, Inspection
from app.streams.splitter import Splitter
from app.types import Blob, Digest
from app.upkeep.mover import Mover
from app.upkeep.places import Places

log = get_logger(__name__)

_PAUSES = (0.2, 0.4, 0.8, 1.6)
"""Seconds between tries to mend a chunk that somebody else changes at the same time."""

Outcome = Literal["sound", "mended", "lost", "later", "gone"]

NO_PLACE = "no node takes more"
NO_ANSWER = "a node fails, or does not answer"


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a chunk: it was `sound` or is `mended`; it can't be given back any more, until somebody
    uploads it (`lost`); something can't be done just now (`later`), and `reason` says why; or there is nothing
    to do, for it is being written or removed (`gone`). `good` blobs were found to be so; `dropped` ones are
    offered no more; `made` is how many there are instead, and `bytes` what was written."""

    outcome: Outcome
    good: Collection[Blob] = ()
    dropped: Collection[Blob] = ()
    made: int = 0
    bytes: int = 0
    reason: str = NO_ANSWER


class Restorer:
    """Calls raise DatabaseUnavailable."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher, places: Places | None = None) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster
        self._places = places or Places(database, cluster)
        self._mover = Mover(database, cluster, hasher)
        self._reader = ChunkReader(cluster, hasher)
        self._splitter = Splitter(hasher)

    async def restore(self, digest: Digest) -> Restored:
        """Read every blob of the chunk, and mend it: bad ones go into quarantine."""
        for pause in (0.0, *_PAUSES):
            await asyncio.sleep(pause)
            chunk = await self._look(digest)
            if chunk is None or chunk.state != "live":
                return _not_live(chunk)
            inspection = await self._reader.inspect(chunk, every=True)
            restored = await self._mended(chunk, inspection)
            if restored:
                return restored
        return Restored("later")

    async def complete(self, digest: Digest) -> Restored:
        """Add the blobs that the chunk lacks, those on nodes that were removed included, reading no more than
        that takes."""
        chunk = await self._look(digest)
        if chunk is None or chunk.state != "live":
            return _not_live(chunk)
        kept = self._places.kept(chunk.blobs)
        if len(kept) >= max(chunk.redundancy.total, len(chunk.blobs)):
            return Restored("sound")
        if len(kept) < chunk.redundancy.needed:
            return await self.restore(digest)
        gone = [blob for blob in chunk.blobs if blob not in kept]
        return await self._replaced(chunk, gone) or await self.restore(digest)

    async def heal(self, digest: Digest) -> bool:
        """Write a lost chunk again, from what is left of it or from any copy that is still on a node."""
        chunk = (await self._chunks.find([digest])).get(digest)
        if chunk is None or chunk.state == "live":
            return chunk is not None
        data = (await self._reader.inspect(chunk)).data
        if data is None:
            data = await self._stray(chunk)
        if data is None:
            return False
        policy = WritePolicy(chunk.redundancy, degraded=True)
        deduper = Deduper(self._chunks, self._mending, self._cluster, LocalLocks(), self._splitter, policy)
        try:
            await deduper.store({digest: data})
        except (NoSpace, NodesUnavailable) as error:
            log.warning("lost chunk not written again", chunk=digest.hex(), error=error.message)
            return False
        return True

    async def _look(self, digest: Digest) -> Chunk | None:
        chunk = (await self._chunks.find([digest])).get(digest)
        await self._places.look()
        return chunk

    async def _mended(self, chunk: Chunk, inspection: Inspection) -> Restored | None:
        """None if the chunk changed meanwhile, or a node failed."""
        useless = inspection.of_kind("missing", "size", "wrong")
        good = inspection.of_kind("good")
        if not useless and len(chunk.blobs) >= chunk.redundancy.total:
            return Restored("sound" if len(good) == len(chunk.blobs) else "later", good)
        if inspection.data is not None:
            return await self._replaced(chunk, useless, good, inspection.data)
        if len(chunk.blobs) - len(useless) >= chunk.redundancy.needed:
            return Restored("later", good)  # Blobs that can't be read just now may be good ones.
        if not await self._mending.lose(chunk, inspection.of_kind("good", "unreachable")):
            return None
        log.error("chunk lost", chunk=chunk.digest.hex(), bad=[f"{blob.name} on {blob.node}" for blob in useless])
        healed = await self.heal(chunk.digest)
        await self._put_aside(useless)
        return Restored("mended" if healed else "lost", good, useless)

    async def _replaced(
        self,
        chunk: Chunk,
        useless: Sequence[Blob],
        good: Collection[Blob] = (),
        data: memoryview | None = None,
    ) -> Restored | None:
        kept = [blob for blob in chunk.blobs if blob not in useless]
        # One is named no more only when another is offered, even if there were more than enough.
        lacking = max(chunk.redundancy.total - len(kept), 1 if useless else 0)
        # Rather where the bad ones are: the other nodes hold their shares already.
        nodes = [blob.node for blob in useless if self._places.takes(blob.node)][:lacking]
        nodes += self._places.free(chunk.digest, lacking - len(nodes), [*(blob.node for blob in kept), *nodes])
        if not nodes:
            return Restored("later", good, reason=NO_PLACE)
        if not await self._mover.replace(chunk, useless, nodes, data=data):
            # A disk that refuses writes is tried again at times: then others do it.
            nodes = self._places.free(chunk.digest, lacking, chunk.nodes)
            if not nodes or not await self._mover.replace(chunk, useless, nodes, data=data):
                return None
        if useless:
            log.warning("blobs made anew", chunk=chunk.digest.hex(), nodes=nodes, instead_of=[b.name for b in useless])
        await self._put_aside(self._places.kept(useless))
        outcome: Outcome = "mended" if len(nodes) == lacking else "later"
        return Restored(outcome, good, useless, len(nodes), len(nodes) * chunk.blob_size, NO_PLACE)

    async def _put_aside(self, blobs: Sequence[Blob]) -> None:
        """Quarantine blobs that are named no more."""
        now = await self._mending.look_surely([blob.digest for blob in blobs]) if blobs else {}
        for blob in blobs:
            chunk = now.get(blob.digest)
            if chunk is None or blob not in chunk.named:
                try:
                    await self._cluster.quarantine(blob)
                except NodeError as error:
                    log.warning("bad blob left in its place", blob=blob.name, node=blob.node, error=error.message)

    async def _stray(self, chunk: Chunk) -> memoryview | None:
        for node in self._cluster.node_ids:
            try:
                listed = await self._cluster.list_blobs(node, chunk.digest[0])
            except NodeError:
                continue
            for stored in listed:
                if stored.blob.digest == chunk.digest and stored.finished:
                    ((verdict, data),) = await self._reader.judge([(stored.blob, chunk.size)])
                    if verdict == "good":
                        return data
        return None


def _not_live(chunk: Chunk | None) -> Restored:
    return Restored("lost" if chunk and chunk.state == "lost" else "gone")
