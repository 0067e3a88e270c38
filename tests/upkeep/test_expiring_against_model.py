"""Any versions, any rules, any moment, and a crash anywhere: what remains, against lists that are gone through plainly.

Seen to fail where a noncurrent version aged from its own creation on, where a day ended with its hours, and where a
page began behind the key at which the one before it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.faults import pausing
from app.models.buckets import Buckets
from app.models.catalog import Due
from app.models.database import Database, open_database
from app.models.file import written_file
from app.models.files import new_file_id
from app.models.lifecycle import Filter, Rule
from app.models.meta import prepare
from app.models.objects import Version
from app.models.tallies import Tally
from app.types import Entry
from app.upkeep.due import Reckoner, Rules
from app.upkeep.expirer import Expirer
from app.upkeep.pace import Pace
from tests.models.builders import file_of, recount
from tests.support import Databases

START = datetime(2020, 1, 1, tzinfo=UTC)
NEVER = START + timedelta(days=9999)
KEYS = ("a", "a/b", "ab", "b")


@dataclass(frozen=True)
class Kept:
    """A version as the model knows it, which came so many hours after the start. A marker that the model put has
    no id."""

    id: str
    hours: int
    marker: bool = False
    null: bool = False
    tagged: bool = False
    size: int = 0

    @property
    def at(self) -> datetime:
        return START + timedelta(hours=self.hours)


Shelves = dict[str, list[Kept]]
"""The versions of each key, the newest first."""

PUT_NOW = Kept("", 9999 * 24, marker=True)


@dataclass(frozen=True)
class Case:
    versioning: str
    shelves: Shelves
    rules: list[Rule]
    now: datetime
    crash: int
    """After how many steps it crashes, if ever."""
    noted: bool
    """Whether it is noted then how far it was."""


# What there may be


@st.composite
def shelves(draw: st.DrawFn, versioning: str) -> Shelves:
    found: Shelves = {}
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, unique=True)):
        count = draw(st.integers(1, 1 if versioning == "off" else 5))
        hours = sorted(draw(st.lists(st.integers(0, 240), min_size=count, max_size=count)), reverse=True)
        null = 0 if versioning == "off" else draw(st.integers(0, 4)) if versioning == "suspended" else 99
        found[key] = [
            Kept(
                new_file_id(),
                hour,
                versioning != "off" and draw(st.integers(0, 2)) == 0,
                place == null,
                draw(st.booleans()),
                draw(st.sampled_from([0, 1, 5])),
            )
            for place, hour in enumerate(hours)
        ]
    return found


filters = st.builds(
    Filter,
    st.sampled_from([None, "", "a", "a/", "b"]),
    st.sampled_from([[], [["t", ""]]]),
    st.sampled_from([None, None, 0]),
    st.sampled_from([None, None, 5]),
)
current: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.builds(lambda days: {"days": days}, st.integers(1, 4)),
    st.builds(lambda days: {"date": START + timedelta(days=days)}, st.integers(0, 10)),
    st.builds(lambda on: {"lone_markers": on}, st.booleans()),
)
rules = st.builds(
    lambda enabled, wanted, actions, days, newer: Rule(
        "", enabled, wanted, noncurrent_days=days, newer_noncurrent=newer if days else None, **actions
    ),
    st.integers(0, 4).map(bool),
    filters,
    current,
    st.sampled_from([None, 1, 1, 3]),
    st.sampled_from([None, None, 1, 2]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    versioning = draw(st.sampled_from(["off", "enabled", "suspended"]))
    return Case(
        versioning,
        draw(shelves(versioning)),
        draw(st.lists(rules, min_size=1, max_size=4)),
        START + timedelta(hours=draw(st.integers(0, 300))),
        draw(st.sampled_from([0, 0, 1, 2, 3, 5])),
        draw(st.booleans()),
    )


# What is to become of it


def is_over(start: datetime, days: int | None, on: datetime | None, now: datetime) -> bool:
    if days is not None:
        day: date = (start + timedelta(days=days)).date()
        return now >= datetime.combine(day, time(), UTC) + timedelta(days=1)
    return on is not None and now >= on


def is_meant(rule: Rule, key: str, kept: Kept) -> bool:
    size, tagged = (0, False) if kept.marker else (kept.size, kept.tagged)
    wanted = rule.filter
    return (
        rule.enabled
        and key.startswith(wanted.prefix or "")
        and (not wanted.tags or tagged)
        and (wanted.over is None or size > wanted.over)
        and (wanted.under is None or size < wanted.under)
    )


def newest_goes(case: Case, key: str, there: list[Kept]) -> bool:
    newest, *others = there
    meant = [rule for rule in case.rules if is_meant(rule, key, newest)]
    over = any(is_over(newest.at, rule.days, rule.date, case.now) for rule in meant)
    if not newest.marker:
        return over
    return not others and (over or (newest.at <= case.now and any(rule.lone_markers for rule in meant)))


def others_that_stay(case: Case, key: str, there: list[Kept]) -> list[Kept]:
    staying: list[Kept] = []
    for successor, kept in pairwise(there):
        if not any(
            rule.noncurrent_days
            and is_meant(rule, key, kept)
            and is_over(successor.at, rule.noncurrent_days, None, case.now)
            and len(staying) >= (rule.newer_noncurrent or 0)
            for rule in case.rules
        ):
            staying.append(kept)
    return staying


def stepped(case: Case, found: Shelves) -> Shelves:
    """What one round leaves."""
    return {key: left for key, there in found.items() if (left := _stepped(case, key, there))}


def _stepped(case: Case, key: str, there: list[Kept]) -> list[Kept]:
    staying = [there[0], *others_that_stay(case, key, there)]
    if not newest_goes(case, key, there):
        return staying
    if case.versioning == "off" or there[0].marker:
        return staying[1:]
    if case.versioning == "enabled":
        return [PUT_NOW, *staying]
    return [replace(PUT_NOW, null=True), *(kept for kept in staying if not kept.null)]


@settings(max_examples=200, deadline=None, database=None)
@given(cases())
def test_what_is_due_is_what_the_rules_ask_for(case: Case) -> None:
    reckoner = Reckoner(Rules(case.rules), case.now)
    due: list[Due] = []
    for key, there in sorted(case.shelves.items()):
        for place, kept in enumerate(there, -9):
            document = _document(key, kept, -place)
            due += reckoner.take(Version.read(document))
    due += reckoner.finish()
    for key, there in case.shelves.items():
        staying = [kept.id for kept in others_that_stay(case, key, there)]
        newest = {one.state: one.version.id for one in due if one.version.key == key and one.state != "noncurrent"}
        expected = {"lone" if there[0].marker else "current": there[0].id} if newest_goes(case, key, there) else {}
        assert newest == expected
        gone = [one for one in due if one.version.key == key and one.state == "noncurrent"]
        assert [one.version.id for one in gone] == [kept.id for kept in there[1:] if kept.id not in staying]
        for one in gone:
            assert [*one.newer] == [there[0].id, *staying][: len(one.newer)]
            assert len(one.newer) - 1 in {rule.newer_noncurrent or 0 for rule in case.rules}


# What becomes of it


async def fill(database: Database, case: Case) -> None:
    for name in ("files", "tally_deltas"):
        await database[name].delete_many({})
    documents: list[dict[str, Any]] = []
    for key, there in case.shelves.items():
        newest, *others = [_document(key, kept, -place) for place, kept in enumerate(there, -9)]
        if not there[0].marker:
            newest["listed"] = True
        documents += [newest, *others]
    await database["files"].insert_many(documents)
    files = [kept for there in case.shelves.values() for kept in there if not kept.marker]
    await database["tally_deltas"].insert_one(Tally(len(files), sum(kept.size for kept in files)).write())
    change = {"versioning": case.versioning, "settings.lifecycle.rules": list(map(asdict, case.rules))}
    await database["buckets"].update_one({"_id": "b"}, {"$set": change})


def _document(key: str, kept: Kept, seq: int) -> dict[str, Any]:
    entry = Entry("b", key, "e", tags={"t": ""} if kept.tagged else {}, versioned=not kept.null)
    file = replace(file_of(), id=kept.id, size=kept.size, created_at=kept.at, entry=entry)
    document = written_file(file, seq)
    del document["listed"]
    if kept.marker:
        names = ("_id", "bucket", "key", "seq", "owner", "createdAt")
        return {**{name: document[name] for name in names}, "marker": True, "versioned": not kept.null}
    return document


async def left(database: Database) -> dict[str, list[str]]:
    """The ids of what is left; markers that were put have none."""
    found: dict[str, list[str]] = {}
    for document in await database["files"].find({}, sort=[("key", 1), ("seq", -1)]):
        put_now = document["createdAt"] > NEVER
        found.setdefault(document["key"], []).append("" if put_now else str(document["_id"]))
    return found


def ids(found: Shelves) -> dict[str, list[str]]:
    return {key: [kept.id for kept in there] for key, there in found.items()}


class Killed(BaseException):
    """The end of a process."""


@contextmanager
def crashing(after: int) -> Iterator[None]:
    steps: list[str] = []

    async def hook(point: str) -> None:
        steps.append(point)
        if len(steps) == after:
            raise Killed

    with pausing(hook):
        yield


async def run(database: Database, case: Case) -> None:
    await fill(database, case)
    expected = stepped(case, case.shelves)
    try:
        with crashing(case.crash):
            await Expirer(database).run(Pace(), case.now)
        assert await left(database) == ids(expected)
    except Killed:
        if not case.noted:
            await database["upkeep"].update_many({}, {"$unset": {"round": ""}})
        await Expirer(database).run(Pace(), case.now)
    while (following := stepped(case, expected)) != expected:
        expected = following
    while (done := await Expirer(database).run(Pace(), case.now)) and done.found_work:
        pass
    assert await left(database) == ids(expected)
    listed = {str(document["_id"]) for document in await database["files"].find({"listed": True})}
    assert listed == {there[0].id for there in expected.values() if not there[0].marker}
    await recount(database)


def test_what_remains_is_what_the_rules_leave(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.upkeep.expirer.PAGE", 3)
    monkeypatch.setattr("app.upkeep.expirer.TOGETHER", 2)
    with databases.fresh() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        database = runner.run(stack.enter_async_context(open_database(databases.mongo_url, name)))

        async def begin() -> None:
            await prepare(database)
            await Buckets(database).create("b", "alice", {})

        async def now(_: Database) -> datetime:
            """When delete markers are put: they are too young for everything."""
            return PUT_NOW.at + timedelta(days=1)

        runner.run(begin())

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def search(case: Case) -> None:
            runner.run(run(database, case))

        try:
            with monkeypatch.context() as patch:
                patch.setattr(Database, "now", now)
                search()
        finally:
            runner.run(stack.aclose())
