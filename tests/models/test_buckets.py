"""Buckets: none goes with an object in it, and no object comes into one that is gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import MiniS3Error, NoSuchBucket, NoSuchUpload
from app.models.buckets import Buckets
from app.models.catalog import Catalog, Deletion, Wanted
from app.models.database import Database, open_database
from app.models.files import Files
from app.models.ledger import Hold, Ledger
from app.models.objects import Objects, Position, Version
from app.models.sessions import Part, PartSums, Progress, UploadSession, UploadSessions, new_session_id
from app.types import ContentId, Entry, File
from tests.models.builders import file_of, object_of, put_object, recount
from tests.models.meetings import amidst
from tests.support import Databases

pytestmark = pytest.mark.anyio

ROUNDS = 25
DELETION = Deletion("alice")


@pytest.fixture
async def other(databases: Databases, database: Database) -> AsyncIterator[Database]:
    """The same database, as another process sees it."""
    async with open_database(databases.mongo_url, database._database.name) as opened:
        yield opened


async def test_a_bucket_is_read_as_it_was_made(database: Database) -> None:
    buckets = Buckets(database)
    made = await buckets.create("b", "alice", {"acl": "private"})
    assert made is not None
    assert await buckets.find("b") == made
    assert (made.owner, made.versioning, made.settings) == ("alice", "off", {"acl": "private"})
    assert await buckets.create("b", "bob", {}) is None
    assert await buckets.set("b", "cors", [{"$x.y": 1}])
    assert await buckets.set("b", "acl", None)
    assert await buckets.set_versioning("b", "enabled")
    changed = await buckets.find("b")
    assert changed is not None
    assert (changed.versioning, changed.settings) == ("enabled", {"cors": [{"$x.y": 1}]})
    assert not await buckets.set("none", "acl", "private")
    assert not await buckets.set_versioning("none", "enabled")
    assert await buckets.find("none") is None


async def test_buckets_are_listed_by_name(database: Database) -> None:
    buckets = Buckets(database)
    for name in ("b.c", "ab", "abc", "b"):
        await buckets.create(name, "bob" if name == "abc" else "alice", {})
    assert [bucket.name for bucket in await buckets.page(None, "", "", 3)] == ["ab", "abc", "b"]
    assert [bucket.name for bucket in await buckets.page(None, "", "b", 3)] == ["b.c"]
    assert [bucket.name for bucket in await buckets.page(None, "ab", "ab", 3)] == ["abc"]
    assert [bucket.name for bucket in await buckets.page("alice", "", "", 9)] == ["ab", "b", "b.c"]


async def test_of_many_who_make_a_bucket_one_does(database: Database, other: Database) -> None:
    made = await asyncio.gather(*(Buckets(where).create("b", "alice", {}) for where in [database, other] * 5))
    assert len([bucket for bucket in made if bucket]) == 1
    assert len(await database["bucket_stripes"].find({})) == 16


@pytest.mark.parametrize("versioning", ["off", "enabled", "suspended"])
async def test_a_bucket_with_anything_in_it_stays(database: Database, versioning: Any) -> None:
    buckets = Buckets(database)
    await buckets.create("b", "alice", {})
    await buckets.create("b2", "alice", {})
    await buckets.set_versioning("b", versioning)
    await put_object(database, "b2", "k")
    await put_object(database, "b", "k")
    assert not await buckets.remove("b")
    await Catalog(database).delete("b", [Wanted("k")], DELETION)
    for version in await Objects(database).versions("b", "", Position(), 10):
        assert not await buckets.remove("b")
        await Catalog(database).delete("b", [Wanted("k", version.name)], DELETION)
    assert await buckets.remove("b")
    with pytest.raises(NoSuchBucket):
        await put_object(database, "b", "k")
    with pytest.raises(NoSuchBucket):
        await Catalog(database).delete("b", [Wanted("k")], DELETION)
    assert await database["bucket_stripes"].find({"_id": {"$regex": "^b/"}}) == []
    await recount(database)


async def outcome_of(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except MiniS3Error as error:
        return error


def session_of(bucket: str, key: str = "k") -> UploadSession:
    now = datetime.now(UTC).replace(microsecond=0)
    return UploadSession(new_session_id(), Entry(bucket, key, ""), "x/y", "alice", now)


async def complete_upload(database: Database, key: str) -> File:
    """An object that was uploaded in parts, though in none."""
    upload = session_of("b", key)
    await Catalog(database).begin(upload)
    file = File(file_of().id, key, 0, "x/y", ContentId("0" * 64), upload.created_at, "alice", (), Entry("b", key, "e"))
    return await Catalog(database).complete(upload, file, [])


PUTS = {"put": put_object, "complete": lambda database, _, key: complete_upload(database, key)}


@pytest.mark.parametrize("how", [*PUTS, "marker"])
async def test_a_bucket_goes_or_an_object_comes(database: Database, other: Database, how: str) -> None:
    """Several put while two remove the bucket: whoever was told of an object finds it, and its bucket."""
    rng = random.Random(how)
    for _ in range(ROUNDS):
        buckets = Buckets(database)
        await buckets.create("b", "alice", {})
        await buckets.set_versioning("b", "enabled")

        def put(where: Database, key: str) -> Awaitable[Any]:
            if how == "marker":
                return Catalog(where).delete("b", [Wanted(key)], DELETION)
            return PUTS[how](where, "b", key)

        async def some_time(call: Awaitable[Any]) -> Any:
            await asyncio.sleep(rng.uniform(0, 0.02))
            return await outcome_of(call)

        *removed, first, second, third = await asyncio.gather(
            some_time(Buckets(other).remove("b")),
            some_time(buckets.remove("b")),
            some_time(put(database, "x")),
            some_time(put(other, "y")),
            some_time(put(other, "z")),
        )
        there = {document["key"] for document in await database["files"].find({"bucket": "b"})}
        told = {key for key, outcome in zip("xyz", (first, second, third), strict=True) if _done(outcome)}
        assert there == told
        assert (await buckets.find("b") is None) == any(removed) == (not there)
        for key in there:
            for version in await Objects(database).versions("b", key, Position(), 10):
                await Catalog(database).delete("b", [Wanted(key, version.name)], DELETION)
        if there:
            assert await buckets.remove("b")
    assert await database["bucket_stripes"].find({}) == []
    await recount(database)


def _done(outcome: Any) -> bool:
    if isinstance(outcome, MiniS3Error):
        assert isinstance(outcome, NoSuchBucket | NoSuchUpload)
    return not isinstance(outcome, MiniS3Error)


@pytest.mark.parametrize("how", [*PUTS, "marker"])
async def test_a_bucket_is_not_removed_amidst_a_put(database: Database, other: Database, how: str) -> None:
    """Seen to fail where a put held no stripe of its bucket."""
    await Buckets(database).create("b", "alice", {})
    await Buckets(database).set_versioning("b", "enabled")
    calls: dict[str, tuple[type, str, Callable[[], Awaitable[Any]]]] = {
        "marker": (Objects, "put_marker", lambda: Catalog(database).delete("b", [Wanted("k")], DELETION)),
        **{name: (Files, "insert", lambda name=name: PUTS[name](database, "b", "k")) for name in PUTS},
    }
    owner, method, put = calls[how]
    async with amidst(owner, method, lambda: Buckets(other).remove("b")) as removed:
        await put()
    assert removed == [False]
    assert await Buckets(database).find("b") is not None


async def test_uploads_end_with_their_bucket(database: Database) -> None:
    """Seen to fail where the removal left them alone: the next bucket of that name had them."""
    buckets, sessions, catalog = Buckets(database), UploadSessions(database), Catalog(database)
    await buckets.create("b", "alice", {})
    upload, elsewhere = session_of("b"), session_of("b2")
    with pytest.raises(NoSuchBucket):
        await catalog.begin(elsewhere)
    await catalog.begin(upload)
    assert await buckets.remove("b")
    await buckets.create("b", "bob", {})
    assert await sessions.page("b", "", Position(), 9) == []
    assert await sessions.find(str(upload.id)) is None
    assert not await catalog.end_session(upload.id)
    with pytest.raises(NoSuchUpload):
        await catalog.complete(upload, object_of("b", "k"), [])
    late = Progress(Part(upload.id, 1, 0, PartSums("e"), upload.created_at, ()))
    with pytest.raises(NoSuchUpload):
        await Ledger(database).commit_part(Hold(), late, [])
    long_ago = upload.created_at - timedelta(days=9999)
    assert await sessions.stale(long_ago, 9) == [upload.id]
    assert await catalog.end_session(upload.id, long_ago)


async def test_no_upload_is_begun_in_a_bucket_that_goes(database: Database, other: Database) -> None:
    """Seen to fail where it was begun without holding the bucket."""
    await Buckets(database).create("b", "alice", {})
    upload = session_of("b")
    async with amidst(UploadSessions, "create", lambda: Buckets(other).remove("b")) as removed:
        await outcome_of(Catalog(database).begin(upload))
    assert removed == [True]
    assert await UploadSessions(database).find(str(upload.id)) is None


async def test_what_is_there_when_versions_are_kept_from_now_on_stays(database: Database, other: Database) -> None:
    """Seen to fail where a put held no stripe of its bucket, and where a change of the bucket left them alone."""
    await Buckets(database).create("b", "alice", {})
    await put_object(database, "b", "k")

    async def enable_and_look() -> list[Version]:
        await Buckets(other).set_versioning("b", "enabled")
        return await Objects(other).versions("b", "", Position(), 10)

    async with amidst(Objects, "make_way", enable_and_look) as seen:
        await put_object(database, "b", "k")
    await put_object(database, "b", "k")
    names = [version.id for version in await Objects(database).versions("b", "", Position(), 10)]
    assert len(names) == 2
    assert {version.id for version in seen[0]} <= set(names)
    await recount(database)
