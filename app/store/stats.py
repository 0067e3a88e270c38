"""Figures about the store: at most five seconds old, and the same for everybody who asks meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from app.errors import MiniS3Error
from app.logs import get_logger
from app.models.rounds import Round, Rounds
from app.models.runs import Collected, Runs
from app.models.tallies import NodeTally, Tallies, Tally
from app.models.tasks import Task, Tasks
from app.nodes.cluster import Cluster, NodeStatus

log = get_logger(__name__)

_FRESH = 5.0
_FOLD_EVERY = 10.0
_FOLD_BACKLOG = 100
"""Deltas that may wait to be folded; reading them costs less than folding each at once."""


@dataclass(frozen=True, slots=True)
class Stats:
    """`tally.bytes` are what deduplication left of `tally.logical`; `collected` is the collector's last run,
    `tasks` are the last rounds of what goes through all chunks, and `lifecycle` that of lifecycle rules."""

    tally: Tally
    nodes: list[tuple[NodeStatus, NodeTally]]
    collected: Collected | None
    tasks: list[Task]
    lifecycle: Round | None
    at: datetime

    @property
    def dedup_ratio(self) -> float:
        """Logical bytes for each stored one; 1 for an empty store."""
        return self.tally.logical / self.tally.bytes if self.tally.bytes else 1.0


class Statistics:
    def __init__(self, tallies: Tallies, cluster: Cluster, runs: Runs, tasks: Tasks, rounds: Rounds) -> None:
        self._tallies = tallies
        self._cluster = cluster
        self._runs = runs
        self._tasks = tasks
        self._rounds = rounds
        self._latest: Stats | None = None
        self._read_at = 0.0
        self._gathering: asyncio.Task[Stats] | None = None

    async def read(self) -> Stats:
        """Raises DatabaseUnavailable."""
        if self._latest and monotonic() - self._read_at <= _FRESH:
            return self._latest
        # Whoever asks meanwhile shares the answer, an error too: they would else fail one after the other.
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        return await asyncio.shield(self._gathering)

    async def _gather(self) -> Stats:
        tally, statuses, collected, tasks, lifecycle = await asyncio.gather(
            self._tallies.read(),
            self._cluster.statuses(),
            self._runs.last(),
            self._tasks.all(),
            self._rounds.last(),
        )
        nodes = [(status, tally.nodes.get(status.id, NodeTally())) for status in statuses]
        self._latest = Stats(tally, nodes, collected, tasks, lifecycle, datetime.now(UTC))
        self._read_at = monotonic()
        return self._latest

    async def fold_for_ever(self) -> None:
        """Keep the deltas few, so that reading the totals stays cheap."""
        while True:
            await asyncio.sleep(_FOLD_EVERY)
            try:
                while await self._tallies.backlog() > _FOLD_BACKLOG:
                    await self._tallies.fold()
            except MiniS3Error as error:
                log.info("statistics not folded", error=error.message)
