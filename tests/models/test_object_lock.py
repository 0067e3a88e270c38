"""Object lock: what is locked is not removed by anything, and its lock becomes only what it may."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import MiniS3Error, NoSuchBucket, NotLockable, ObjectLocked
from app.models.buckets import Buckets
from app.models.catalog import Catalog, Deletion, Wanted
from app.models.database import Database, ObjectId, open_database
from app.models.ledger import Hold, Ledger
from app.models.meta import prepare
from app.models.object_lock import DefaultRetention
from app.models.objects import Objects, Position, Version
from app.models.sessions import UploadSession, UploadSessions, new_session_id
from app.types import UNLOCKED, Entry, File, Lock, LockMode, Retention
from tests.models.builders import make_live, object_of, put_object, recount
from tests.models.meetings import amidst
from tests.support import Databases

pytestmark = pytest.mark.anyio

MODES: tuple[LockMode, ...] = ("GOVERNANCE", "COMPLIANCE")
NOW = datetime.now(UTC).replace(microsecond=0)
OVER, SOON, MIDDLE, LATE = (NOW + timedelta(days=days) for days in (-1, 1, 2, 3))
HELD = Lock(hold=True)


def kept(mode: LockMode = "COMPLIANCE", until: datetime = MIDDLE) -> Lock:
    return Lock(Retention(mode, until))


@pytest.fixture
async def bucket(database: Database) -> str:
    await Buckets(database).create("b", "alice", {}, lockable=True)
    return "b"


async def put(database: Database, lock: Lock = UNLOCKED, key: str = "k") -> Version:
    return await found(database, (await put_object(database, "b", key, lock=lock)).id)


async def found(database: Database, file_id: str) -> Version:
    version = await database.transaction(lambda session: Objects(database).by_id(file_id, session))
    assert version is not None
    return version


async def lock_of(database: Database, version: Version) -> Lock:
    file = (await found(database, version.id)).file
    assert file is not None
    assert file.entry is not None
    return file.entry.lock


async def outcome_of(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except MiniS3Error as error:
        return error


async def delete(database: Database, version: Version, *, bypass: bool = False) -> Any:
    wanted = [Wanted(version.key, version.name)]
    (outcome,) = await Catalog(database).delete("b", wanted, Deletion("alice", bypass))
    return outcome


async def there(database: Database) -> set[str]:
    return {str(document["_id"]) for document in await database["files"].find({"marker": None})}


# What there may be, and become


@dataclass(frozen=True)
class Model:
    """The rules in other words than those of the store."""

    lock: Lock = UNLOCKED

    def binds(self, *, bypass: bool) -> bool:
        retention = self.lock.retention
        return bool(retention and retention.until > NOW and not (bypass and retention.mode == "GOVERNANCE"))

    def may_go(self, *, bypass: bool) -> bool:
        return not self.lock.hold and not self.binds(bypass=bypass)

    def may_become(self, wanted: Retention | None, *, bypass: bool) -> bool:
        now = self.lock.retention
        if now is None or not self.binds(bypass=bypass):
            return True
        return wanted is not None and wanted.mode == now.mode and wanted.until >= now.until


RETENTIONS = [None, *(Retention(mode, until) for mode in MODES for until in (OVER, MIDDLE))]
WISHES = [None, *(Retention(mode, until) for mode in MODES for until in (SOON, MIDDLE, LATE))]
LOCKS = [Lock(retention, hold) for retention in RETENTIONS for hold in (None, False, True)]


@pytest.mark.parametrize("bypass", [False, True])
async def test_every_lock_and_every_wish(database: Database, bucket: str, bypass: bool) -> None:
    """Seen to fail with each of the conditions left away or turned round, and with `bypass` overlooked."""
    cases = list(itertools.product(RETENTIONS, WISHES))
    versions = await asyncio.gather(*(put(database, Lock(now), f"{place}") for place, (now, _) in enumerate(cases)))
    wanted = [(version, wish) for version, (_, wish) in zip(versions, cases, strict=True)]
    retain = Objects(database).retain
    outcomes = await asyncio.gather(*(outcome_of(retain(one, wish, bypass=bypass)) for one, wish in wanted))
    for (now, wish), version, outcome in zip(cases, versions, outcomes, strict=True):
        allowed = Model(Lock(now)).may_become(wish, bypass=bypass)
        assert isinstance(outcome, bool if allowed else ObjectLocked), (now, wish)
        assert await lock_of(database, version) == Lock(wish if allowed else now)


@pytest.mark.parametrize("bypass", [False, True])
async def test_every_lock_and_a_deletion(database: Database, bucket: str, bypass: bool) -> None:
    """Seen to fail as the one before."""
    versions = [await put(database, lock, f"{place}") for place, lock in enumerate(LOCKS)]
    wanted = [Wanted(version.key, version.name) for version in versions]
    outcomes = await Catalog(database).delete("b", wanted, Deletion("alice", bypass))
    left = await there(database)
    for lock, version, outcome in zip(LOCKS, versions, outcomes, strict=True):
        stays = not Model(lock).may_go(bypass=bypass)
        assert (isinstance(outcome, ObjectLocked), version.id in left) == (stays, stays), lock
    await recount(database)


steps = st.one_of(
    st.tuples(st.just("retain"), st.sampled_from(WISHES), st.booleans()),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("time passes")),
    st.tuples(st.just("delete"), st.booleans()),
)


def test_any_program_of_changes(databases: Databases) -> None:
    """Of one version, until it is deleted."""

    async def run(database: Database, lock: Lock, program: list[Any]) -> None:
        objects, version, model = Objects(database), await put(database, lock), Model(lock)
        for step in program:
            match step:
                case "retain", wish, bypass:
                    outcome = await outcome_of(objects.retain(version, wish, bypass=bypass))
                    assert (outcome is True) == model.may_become(wish, bypass=bypass)
                    if outcome is True:
                        model = Model(replace(model.lock, retention=wish))
                case "hold", hold:
                    assert await objects.change(version, {"lock.hold": hold})
                    model = Model(replace(model.lock, hold=hold))
                case "delete", bypass:
                    gone = not isinstance(await delete(database, version, bypass=bypass), ObjectLocked)
                    assert gone == model.may_go(bypass=bypass)
                    if gone:
                        break
                case _ if model.lock.retention:
                    ended = replace(model.lock.retention, until=OVER)
                    await database["files"].update_one({"_id": ObjectId(version.id)}, {"$set": {"lock.until": OVER}})
                    model = Model(replace(model.lock, retention=ended))
            assert await lock_of(database, version) == model.lock

    with databases.fresh() as name, asyncio.Runner() as runner:
        opened = open_database(databases.mongo_url, name)
        database = runner.run(opened.__aenter__())
        runner.run(prepare(database))
        runner.run(Buckets(database).create("b", "alice", {}, lockable=True))

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(lock=st.sampled_from(LOCKS), program=st.lists(steps, max_size=6))
        def search(lock: Lock, program: list[Any]) -> None:
            runner.run(run(database, lock, program))

        try:
            search()
        finally:
            runner.run(opened.__aexit__(None, None, None))


# What a version that is put gets


@pytest.mark.parametrize("default", [DefaultRetention("GOVERNANCE", days=3), DefaultRetention("COMPLIANCE", years=2)])
async def test_the_default_of_the_bucket(database: Database, bucket: str, default: DefaultRetention) -> None:
    before = await put(database)
    assert await Buckets(database).set_lock("b", default)
    for wish in (UNLOCKED, HELD, kept("GOVERNANCE", SOON)):
        version = await put(database, wish)
        days = timedelta(days=default.days or 365 * default.years)
        by_default = Retention(default.mode, version.created_at + days)
        assert await lock_of(database, version) == Lock(wish.retention or by_default, wish.hold)
    assert await lock_of(database, before) == UNLOCKED
    assert await Buckets(database).set_lock("b", None)
    assert await lock_of(database, await put(database)) == UNLOCKED
    with pytest.raises(ObjectLocked):
        raise await delete(database, version)


async def complete(database: Database, lock: Lock = UNLOCKED) -> File:
    entry = Entry("b", "k", "", lock=lock)
    upload = UploadSession(new_session_id(), entry, "x/y", "alice", await database.now())
    await Catalog(database).begin(upload)
    read = await UploadSessions(database).find(str(upload.id))
    assert read == upload
    file = replace(object_of("b", "k", lock=read.entry.lock), created_at=await database.now())
    return await Catalog(database).complete(upload, file, [])


async def test_an_object_of_parts_has_what_was_said_when_it_was_begun_or_the_default(
    database: Database, bucket: str
) -> None:
    default = DefaultRetention("COMPLIANCE", days=1)
    await Buckets(database).set_lock("b", default)
    file = await complete(database)
    assert await lock_of(database, await found(database, file.id)) == Lock(default.begin(file.created_at))
    told = Lock(Retention("GOVERNANCE", LATE), hold=True)
    file = await complete(database, told)
    assert await lock_of(database, await found(database, file.id)) == told


async def test_a_bucket_without_object_lock_takes_no_locked_objects(database: Database) -> None:
    """Also where it had it when the request came, and there is another of its name now. What is committed together
    with that is committed."""
    await Buckets(database).create("b", "alice", {})
    for lock in (HELD, kept(), Lock(hold=False)):
        with pytest.raises(NotLockable):
            await complete(database, lock)
        outcomes = await asyncio.gather(put_object(database, "b", "a"), outcome_of(put(database, lock)))
        assert [type(outcome) for outcome in outcomes] == [File, NotLockable]
    assert len(await there(database)) == 1


# Buckets


async def test_object_lock_is_for_good_and_so_are_versions(database: Database) -> None:
    buckets = Buckets(database)
    for name, lockable in (("b", True), ("c", False)):
        made = await buckets.create(name, "alice", {"acl": "private"}, lockable=lockable)
        assert made == await buckets.find(name)
        assert made is not None
        assert (made.lockable, made.versioning) == (lockable, "enabled" if lockable else "off")
    assert not await buckets.set_lock("c", None)
    assert await buckets.set_versioning("c", "suspended")
    assert not await buckets.set_lock("c", None)
    assert await buckets.set_versioning("c", "enabled")
    assert await buckets.set_lock("c", None)
    for name in ("b", "c"):
        assert not await buckets.set_versioning(name, "suspended")
        assert await buckets.set_versioning(name, "enabled")
        for default in (DefaultRetention("GOVERNANCE", days=9), DefaultRetention("COMPLIANCE", years=9), None):
            assert await buckets.set_lock(name, default)
            bucket = await buckets.find(name)
            assert bucket is not None
            assert (bucket.lockable, bucket.retention, bucket.versioning) == (True, default, "enabled")
    assert not await buckets.set_lock("none", None)


async def test_a_bucket_gets_object_lock_or_is_suspended(database: Database) -> None:
    buckets = Buckets(database)
    for number in range(10):
        name = f"b{number}"
        await buckets.create(name, "alice", {})
        await buckets.set_versioning(name, "enabled")
        done = await asyncio.gather(buckets.set_versioning(name, "suspended"), buckets.set_lock(name, None))
        bucket = await buckets.find(name)
        assert bucket is not None
        assert sorted(done) == [False, True]
        assert (bucket.lockable, bucket.versioning) == ((True, "enabled") if done[1] else (False, "suspended"))


# All ways of removing a version

Way = Callable[[Database, Version], Awaitable[Any]]


async def _unversion(database: Database, version: Version) -> None:
    """As no caller can: the bucket keeps versions no longer, and this one has the version id null."""
    await database["buckets"].update_one({"_id": "b"}, {"$set": {"versioning": "suspended"}})
    await database["files"].update_one({"_id": ObjectId(version.id)}, {"$set": {"versioned": False}})


async def _unlist(database: Database, version: Version) -> None:
    """As no caller can: the bucket never had versions."""
    await database["buckets"].update_one({"_id": "b"}, {"$set": {"versioning": "off"}})
    await database["files"].update_one({"_id": ObjectId(version.id)}, {"$set": {"versioned": False}})


def after(change: Callable[[Database, Version], Awaitable[None]], way: Way) -> Way:
    async def both(database: Database, version: Version) -> Any:
        await change(database, version)
        return await way(database, version)

    return both


async def delete_object(database: Database, version: Version) -> Any:
    (outcome,) = await Catalog(database).delete("b", [Wanted(version.key)], Deletion("alice", bypass=True))
    return outcome


WAYS: dict[str, Way] = {
    "by its version id": lambda database, version: delete(database, version, bypass=True),
    "by its file id": lambda database, version: Catalog(database).delete_file(version.id),
    "put over the null version": after(_unversion, lambda database, _: put_object(database, "b", "k")),
    "completed over the null version": after(_unversion, lambda database, _: complete(database)),
    "a marker for the null version": after(_unversion, delete_object),
    "put where there are no versions": after(_unlist, lambda database, _: put_object(database, "b", "k")),
    "deleted where there are no versions": after(_unlist, delete_object),
}


LOCKED = [HELD, kept(), kept("COMPLIANCE", SOON), Lock(Retention("GOVERNANCE", OVER), hold=True)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lock", LOCKED, ids=["held", "kept", "kept shortly", "held for longer"])
async def test_nothing_removes_a_locked_version(database: Database, bucket: str, way: str, lock: Lock) -> None:
    """Seen to fail with each of the ways that removes the document without the condition."""
    await make_live(database, 1)
    file = await put_object(database, "b", "k", 1, lock=lock)
    version = await found(database, file.id)
    assert isinstance(await outcome_of(WAYS[way](database, version)), ObjectLocked)
    assert await there(database) == {version.id}
    assert await lock_of(database, version) == lock
    assert not await Buckets(database).remove("b")
    await recount(database)


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_locked_goes_in_all_these_ways(database: Database, bucket: str, way: str) -> None:
    """So that the refusals are for the lock."""
    await make_live(database, 1)
    lock = Lock(Retention("COMPLIANCE", OVER), hold=False)
    version = await found(database, (await put_object(database, "b", "k", 1, lock=lock)).id)
    assert not isinstance(await outcome_of(WAYS[way](database, version)), MiniS3Error)
    assert version.id not in await there(database)
    await recount(database)


async def test_a_governed_version_stays_without_a_bypass(database: Database, bucket: str) -> None:
    version = await put(database, kept("GOVERNANCE"))
    assert isinstance(await delete(database, version), ObjectLocked)
    assert isinstance(await outcome_of(Catalog(database).delete_file(version.id)), ObjectLocked)
    assert not isinstance(await delete(database, version, bypass=True), ObjectLocked)


async def test_of_several_that_are_deleted_those_that_are_locked_stay(database: Database, bucket: str) -> None:
    versions = [await put(database, lock, key) for key, lock in zip("abc", (UNLOCKED, HELD, UNLOCKED), strict=True)]
    wanted = [Wanted(version.key, version.name) for version in versions]
    outcomes = await Catalog(database).delete("b", wanted, Deletion("alice"))
    assert [isinstance(outcome, ObjectLocked) for outcome in outcomes] == [False, True, False]
    assert await there(database) == {versions[1].id}
    await recount(database)


async def test_a_locked_object_gets_new_versions_and_delete_markers(database: Database, bucket: str) -> None:
    first = await put(database, Lock(Retention("COMPLIANCE", LATE), hold=True))
    second = await put(database)
    (removed,) = await Catalog(database).delete("b", [Wanted("k")], Deletion("alice"))
    assert not isinstance(removed, MiniS3Error)
    assert removed.marker is not None
    assert await there(database) == {first.id, second.id}
    assert not isinstance(await delete(database, removed.marker), MiniS3Error)
    seen = [version.id for version in await Objects(database).versions("b", "", Position(), 9)]
    assert seen == [second.id, first.id]


async def test_delete_markers_have_no_retention(database: Database, bucket: str) -> None:
    await put(database)
    (removed,) = await Catalog(database).delete("b", [Wanted("k")], Deletion("alice"))
    assert not isinstance(removed, MiniS3Error)
    assert removed.marker is not None
    assert not await Objects(database).retain(removed.marker, Retention("COMPLIANCE", LATE), bypass=False)
    assert not await Objects(database).change(removed.marker, {"lock.hold": True})


# Who meets whom

LOCKINGS: dict[str, Callable[[Database, Version], Awaitable[bool]]] = {
    "retention": lambda where, one: Objects(where).retain(one, Retention("COMPLIANCE", LATE), bypass=False),
    "hold": lambda where, one: Objects(where).change(one, {"lock.hold": True}),
}


@pytest.mark.parametrize("how", LOCKINGS)
async def test_a_version_is_locked_amidst_its_deletion(database: Database, bucket: str, how: str) -> None:
    """The deletion, whose transaction began before, is tried again. Seen to fail without the condition."""
    version = await put(database)
    async with amidst(Objects, "_take_out", lambda: LOCKINGS[how](database, version)) as locked:
        outcome = await delete(database, version)
    assert (locked, type(outcome)) == ([True], ObjectLocked)
    assert await there(database) == {version.id}


@pytest.mark.parametrize("how", LOCKINGS)
async def test_a_version_is_locked_or_deleted(databases: Databases, database: Database, bucket: str, how: str) -> None:
    async with open_database(databases.mongo_url, database._database.name) as other:
        for _ in range(20):
            version = await put(database)
            locked, deleted = await asyncio.gather(LOCKINGS[how](other, version), delete(database, version))
            assert locked == isinstance(deleted, ObjectLocked)
            assert (version.id in await there(database)) == locked
            await database["files"].delete_many({})


async def test_a_default_retention_amidst_a_put(database: Database, bucket: str) -> None:
    """What is put after the answer has it."""
    default = DefaultRetention("COMPLIANCE", days=1)
    async with amidst(Objects, "make_way", lambda: Buckets(database).set_lock("b", default)) as done:
        await put(database)
    assert done == [True]
    version = await put(database)
    assert await lock_of(database, version) == Lock(default.begin(version.created_at))


async def test_a_bucket_that_is_gone_takes_nothing(database: Database) -> None:
    with pytest.raises(NoSuchBucket):
        await Ledger(database).commit_files(Hold(), [object_of("none", "k", lock=HELD)], [])
