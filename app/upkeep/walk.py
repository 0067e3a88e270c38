"""One walk through all chunks, whatever it is for: resumable, throttled, and visible to everybody.

    counted ── the most urgent ones seen to, in the order of their digests ── the next level ── … ── done

The task's document says how far the walk is. Whoever crashes, or is broken off, leaves it there, and the
next one goes on behind the last position noted; what was done since then is done again, or found to be done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from app.errors import DatabaseUnavailable, MiniS3Error
from app.logs import get_logger
from app.metrics import note_mended, note_upkeep
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.leases import Lease
from app.models.tasks import Done, Task, Tasks
from app.upkeep.chore import Chore, Levels
from app.upkeep.holding import Keeper, holding
from app.upkeep.pace import Pace, Progress, Silence, Throttle

log = get_logger(__name__)

_NOTE = 2.0
"""Seconds between two notes of how far a walk is."""

_NAP = 20.0
"""Seconds at the most between two looks at what there is to do while nothing is due."""


class Walks:
    """Takes walks, one of each kind at a time. Those of a process share a throttle."""

    def __init__(self, database: Database, throttle: Throttle) -> None:
        self._database = database
        self._tasks = Tasks(database)
        self._throttle = throttle

    async def take(self, chore: Chore, *, share: float = 1.0, progress: Progress | None = None) -> Task | None:
        """A round, or what is left of the last one; None if somebody else is at it. Raises DatabaseUnavailable."""
        async with holding(Lease(self._database, chore.kind)) as keeper:
            if keeper is None:
                return None
            await chore.look()
            last = await self._tasks.read(chore.kind)
            walk = _Walk(self._database, chore, keeper, self._throttle, Pace(share), progress or Silence())
            return await walk.run(last)


class TakenOver(MiniS3Error):
    """Another process does the same work: this one was away for too long."""

    code = "taken-over"


class _Walk:
    def __init__(
        self, database: Database, chore: Chore, keeper: Keeper, throttle: Throttle, pace: Pace, progress: Progress
    ) -> None:
        self._chunks = Chunks(database)
        self._tasks = Tasks(database)
        self._chore = chore
        self._keeper = keeper
        self._throttle = throttle
        self._pace = pace
        self._progress = progress
        self._noted = monotonic()

    async def run(self, last: Task | None) -> Task:
        task = last if last and self._is_open(last) else await self._begun(last)
        self._progress.stage(self._chore.kind, task.total)
        self._progress.advance(task.done.chunks)
        again = self._chore.goes_on and bool(task.levels)
        self._noted = monotonic()
        try:
            while task.levels:
                await self._pass(task, task.levels[0])
                task.levels, task.position = task.levels[1:], b""
            task.state = "waiting" if again or task.done.waiting else "done"
        finally:
            with suppress(MiniS3Error):
                await self._note(task)
        return task

    def _is_open(self, last: Task) -> bool:
        return last.state == "running" and last.parameters == self._chore.parameters

    async def _begun(self, last: Task | None) -> Task:
        levels = await self._chore.expected()
        if levels is None:
            levels = self._chore.adjusted(await self._counted())
        task = Task(self._chore.kind, self._chore.parameters, levels=sorted(levels), total=levels.total())
        if self._chore.goes_on and last and (last.state, last.parameters) == ("waiting", task.parameters):
            task.done = replace(last.done, waiting=Counter())
            task.total += last.done.chunks
            task.seconds, task.started_at = last.seconds, last.started_at
        await self._tasks.note(task)
        return task

    async def _counted(self) -> Levels:
        levels: Levels = Counter()
        position = b""
        self._progress.stage(f"{self._chore.kind}: counting", await self._chunks.count())
        while chunks := await self._chunks.after(position, self._chore.page):
            await self._chore.look()
            levels.update(level for chunk in chunks if (level := self._chore.level(chunk)) is not None)
            position = chunks[-1].digest
            self._progress.advance(len(chunks))
            await self._pace.rest()
        return levels

    async def _pass(self, task: Task, level: int) -> None:
        """All chunks of the level behind the task's position."""
        while not self._chore.is_over(level):
            chunks = await self._chunks.after(task.position, self._chore.page)
            seconds = await self._chore.due_in(task, chunks[0].digest if chunks else b"")
            if seconds > 0:
                await _nap(min(seconds, _NAP))
                self._see_that_it_is_ours()
            elif chunks:
                await self._chore.look()
                await self._see_to([chunk for chunk in chunks if self._chore.level(chunk) == level], level, task)
                task.position = chunks[-1].digest
                if monotonic() - self._noted >= _NOTE or self._chore.is_paced:
                    await self._note(task)
            else:
                return

    async def _see_to(self, chunks: Sequence[Chunk], level: int, task: Task) -> None:
        for group in _groups(chunks, self._chore.together):
            if self._chore.is_over(level):
                return
            self._see_that_it_is_ours()
            await self._pace.rest()
            await self._throttle.take(sum(map(self._chore.cost, group)))
            done = await self._tended(group)
            task.done.add(done)
            task.position = group[-1].digest
            self._progress.advance(done.chunks)
            note_mended(task.kind, done.bytes, done.blobs)
            if monotonic() - self._noted >= _NOTE:
                await self._note(task)

    async def _tended(self, chunks: Sequence[Chunk]) -> Done:
        try:
            return await self._chore.tend(chunks)
        except DatabaseUnavailable:
            raise
        except Exception:
            # One chunk that can't be coped with must not hold up the others for ever.
            log.exception("chunks passed over", kind=self._chore.kind, chunks=[c.digest.hex() for c in chunks])
            return Done(waiting=Counter({"a fault: see the log": len(chunks)}))

    def _see_that_it_is_ours(self) -> None:
        if not self._keeper.held:
            raise TakenOver(f"Another process may be at the same {self._chore.kind} by now.")

    async def _note(self, task: Task) -> None:
        now = monotonic()
        task.seconds += now - self._noted
        self._noted = now
        await self._tasks.note(task)
        note_upkeep(task.kind, task.done.chunks, task.left)


async def _nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _groups(chunks: Sequence[Chunk], size: int) -> Iterator[Sequence[Chunk]]:
    for at in range(0, len(chunks), size):
        yield chunks[at : at + size]
