"""Making again what is known to be missing: blobs that were never written, and those on nodes that were removed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.models.chunk import Chunk
from app.models.tasks import Done
from app.upkeep.chore import Chore
from app.upkeep.places import Places
from app.upkeep.restorer import Restorer


class Completing(Chore):
    """Least protected first: a level is how many more blobs a chunk may lose; below 0 it has lost too many."""

    kind = "repair"

    def __init__(self, places: Places, restorer: Restorer) -> None:
        super().__init__(places)
        self._restorer = restorer

    def level(self, chunk: Chunk) -> int | None:
        if chunk.state != "live" or not chunk.refs:
            return None
        kept = len(self._places.kept(chunk.blobs))
        if kept >= max(chunk.redundancy.total, len(chunk.blobs)):
            return None
        return kept - chunk.redundancy.needed

    async def tend(self, chunks: Sequence[Chunk]) -> Done:
        done = Done()
        for restored in await asyncio.gather(*(self._restorer.complete(chunk.digest) for chunk in chunks)):
            done.bytes += restored.bytes
            done.blobs += restored.made
            done.findings += len(restored.dropped)
            if restored.outcome in ("later", "lost"):
                done.waiting[restored.reason if restored.outcome == "later" else "lost"] += 1
            else:
                done.chunks += 1
        return done
