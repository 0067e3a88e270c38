"""What lifecycle rules let expire, what they do not, and what happens to what changes while they look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.faults import pausing
from app.models.buckets import Buckets, Versioning
from app.models.catalog import Catalog, Deletion, Due, Wanted
from app.models.database import Database, ObjectId
from app.models.file import written_pairs
from app.models.ledger import Hold, Ledger
from app.models.lifecycle import Filter, Rule
from app.models.objects import Objects, Position, Removed, Version
from app.models.rounds import Round, Rounds
from app.models.sessions import Part, PartSums, Progress, UploadSession, UploadSessions, new_session_id
from app.types import Entry, PageRef
from app.upkeep.expirer import Expirer
from app.upkeep.pace import Pace
from tests.models.builders import make_live, object_of, page_of, put_object, recount
from tests.models.meetings import amidst

pytestmark = pytest.mark.anyio

NOW = datetime(2020, 1, 10, 12, tzinfo=UTC)
DELETION = Deletion("bob")


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def rule(prefix: str | None = None, **actions: Any) -> Rule:
    return Rule(f"{prefix} {actions}", enabled=True, filter=Filter(prefix), **actions)


async def configure(database: Database, *rules: Rule, name: str = "b") -> None:
    value = {"rules": list(map(asdict, rules)), "minimum": ""} if rules else None
    assert await Buckets(database).set(name, "lifecycle", value)


async def make_bucket(database: Database, *rules: Rule, versioning: Versioning = "off", name: str = "b") -> None:
    await Buckets(database).create(name, "alice", {})
    await Buckets(database).set_versioning(name, versioning)
    await configure(database, *rules, name=name)


async def put(
    database: Database, key: str, at: datetime, name: str = "b", tags: Mapping[str, str] | None = None
) -> str:
    """The id of a new version."""
    file = replace(object_of(name, key), created_at=at, entry=Entry(name, key, "e", tags=tags or {}))
    (put_file,) = await Ledger(database).commit_files(Hold(), [file], [])
    return put_file.id


async def mark(database: Database, key: str, at: datetime, name: str = "b") -> str:
    """The id of a new delete marker."""
    (removed,) = await Catalog(database).delete(name, [Wanted(key)], DELETION)
    assert isinstance(removed, Removed)
    assert removed.marker
    marker = ObjectId(removed.marker.id)
    assert await database["files"].update_one({"_id": marker}, {"$set": {"createdAt": at}})
    return removed.marker.id


async def run(database: Database, now: datetime = NOW) -> Round:
    done = await Expirer(database).run(Pace(), now)
    assert done
    assert done.over
    await recount(database)
    return done


def figures(done: Round) -> dict[str, int]:
    names = ("hidden", "removed", "markers", "uploads", "kept")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


async def versions(database: Database, name: str = "b") -> list[Version]:
    return await Objects(database).versions(name, "", Position(), 1000)


async def ids(database: Database, name: str = "b") -> list[str]:
    return [version.id for version in await versions(database, name)]


# What each rule does


async def test_days_end_at_the_midnight_that_follows(database: Database) -> None:
    await make_bucket(database, rule(days=3))
    created = {
        "early": datetime(2020, 1, 6, 0, 0, 0, 1000, tzinfo=UTC),
        "midnight": datetime(2020, 1, 6, tzinfo=UTC),
        "late": datetime(2020, 1, 6, 23, 59, 59, tzinfo=UTC),
        "next day": datetime(2020, 1, 7, tzinfo=UTC),
    }
    for key, at in created.items():
        await put(database, key, at)
    assert figures(await run(database, datetime(2020, 1, 9, 23, 59, 59, tzinfo=UTC))) == {}
    assert figures(await run(database, datetime(2020, 1, 10, tzinfo=UTC))) == {"removed": 3}
    assert [version.key for version in await versions(database)] == ["next day"]


async def test_a_date_holds_from_then_on(database: Database) -> None:
    await make_bucket(database, rule(date=NOW))
    await put(database, "old", ago(100))
    await put(database, "new", NOW + timedelta(days=1))
    assert figures(await run(database, NOW - timedelta(seconds=1))) == {}
    assert figures(await run(database)) == {"removed": 2}


async def test_where_versions_are_kept_the_current_one_is_hidden(database: Database) -> None:
    await make_bucket(database, rule(days=1), versioning="enabled")
    old, new = await put(database, "k", ago(9)), await put(database, "k", ago(8))
    assert figures(await run(database)) == {"hidden": 1}
    marker, *others = await versions(database)
    assert (marker.file, marker.owner, marker.name) == (None, "alice", marker.id)
    assert [version.id for version in others] == [new, old]
    assert await Objects(database).find("b", "k") is None
    assert figures(await run(database)) == {}, "once is enough"


async def test_where_versioning_is_suspended_the_marker_replaces_what_has_no_version_id(database: Database) -> None:
    await make_bucket(database, rule(days=1), versioning="enabled")
    kept = await put(database, "k", ago(9))
    other = await put(database, "l", ago(9))
    await Buckets(database).set_versioning("b", "suspended")
    await put(database, "k", ago(8))
    assert figures(await run(database)) == {"hidden": 2, "removed": 1}
    found = {(version.key, version.name, version.file is None) for version in await versions(database)}
    assert found == {("k", "null", True), ("k", kept, False), ("l", "null", True), ("l", other, False)}


async def test_noncurrent_versions_age_from_their_successors_on(database: Database) -> None:
    await make_bucket(database, rule(noncurrent_days=3), versioning="enabled")
    for days in (100, 50, 5):
        await put(database, "k", ago(days))
    current = await put(database, "k", ago(4))
    assert figures(await run(database, ago(0.6))) == {"removed": 2}
    assert figures(await run(database)) == {"removed": 1}
    assert await ids(database) == [current]
    assert figures(await run(database, NOW + timedelta(days=1000))) == {}, "the current one stays"


async def test_so_many_noncurrent_versions_stay(database: Database) -> None:
    await make_bucket(database, rule(noncurrent_days=1, newer_noncurrent=2), versioning="enabled")
    put_ids = [await put(database, "k", ago(20 - number)) for number in range(5)]
    marker = await mark(database, "k", ago(10))
    assert figures(await run(database)) == {"removed": 3}
    assert await ids(database) == [marker, put_ids[4], put_ids[3]]


async def test_what_is_too_young_counts_among_those_that_stay(database: Database) -> None:
    await make_bucket(database, rule(noncurrent_days=5, newer_noncurrent=1), versioning="enabled")
    put_ids = [await put(database, "k", ago(days)) for days in (30, 20, 2)]
    assert figures(await run(database)) == {"removed": 1}
    assert await ids(database) == [put_ids[2], put_ids[1]]


async def test_what_another_rule_lets_go_does_not_count_among_those_that_stay(database: Database) -> None:
    """Seen to fail where it counted."""
    tagged = Rule("tagged", True, Filter(tags=[["a", "b"]]), noncurrent_days=1)
    await make_bucket(database, tagged, rule(noncurrent_days=1, newer_noncurrent=1), versioning="enabled")
    old, _, new = [await put(database, "k", ago(9), tags=tags) for tags in ({}, {"a": "b"}, {})]
    assert figures(await run(database)) == {"removed": 1}
    assert await ids(database) == [new, old]


@pytest.mark.parametrize(
    ("actions", "goes"),
    [
        ({"lone_markers": True}, True),
        ({"lone_markers": False}, False),
        ({"days": 1}, True),
        ({"days": 5}, False),
        ({"date": NOW}, True),
        ({"noncurrent_days": 1}, False),
    ],
    ids=str,
)
async def test_a_marker_of_which_nothing_else_is_left(database: Database, actions: dict[str, Any], goes: bool) -> None:
    await make_bucket(database, rule(**actions), versioning="enabled")
    await mark(database, "lone", ago(3))
    await put(database, "k", ago(100))
    over_another = [await mark(database, "k", ago(3)), *await ids(database)][:1]
    await configure(database, rule("lone", **actions), rule("k", lone_markers=True))
    assert figures(await run(database)) == ({"markers": 1} if goes else {})
    assert set(over_another) <= set(await ids(database))
    assert len(await ids(database)) == (2 if goes else 3)


async def test_a_version_and_then_its_marker(database: Database) -> None:
    """From round to round an object becomes less, until nothing is left of it."""
    await make_bucket(database, rule(days=1, noncurrent_days=1), versioning="enabled")
    await put(database, "k", ago(3))
    assert figures(await run(database)) == {"hidden": 1}
    later = datetime.now(UTC) + timedelta(days=3)
    assert figures(await run(database, later)) == {"removed": 1}
    assert figures(await run(database, later)) == {"markers": 1}
    assert await versions(database) == []
    assert await Buckets(database).remove("b")


async def test_rules_are_about_what_their_filters_take(database: Database) -> None:
    tagged = Filter(tags=[["a", "1"], ["b", "2"]])
    filters = [Filter("logs/"), tagged, Filter(over=10), Filter("tiny", under=2)]
    rules = [Rule(str(number), True, one, days=1) for number, one in enumerate(filters)]
    await make_bucket(database, *rules, Rule("disabled", False, Filter(), days=1))
    await put(database, "logs/a", ago(9))
    await put(database, "log", ago(9))
    await put(database, "one tag", ago(9), tags={"a": "1"})
    await put(database, "other tags", ago(9), tags={"a": "1", "b": "1"})
    await put(database, "tags", ago(9), tags={"a": "1", "b": "2", "c": "3"})
    await make_live(database, 1)
    await put_object(database, "b", "large", 1)
    await put_object(database, "b", "tiny and large", 1)
    await put(database, "tiny", ago(9))
    await database["files"].update_many({}, {"$set": {"createdAt": ago(9)}})
    assert figures(await run(database)) == {"removed": 5}
    assert [version.key for version in await versions(database)] == ["log", "one tag", "other tags"]


async def test_a_filter_by_size_takes_markers_as_empty(database: Database) -> None:
    await make_bucket(database, Rule("empty", True, Filter(under=1), noncurrent_days=1), versioning="enabled")
    await mark(database, "k", ago(9))
    await make_live(database, 1)
    await put_object(database, "b", "k", 1)
    await put_object(database, "b", "k", 1)
    await database["files"].update_many({}, {"$set": {"createdAt": ago(8)}})
    assert figures(await run(database)) == {"removed": 1}
    assert all(version.file for version in await versions(database))


async def test_each_bucket_has_its_rules(database: Database) -> None:
    names = ("a", "b", "b-1", "c")
    for name in names:
        await make_bucket(database, *([rule(days=1)] if name != "b" else []), name=name)
        await put(database, "k", ago(9), name)
    done = await run(database)
    assert (figures(done), done.seen) == ({"removed": 3}, 3)
    assert [len(await ids(database, name)) for name in names] == [0, 1, 0, 0]


# Uploads in parts


async def begin(database: Database, key: str, at: datetime) -> UploadSession:
    upload = UploadSession(new_session_id(), Entry("b", key, ""), "x/y", "alice", at)
    await Catalog(database).begin(upload)
    return upload


async def test_uploads_are_given_up(database: Database) -> None:
    await make_bucket(database, rule("a/", upload_days=2), rule("a/b", upload_days=9))
    await make_live(database, 1)
    old, new, other = [await begin(database, *how) for how in (("a/b", ago(4)), ("a/b", ago(1)), ("b", ago(4)))]
    page = page_of(1)
    part = Part(old.id, 1, page.size, PartSums("e"), ago(1), (PageRef(page.id, page.size, 1),))
    await Ledger(database).commit_part(Hold(), Progress(part), [page])
    assert figures(await run(database)) == {"uploads": 1}
    left = await UploadSessions(database).page("b", "", Position(), 9)
    assert [upload.id for upload in left] == [new.id, other.id]
    assert await database["upload_parts"].find({}) == []


async def test_an_upload_goes_on_whose_rule_was_taken_away(database: Database) -> None:
    """Seen to fail where an upload ended without a look at the rules."""
    await make_bucket(database, rule(upload_days=2))
    upload = await begin(database, "k", ago(9))
    async with amidst(UploadSessions, "page", lambda: configure(database)):
        done = await Expirer(database).run(Pace(), NOW)
    assert done
    async with amidst(Catalog, "expire_session", lambda: configure(database)):
        await configure(database, rule(upload_days=2))
        assert figures(await run(database)) == {}
    assert await UploadSessions(database).find(str(upload.id)) == upload
    await configure(database, rule(upload_days=2))
    assert figures(await run(database)) == {"uploads": 1}


# What changes between a look and what is done about it

Act = Callable[[Database], Awaitable[Any]]


async def new_put(database: Database) -> None:
    await put(database, "k", NOW)


async def new_tags(database: Database) -> None:
    (version, *_) = [one for one in await versions(database) if one.file]
    assert await Objects(database).change(version, {"tags": written_pairs({"keep": "yes"})})


async def no_rules(database: Database) -> None:
    await configure(database)


async def other_rules(database: Database) -> None:
    await configure(database, rule(days=1000), rule(noncurrent_days=1000))


async def newest_deleted(database: Database) -> None:
    newest, *_ = await versions(database)
    await Catalog(database).delete("b", [Wanted("k", newest.name)], DELETION)


async def second_deleted(database: Database) -> None:
    _, second, *_ = await versions(database)
    await Catalog(database).delete("b", [Wanted("k", second.name)], DELETION)


SITUATIONS: dict[str, tuple[Versioning, str, dict[str, Any], Act]] = {
    "overwritten": ("off", "f", {"days": 1}, new_put),
    "overwritten, versions kept": ("enabled", "f", {"days": 1}, new_put),
    "overwritten, versioning suspended": ("suspended", "f", {"days": 1}, new_put),
    "tags": ("off", "f", {"days": 1}, new_tags),
    "tags, versions kept": ("enabled", "f", {"days": 1}, new_tags),
    "no rules": ("off", "f", {"days": 1}, no_rules),
    "other rules": ("enabled", "fff", {"days": 1, "noncurrent_days": 1}, other_rules),
    "current again": ("enabled", "ff", {"noncurrent_days": 1}, newest_deleted),
    "below another one": ("enabled", "fff", {"noncurrent_days": 1, "newer_noncurrent": 1}, newest_deleted),
    "fewer that stay": ("enabled", "fff", {"noncurrent_days": 1, "newer_noncurrent": 1}, second_deleted),
    "a marker that is lone no more": ("enabled", "m", {"lone_markers": True}, new_put),
    "a marker that is gone": ("enabled", "m", {"lone_markers": True}, newest_deleted),
}


@pytest.mark.parametrize("moment", ["before", "amidst"])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_what_changed_meanwhile_stays(database: Database, situation: str, moment: str) -> None:
    """Once it has changed nothing is done any more on the ground of how it was. Seen to fail where a transaction did
    not ask whether the version is listed, for its tags, for the rules, for newer ones, or did not hold these."""
    versioning, history, actions, act = SITUATIONS[situation]
    await make_bucket(database, rule(**actions), versioning=versioning)
    for number, kind in enumerate(history):
        await (put if kind == "f" else mark)(database, "k", ago(20 - number))
    expected: list[str] = []

    async def change() -> None:
        await act(database)
        expected[:] = await ids(database)

    if moment == "before":
        done = await interposed(database, change)
        assert done
        assert figures(done) == {}
    else:
        async with amidst(Objects, "hold", change):
            await Expirer(database).run(Pace(), NOW)
    assert await ids(database) == expected
    await recount(database)


async def interposed(database: Database, change: Callable[[], Awaitable[Any]]) -> Round | None:
    """A round, before the first transaction of which something is done."""
    pending = [change]

    async def hook(point: str) -> None:
        if point == "due-found" and pending:
            await pending.pop()()

    with pausing(hook):
        return await Expirer(database).run(Pace(), NOW)


async def test_a_bucket_that_was_made_again_is_another_one(database: Database) -> None:
    await make_bucket(database, rule(days=1))
    await put(database, "k", ago(9))

    async def replace_bucket() -> None:
        await Catalog(database).delete("b", [Wanted("k")], DELETION)
        assert await Buckets(database).remove("b")
        await make_bucket(database, rule(days=1))
        await put(database, "k", ago(9))

    done = await interposed(database, replace_bucket)
    assert done
    assert figures(done) == {}
    assert len(await ids(database)) == 1


async def test_versions_are_kept_from_now_on(database: Database) -> None:
    """What would have been removed is hidden."""
    await make_bucket(database, rule(days=1))
    put_id = await put(database, "k", ago(9))
    done = await interposed(database, lambda: Buckets(database).set_versioning("b", "enabled"))
    assert done
    assert figures(done) == {"hidden": 1}
    assert (await ids(database))[1:] == [put_id]


async def test_a_removal_of_rules_in_the_middle_ends_it(database: Database) -> None:
    """No more is done by rules of which somebody was told that they are gone."""
    await make_bucket(database, rule(days=1))
    for number in range(120):
        await put(database, f"{number:03}", ago(9))
    seen: list[int] = []

    async def hook(point: str) -> None:
        if point == "expired" and not seen:
            await configure(database)
            seen.append(len(await ids(database)))

    with pausing(hook):
        done = await Expirer(database).run(Pace(), NOW)
    assert done
    assert done.over
    assert seen == [len(await ids(database))]
    assert 0 < seen[0] < 120


async def test_two_at_once_do_it_once(database: Database) -> None:
    await make_bucket(database, rule(days=1), versioning="enabled")
    for key in "abcdef":
        await put(database, key, ago(9))
    bucket = await Buckets(database).find("b")
    assert bucket
    due = [Due(version, "current") for version in await versions(database)]
    outcomes = await asyncio.gather(*(Catalog(database).expire(bucket, due) for _ in range(3)))
    markers = [one for outcome in outcomes if outcome for one in outcome if isinstance(one, Removed) and one.marker]
    assert len(markers) == 6
    assert len(await ids(database)) == 12
    await recount(database)


async def test_what_is_locked_stays_and_the_rest_goes(database: Database) -> None:
    await make_bucket(database, rule(noncurrent_days=1), versioning="enabled")
    old = {key: await put(database, key, ago(9)) for key in "abc"}
    new = {key: await put(database, key, ago(8)) for key in "abc"}

    held = {"$set": {"lock": {"hold": True}}}
    assert await database["files"].update_one({"_id": ObjectId(old["b"])}, held)
    assert figures(await run(database)) == {"removed": 2, "kept": 1}
    assert await ids(database) == [new["a"], new["b"], old["b"], new["c"]]


# Rounds


async def test_a_fault_in_one_bucket_holds_up_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        await make_bucket(database, rule(days=1), name=name)
        await put(database, "k", ago(9), name)
    real = Objects.versions

    async def faulty(objects: Objects, bucket: str, *rest: Any) -> Sequence[Version]:
        if bucket == "a":
            raise RuntimeError("a fault")
        return await real(objects, bucket, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "versions", faulty)
        assert figures(await run(database)) == {"removed": 1}
    assert [len(await ids(database, name)) for name in ("a", "b")] == [1, 0]


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("at", ["due-found", "expired"])
async def test_a_round_that_was_broken_off_is_gone_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch, at: str, noted: bool
) -> None:
    """Whether or not it could still be noted how far it was. Seen to fail where it went on behind the key in which it
    was broken off."""
    monkeypatch.setattr("app.upkeep.expirer.PAGE", 3)
    await make_bucket(database, rule(days=1), name="a")
    await make_bucket(database, rule("k", noncurrent_days=1), versioning="enabled")
    for number in range(10):
        await put(database, f"k{number}", ago(9), "a")
        for days in (9, 8):
            await put(database, f"k{number}", ago(days))
    passes: list[str] = []

    async def hook(point: str) -> None:
        passes.append(point)
        if passes.count(at) == 7:
            raise Killed

    with pausing(hook), pytest.raises(Killed):
        await Expirer(database).run(Pace(), NOW)
    left = len(await ids(database)) - 10
    assert (await ids(database, "a"), 0 < left < 10) == ([], True)
    if not noted:
        await database["upkeep"].update_many({}, {"$unset": {"round": ""}})
    else:
        stopped = await Rounds(database).last()
        assert stopped
        assert (stopped.bucket, stopped.over) == ("b", False)
    done = await run(database)
    assert done.removed == (20 if noted else left)
    assert len(await ids(database)) == 10


async def test_somebody_else_is_at_it(database: Database) -> None:
    await make_bucket(database, rule(days=1))
    await put(database, "k", ago(9))
    seconds: list[Round | None] = []

    async def second() -> None:
        seconds.append(await Expirer(database).run(Pace(), NOW))

    done = await interposed(database, second)
    assert done
    assert seconds == [None]
    assert figures(done) == {"removed": 1}
    told = await Rounds(database).last()
    assert told == done
    assert told.started_at
    assert told.at
