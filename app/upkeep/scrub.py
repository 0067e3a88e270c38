"""Reading every blob once in so many days, and mending what is bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from app.logs import get_logger
from app.metrics import DAMAGE
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.tasks import Done, Task
from app.streams.reader import ChunkReader, Verdict
from app.types import Blob
from app.upkeep.chore import Chore, Levels
from app.upkeep.pace import due_in
from app.upkeep.places import Places
from app.upkeep.restorer import Restorer

log = get_logger(__name__)

_BATCH = 16
"""Blobs read and hashed together."""

_BAD: tuple[Verdict, ...] = ("missing", "size", "wrong")


class Scrub(Chore):
    """A round takes as long as it may: digests are spread evenly, so that each says when its chunk is due.
    What was stored meanwhile behind the position is read in this round, all else within the next."""

    kind = "scrub"
    page = together = _BATCH
    is_paced = True

    def __init__(
        self, database: Database, places: Places, reader: ChunkReader, restorer: Restorer, days: float
    ) -> None:
        super().__init__(places)
        self._database = database
        self._chunks = Chunks(database)
        self._reader = reader
        self._restorer = restorer
        self._period = timedelta(days=days)

    async def expected(self) -> Levels:
        return Counter({0: await self._chunks.count()})

    def level(self, chunk: Chunk) -> int | None:
        return 0 if chunk.state == "live" else None

    def cost(self, chunk: Chunk) -> int:
        return chunk.blob_size * len(chunk.blobs)

    async def due_in(self, task: Task, following: bytes) -> float:
        if task.started_at is None or task.at is None:
            return 0.0
        left = (task.started_at + self._period - task.at).total_seconds()
        since = (await self._database.now() - task.at).total_seconds()
        return due_in(_part(task.position), _part(following) if following else 1.0, since, left)

    async def tend(self, chunks: Sequence[Chunk]) -> Done:
        done = Done(chunks=len(chunks))
        blobs = [(blob, chunk.blob_size) for chunk in chunks for blob in chunk.blobs]
        bad: dict[Blob, Verdict] = {}
        for at in range(0, len(blobs), _BATCH):
            batch = blobs[at : at + _BATCH]
            judged = await self._reader.judge(batch)
            bad |= {blob: verdict for (blob, _), (verdict, _) in zip(batch, judged, strict=True) if verdict in _BAD}
            done.bytes += sum(size for _, size in batch)
        for digest in {blob.digest: None for blob in bad}:
            restored = await self._restorer.restore(digest)
            for blob in restored.dropped:
                DAMAGE.labels(bad.get(blob, "wrong")).inc()
                log.error("damage found", kind=bad.get(blob), chunk=digest.hex(), node=blob.node, blob=blob.name)
            done.findings += len(restored.dropped)
            done.blobs += restored.made
            if restored.outcome in ("later", "lost"):
                done.waiting[restored.reason if restored.outcome == "later" else "lost"] += 1
        return done


def _part(digest: bytes) -> float:
    """Where a digest stands among all, from 0 to 1."""
    return int.from_bytes(digest[:8].ljust(8, b"\0"), "big") / (1 << 64)
