"""What a store does in the background, when, and in which process of which server.

Each worker asks for a lease in the database; the one that has it does all of this. Nothing rests on the
lease: should two hold it, they waste work.

    collecting    pages of deleted files within seconds, the rest at the interval
    mending       what readers found damaged, within seconds
    repair        at the start, when the nodes become others, and every hour
    drain         while nodes are draining
    rebalance     when somebody asked for it
    scrub         always, so slowly that a round takes the days that it may
    lifecycle     what expires by the rules of buckets, every hour
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from time import monotonic

from app.errors import MiniS3Error
from app.logs import get_logger
from app.models.leases import Lease
from app.models.runs import Runs
from app.models.tasks import Task
from app.upkeep.collector import Collector
from app.upkeep.expirer import Expirer
from app.upkeep.holding import Keeper
from app.upkeep.pace import Pace, Silence
from app.upkeep.rebalance import redundancy_of
from app.upkeep.tending import Tending

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds between two looks at what there is to do."""

    collect: float = 1.0
    mend: float = 1.0
    tend: float = 2.0
    repair: float = 3600.0
    """After so long it is looked for chunks that lack something, and for blobs on a node that was emptied,
    although nothing says that there are any."""
    settled: float = 30.0
    """After the last time, although nodes became others: they may go to and fro."""
    expire: float = 3600.0
    """Between two rounds of lifecycle rules."""
    sweep: float = 86_400.0
    """Between two listings of all nodes. There is one at the start too, for what a crash left."""
    after_fault: float = 10.0
    """After an error that nobody has thought of."""


TIMES = Times()

_SHARE = 0.2
"""The part of the time that collecting, and lifecycle rules, may take while uploads go on."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """`gc_interval` is in seconds between two collections; 0 means that only pages are released here.
    `scrub_days` is the time in which every blob is read; 0 means that none is."""

    gc_interval: float
    scrub_days: float


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does it."""

    collector: Collector
    tending: Tending
    expirer: Expirer


class _Rest:
    """Since something was done last, and how things were then."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._then: object = None

    def note(self, now: object = None) -> None:
        self._since, self._then = monotonic(), now

    def is_over(self, seconds: float, now: object = None, otherwise: float = 0) -> bool:
        """Whether so long has gone by, or `otherwise` if things are not as they were."""
        return monotonic() - self._since >= (seconds if now == self._then else otherwise)


class Schedule:
    def __init__(self, lease: Lease, runs: Runs, workers: Workers, wishes: Wishes, times: Times) -> None:
        self._keeper = Keeper(lease)
        self._runs = runs
        self._collector = workers.collector
        self._tending = workers.tending
        self._expirer = workers.expirer
        self._wishes = wishes
        self._times = times
        self._collected, self._swept, self._expired = _Rest(), _Rest(), _Rest()
        self._repaired, self._emptied, self._looked, self._stuck = _Rest(), _Rest(), _Rest(), _Rest()

    async def run_for_ever(self) -> None:
        """Never ends by itself; cancelled, it gives the lease back."""
        times = self._times
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.ask_for_ever())
                group.create_task(self._repeat(self._collect, min(times.collect, self._wishes.gc_interval or 1e9)))
                group.create_task(self._repeat(self._expire, times.tend))
                group.create_task(self._repeat(self._tending.mender.mend, times.mend))
                group.create_task(self._repeat(self._repair, times.tend))
                group.create_task(self._repeat(self._drain, times.tend))
                group.create_task(self._repeat(self._rebalance, times.tend))
                if self._wishes.scrub_days:
                    group.create_task(self._repeat(self._scrub, times.tend))
        finally:
            await self._keeper.give_back()

    async def _repeat(self, work: Callable[[], Awaitable[None]], interval: float) -> None:
        """Whatever happens to it, go on later."""
        while True:
            await asyncio.sleep(interval)
            if not self._keeper.held:
                continue
            try:
                await work()
            except MiniS3Error as error:
                log.warning("work in the background broken off", work=work.__qualname__, error=error.message)
            except Exception:
                log.exception("work in the background failed", work=work.__qualname__)
                await asyncio.sleep(self._times.after_fault)

    # Collecting

    async def _collect(self) -> None:
        pace = Pace(_SHARE)
        if not self._wishes.gc_interval or not self._collected.is_over(self._wishes.gc_interval):
            await self._collector.release_pages(pace)
            return
        self._collected.note()
        sweep = self._swept.is_over(self._times.sweep)
        done = await self._collector.run(pace, Silence(), sweep=sweep)
        if sweep:
            self._swept.note()
        await self._runs.record(done)
        if done.found_work:
            log.info("collected", **{name: value for name, value in asdict(done).items() if value})

    async def _expire(self) -> None:
        if not self._expired.is_over(self._times.expire):
            return
        done = await self._expirer.run(Pace(_SHARE))
        if done:
            self._expired.note()
        if done and done.found_work:
            counts = {"hidden": done.hidden, "removed": done.removed, "markers": done.markers}
            log.info("lifecycle rules carried out", **counts, uploads=done.uploads, kept=done.kept)

    # Tending

    async def _repair(self) -> None:
        await self._tending.places.look()
        nodes = self._tending.places.state
        if self._repaired.is_over(self._times.repair, nodes, otherwise=self._times.settled) and _told(
            await self._tending.walk(self._tending.repair())
        ):
            self._repaired.note(nodes)

    async def _drain(self) -> None:
        """As long as there is something to move; and then now and then, for a server may be slow to learn that
        the node gets nothing new."""
        await self._tending.places.look()
        draining = self._tending.places.draining
        if not draining:
            return
        if not self._emptied.is_over(self._times.repair, draining):
            if not self._looked.is_over(self._times.settled):
                return
            self._looked.note()
            if not await self._tending.holds(draining):
                return
        nodes = self._tending.places.state
        if not self._stuck.is_over(self._times.settled, nodes):
            return
        task = _told(await self._tending.walk(self._tending.drain()))
        if task and task.state == "done":
            self._emptied.note(draining)
        elif task and task.done.waiting:
            self._stuck.note(nodes)

    async def _rebalance(self) -> None:
        asked = await self._tending.tasks.asked("rebalance")
        if asked is not None and _told(await self._tending.walk(self._tending.rebalance(redundancy_of(asked)))):
            await self._tending.tasks.answered("rebalance", asked)

    async def _scrub(self) -> None:
        _told(await self._tending.walk(self._tending.scrub(self._wishes.scrub_days)))


def _told(task: Task | None) -> Task | None:
    """The task, after a line in the log if anything was done."""
    if task and (task.done.chunks or task.done.waiting):
        counts = {"chunks": task.done.chunks, "bytes": task.done.bytes, "found": task.done.findings}
        log.info("round over", kind=task.kind, blobs=task.done.blobs, waiting=dict(task.done.waiting), **counts)
    return task
