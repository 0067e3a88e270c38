"""Emptying nodes: every blob on those that are draining goes elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from app.models.chunk import Chunk
from app.models.tasks import Done, Parameters
from app.upkeep.chore import Chore
from app.upkeep.mover import Mover
from app.upkeep.places import Places
from app.upkeep.restorer import NO_ANSWER, NO_PLACE, Restorer

UNFINISHED = "being written"
LOST = "lost: an upload of its file heals it"


class Drain(Chore):
    """It goes on until no document names one of the nodes: uploads may have chosen them a moment ago."""

    kind = "drain"
    goes_on = True

    def __init__(self, places: Places, mover: Mover, restorer: Restorer) -> None:
        super().__init__(places)
        self._mover = mover
        self._restorer = restorer

    @property
    def parameters(self) -> Parameters:
        return {"nodes": sorted(self._places.draining)}

    def level(self, chunk: Chunk) -> int | None:
        """Dead chunks are the collector's."""
        draining = self._places.draining
        return 0 if chunk.state != "dead" and any(blob.node in draining for blob in chunk.named) else None

    async def tend(self, chunks: Sequence[Chunk]) -> Done:
        done = Done()
        for some in await asyncio.gather(*map(self._move, chunks)):
            done.add(some)
        return done

    async def _move(self, chunk: Chunk) -> Done:
        if chunk.state != "live" or chunk.adding:
            return _waiting(LOST if chunk.state == "lost" else UNFINISHED)
        draining = self._places.draining
        drop = [blob for blob in chunk.blobs if blob.node in draining]
        kept = [blob.node for blob in chunk.blobs if blob.node not in draining]
        nodes = self._places.free(chunk.digest, len(drop), kept)
        if not nodes:
            return _waiting(NO_PLACE)
        if await self._mover.recast(chunk, drop[: len(nodes)], nodes):
            left = Counter({NO_PLACE: 1}) if len(nodes) < len(drop) else Counter[str]()
            return Done(0 if left else 1, len(nodes) * chunk.blob_size, 0, len(nodes), left)
        restored = await self._restorer.restore(chunk.digest)
        more = _waiting(restored.reason if restored.outcome == "later" else NO_ANSWER)
        more.add(Done(0, restored.bytes, len(restored.dropped), restored.made))
        return more


def _waiting(reason: str) -> Done:
    return Done(waiting=Counter({reason: 1}))
