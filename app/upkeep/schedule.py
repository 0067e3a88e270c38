"""When the collector runs inside a server, and in which of its processes.

Each worker asks for a lease in the database; the one that has it releases the pages of deleted files
within seconds, and runs the collector whenever the interval has passed. Nothing rests on the lease:
should two hold it, they waste work.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import asdict
from time import monotonic

from app.errors import MiniS3Error
from app.logs import get_logger
from app.models.runs import Runs
from app.upkeep.collector import Collector
from app.upkeep.pace import Pace, Silence

log = get_logger(__name__)

_TICK = 1.0
"""Seconds between two looks at what there is to release, where the interval is not shorter."""

_LEASE = 30.0
_RENEW = 10.0
"""Seconds after which the lease is asked for again, by its holder and by the others."""

_SHARE = 0.2
"""The part of the time that collecting may take while uploads go on."""

_SWEEP_EVERY = 86_400.0
"""Seconds between two listings of all nodes. There is one at the start too, for what a crash left."""


class Schedule:
    """`interval` is in seconds between two runs; 0 means that only pages are released here."""

    def __init__(self, runs: Runs, collector: Collector, interval: float) -> None:
        self._runs = runs
        self._collector = collector
        self._interval = interval
        self._tick = min(_TICK, interval or _TICK)
        self._holder = secrets.token_hex(8)
        self._leading = False

    async def run_for_ever(self) -> None:
        """Never ends by itself; cancelled, it gives the lease back."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_lease())
                group.create_task(self._work())
        finally:
            if self._leading:
                with suppress(MiniS3Error):
                    await self._runs.give_back(self._holder)

    async def _keep_lease(self) -> None:
        while True:
            try:
                self._leading = await self._runs.take(self._holder, _LEASE)
            except MiniS3Error as error:
                self._leading = False
                log.info("collector has no database", error=error.message)
            await asyncio.sleep(_RENEW)

    async def _work(self) -> None:
        due = swept = float("-inf")
        while True:
            await asyncio.sleep(self._tick)
            if not self._leading:
                continue
            try:
                pace = Pace(_SHARE)
                if self._interval and monotonic() >= due:
                    due = monotonic() + self._interval
                    sweep = monotonic() - swept >= _SWEEP_EVERY
                    await self._run(pace, sweep=sweep)
                    swept = monotonic() if sweep else swept
                else:
                    await self._collector.release_pages(pace)
            except MiniS3Error as error:
                log.warning("collection broken off", error=error.message)

    async def _run(self, pace: Pace, *, sweep: bool) -> None:
        done = await self._collector.run(pace, Silence(), sweep=sweep)
        await self._runs.record(done)
        if done.found_work:
            log.info("collected", **{name: value for name, value in asdict(done).items() if value})
