"""What keeps the chunks of a store where, and as, they should be: scrub, repair, drain, rebalance."""

from __future__ import annotations

import asyncio

from app.models.database import Database
from app.models.suspects import Suspects
from app.models.tallies import Tallies
from app.models.tasks import Kind, Task, Tasks
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader
from app.types import NodeId, Redundancy
from app.upkeep.chore import Chore
from app.upkeep.completing import Completing
from app.upkeep.drain import Drain
from app.upkeep.mover import Mover
from app.upkeep.pace import Progress, Throttle
from app.upkeep.places import Places
from app.upkeep.rebalance import Rebalance
from app.upkeep.restorer import Restorer
from app.upkeep.scrub import Scrub
from app.upkeep.suspicion import Mender
from app.upkeep.walk import Walks

_AGAIN = 5.0
"""Seconds between two rounds of work that goes on until nothing is left."""

_LOOK = 0.5
"""Seconds between two looks at how far somebody else is."""


class Tending:
    """All that there is of it in one process. `rate` is the bytes a second that it may read or write; 0 sets
    no limit."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher, rate: float = 0) -> None:
        self._database = database
        self.places = Places(database, cluster)
        self.tasks = Tasks(database)
        self._mover = Mover(database, cluster, hasher)
        self._restorer = Restorer(database, cluster, hasher, self.places)
        self._reader = ChunkReader(cluster, hasher)
        throttle = Throttle(rate)
        self._walks = Walks(database, throttle)
        self.mender = Mender(Suspects(database), self._restorer, throttle)

    # What may be done

    def repair(self) -> Chore:
        return Completing(self.places, self._restorer)

    def scrub(self, days: float) -> Chore:
        return Scrub(self._database, self.places, self._reader, self._restorer, days)

    def drain(self) -> Chore:
        return Drain(self.places, self._mover, self._restorer)

    def rebalance(self, redundancy: Redundancy | None = None) -> Chore:
        return Rebalance(self.places, self._mover, Tallies(self._database), redundancy)

    # Doing it

    async def walk(self, chore: Chore) -> Task | None:
        """One round, at a server's pace; None if somebody else is at it. Raises DatabaseUnavailable."""
        return await self._walks.take(chore, share=chore.share)

    async def finish(self, chore: Chore, progress: Progress) -> Task:
        """Do all of it, as fast as the throttle allows; while somebody else is at it, look on. Raises
        DatabaseUnavailable."""
        while True:
            task = await self._walks.take(chore, progress=progress)
            if task is None:
                await self._look_on(chore.kind, progress)
            elif task.state == "done" or not chore.goes_on:
                return task
            else:
                progress.stage(_words(task), task.total)
                progress.advance(task.done.chunks)
                await asyncio.sleep(_AGAIN)

    async def _look_on(self, kind: Kind, progress: Progress) -> None:
        await asyncio.sleep(_LOOK)
        while (task := await self.tasks.read(kind)) and task.held:
            progress.stage(f"{kind}, by a server", task.total)
            progress.advance(task.done.chunks)
            await asyncio.sleep(_LOOK)

    async def holds(self, nodes: set[NodeId]) -> int:
        """Blobs of files that these nodes hold."""
        tally = await Tallies(self._database).read()
        return sum(held.chunks for node, held in tally.nodes.items() if node in nodes)


def _words(task: Task) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(task.done.waiting.items()))
    return f"{task.kind}, waiting: {reasons}" if reasons else f"{task.kind}: looking again"
