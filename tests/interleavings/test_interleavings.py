"""The real code in some hundreds of interleavings; `tests/model` explores all those of a model.

Each rule's mutant is a few lines that break it, and must be caught. Rule R6 is shown by the order of
system calls in `tests/faults/test_power_cut.py`. Rule R7 has no mutant: here all grace is over at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis.errors import FlakyFailure

from app.errors import Damaged
from app.models.database import Database, open_database
from app.models.meta import prepare
from app.streams.hasher import Hasher
from app.types import Redundancy
from tests.interleavings.house import PAGE, SIZE, House, Plan, Schedule, plans, schedules
from tests.interleavings.mutants import MUTANTS
from tests.interleavings.scheduler import Scheduler
from tests.support import EFFORT as TIMES
from tests.support import Databases

RUNS = 75 * TIMES

EFFORT = settings(
    max_examples=RUNS,
    derandomize=False,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

Explore = Callable[..., None]


async def run(house: House, plan: Plan, schedule: Schedule) -> None:
    await house.begin(plan)
    scheduler = Scheduler(house.actors(plan))
    try:
        await scheduler.play(schedule)
        await house.check(plan)
    finally:
        note("\n".join(scheduler.trace))
        await scheduler.end()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and pages of a few bytes; nobody waits for anybody."""
    monkeypatch.setattr("app.streams.chunker.CHUNK_SIZE", SIZE)
    monkeypatch.setattr("app.streams.buffers.CHUNK_SIZE", SIZE)
    monkeypatch.setattr("app.types._WORTH_CODING", 0)
    monkeypatch.setattr("app.streams.ingest.PAGE_CHUNKS", PAGE)
    monkeypatch.setattr("app.streams.ingest.BATCH", PAGE)
    # One after the other: what several tasks of an actor do at once is not for a test to choose.
    monkeypatch.setattr("app.streams.ingest._AT_ONCE", 1)
    monkeypatch.setattr("app.streams.dedupe._PAUSE", 0)
    # Who stands at a point before it reads is not slow.
    monkeypatch.setattr("app.streams.reader._HEDGE", None)
    # To look at the clock is what makes it go on: a naming is respected once, and then taken over.
    monkeypatch.setattr("app.streams.dedupe.monotonic", itertools.count().__next__)
    monkeypatch.setattr("app.upkeep.restorer._PAUSES", (0, 0))
    monkeypatch.setattr("app.upkeep.collector.FOLDERS", 1)
    monkeypatch.setattr("app.upkeep.blobs.FOLDERS", 1)


@pytest.fixture
def explore(databases: Databases, small: None) -> Iterator[Explore]:
    with databases.empty() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        database: Database = runner.run(stack.enter_async_context(open_database(databases.mongo_url, name)))
        hasher = Hasher()
        stack.callback(hasher.close)
        try:
            runner.run(prepare(database))

            def explored(effort: settings, *redundancies: Redundancy, start: int | None = None) -> None:
                @effort
                @(seed(start) if start is not None else lambda test: test)
                @given(plans, schedules)
                def all_of_it(plan: Plan, schedule: Schedule) -> None:
                    runner.run(run(House(database, hasher, *redundancies), plan, schedule))

                all_of_it()

            yield explored
        finally:
            runner.run(stack.aclose())


@pytest.mark.parametrize("part", range(2))
def test_no_interleaving_loses_or_leaks_anything(explore: Explore, part: int) -> None:
    """In parts, so that several processes share them."""
    explore(EFFORT)


def test_nor_does_it_where_each_chunk_has_copies(explore: Explore) -> None:
    explore(EFFORT, Redundancy(1, 1), Redundancy(2, 1))


def test_nor_where_each_chunk_is_cut_into_shards(explore: Explore) -> None:
    explore(EFFORT, Redundancy(2, 1), Redundancy(1, 1))


SEEDS = {"R1": 4, "R2": 4, "R3": 29, "R4": 10, "R5": 25, "R8": 6}
"""Those that come upon the damage soon, most within ten interleavings; others take up to 700."""


@pytest.mark.parametrize("rule", MUTANTS)
def test_each_rule_is_needed(explore: Explore, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    MUTANTS[rule](monkeypatch)
    # Flaky: it was caught, and not once more, for a task came to its point a moment later.
    with pytest.raises((AssertionError, Damaged, FlakyFailure)):
        explore(settings(EFFORT, max_examples=2000, phases=[Phase.generate]), start=SEEDS[rule])
