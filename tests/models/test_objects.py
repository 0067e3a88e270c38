"""Objects by key: the order of their versions, what is listed, and what happens when several change one at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import NoSuchKey, PreconditionFailed
from app.models.buckets import Buckets, Versioning
from app.models.catalog import Catalog, Deletion, Wanted
from app.models.database import Database, open_database
from app.models.objects import Condition, Objects, Position, Removed, Version
from app.types import File
from tests.models.builders import make_live, put_object, recount
from tests.support import Databases

pytestmark = pytest.mark.anyio

DELETION = Deletion("alice")
START = Position()


async def make_bucket(database: Database, versioning: Versioning = "off", name: str = "b") -> None:
    await Buckets(database).create(name, "alice", {})
    await Buckets(database).set_versioning(name, versioning)


async def delete(database: Database, key: str, version: str = "", condition: Condition | None = None) -> Removed:
    wanted = Wanted(key, version, condition) if condition else Wanted(key, version)
    (outcome,) = await Catalog(database).delete("b", [wanted], DELETION)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def versions(database: Database, key: str = "") -> list[Version]:
    return await Objects(database).versions("b", key, START, 1000)


async def see_that_the_newest_is_listed(database: Database) -> None:
    """Of each key exactly the newest version is listed, or none where that is a delete marker."""
    newest: dict[str, Any] = {}
    for document in await database["files"].find({}, sort=[("seq", 1)]):
        newest[document["key"]] = document
    expected = {document["_id"] for document in newest.values() if not document.get("marker")}
    assert {document["_id"] for document in await database["files"].find({"listed": True})} == expected


async def test_without_versions_a_put_replaces(database: Database) -> None:
    await make_bucket(database)
    await make_live(database, 1, 2)
    first = await put_object(database, "b", "k", 1)
    second = await put_object(database, "b", "k", 2, etag="f")
    (only,) = await versions(database)
    found = await Objects(database).find("b", "k")
    assert found is not None
    assert (found.id, found.name, found.etag, found.file) == (second.id, "null", "f", second)
    assert only.id == second.id != first.id
    assert (await Objects(database).version("b", "k", "null")) == found
    assert await Objects(database).version("b", "k", second.id) is None
    removed = await delete(database, "k")
    assert ([version.id for version in removed.gone], removed.marker) == ([second.id], None)
    assert await delete(database, "k") == Removed()
    assert await database["files"].find({}) == []
    await recount(database)


async def test_versions_are_listed_newest_first(database: Database) -> None:
    await make_bucket(database, "enabled")
    files = [await put_object(database, "b", "k", etag=str(number)) for number in range(3)]
    assert [version.name for version in await versions(database)] == [file.id for file in reversed(files)]
    for file in files:
        version = await Objects(database).version("b", "k", file.id)
        assert version is not None
        assert version.file == file
    removed = await delete(database, "k")
    assert removed.marker is not None
    assert await Objects(database).find("b", "k") is None
    assert await Objects(database).page("b", "", START, 10) == []
    assert await Objects(database).newest("b", "k") == removed.marker
    assert (removed.gone, removed.marker.owner, removed.marker.etag) == ([], "alice", "")
    assert [version.name for version in await versions(database)] == [
        removed.marker.name,
        *(file.id for file in reversed(files)),
    ]


async def test_when_the_newest_version_is_deleted_the_one_before_it_is_seen(database: Database) -> None:
    await make_bucket(database, "enabled")
    first, second = [await put_object(database, "b", "k") for _ in range(2)]
    marker = (await delete(database, "k")).marker
    assert marker is not None
    above = (await delete(database, "k")).marker
    assert above is not None
    assert (await delete(database, "k", marker.name)).marker == marker
    assert await Objects(database).find("b", "k") is None
    await delete(database, "k", above.name)
    found = await Objects(database).find("b", "k")
    assert found is not None
    assert found.id == second.id
    await delete(database, "k", first.id)
    await delete(database, "k", second.id)
    assert await versions(database) == []
    assert await delete(database, "k", second.id) == Removed()


async def test_suspended_versioning_replaces_only_what_has_no_version_id(database: Database) -> None:
    await make_bucket(database)
    buckets = Buckets(database)
    await put_object(database, "b", "k", etag="unversioned")
    await buckets.set_versioning("b", "enabled")
    kept = await put_object(database, "b", "k", etag="kept")
    assert [version.name for version in await versions(database)] == [kept.id, "null"]
    await buckets.set_versioning("b", "suspended")
    null = await put_object(database, "b", "k", etag="null")
    assert [(version.name, version.id) for version in await versions(database)] == [
        ("null", null.id),
        (kept.id, kept.id),
    ]
    removed = await delete(database, "k")
    assert [version.id for version in removed.gone] == [null.id]
    assert removed.marker is not None
    assert removed.marker.name == "null"
    again = await delete(database, "k")
    assert again.gone == [removed.marker]
    assert [version.name for version in await versions(database)] == ["null", kept.id]
    await delete(database, "k", "null")
    found = await Objects(database).find("b", "k")
    assert found is not None
    assert found.id == kept.id


async def test_conditions_are_of_the_newest_version(database: Database) -> None:
    await make_bucket(database, "enabled")
    absent, same, other = Condition(absent=True), Condition(etag="e"), Condition(etag="x")
    for condition in (same, Condition(etag="*")):
        with pytest.raises(NoSuchKey):
            await put_object(database, "b", "k", condition=condition)
    await put_object(database, "b", "k", condition=absent)
    for condition in (absent, other):
        with pytest.raises(PreconditionFailed):
            await put_object(database, "b", "k", condition=condition)
        with pytest.raises(PreconditionFailed):
            await delete(database, "k", condition=condition)
    await put_object(database, "b", "k", condition=same, etag="x")
    await delete(database, "k", condition=other)
    with pytest.raises(NoSuchKey):
        await put_object(database, "b", "k", condition=other)
    await put_object(database, "b", "k", condition=absent)
    assert len(await versions(database)) == 4
    await see_that_the_newest_is_listed(database)


async def test_of_many_who_create_one_object_one_does(databases: Databases, database: Database) -> None:
    """In two processes' connections, and in one transaction."""
    await make_bucket(database)
    async with open_database(databases.mongo_url, database._database.name) as other:
        for number in range(10):
            puts = [
                put_object(where, "b", f"k{number}", etag=str(who), condition=Condition(absent=True))
                for who, where in enumerate([database, other] * 6)
            ]
            outcomes = await asyncio.gather(*puts, return_exceptions=True)
            won = [outcome for outcome in outcomes if isinstance(outcome, File)]
            assert len(won) == 1
            assert sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes) == 11
    await see_that_the_newest_is_listed(database)


async def test_a_counter_by_conditional_puts_counts_each_once(databases: Databases, database: Database) -> None:
    """Compare and swap by ETag, from two connections: no step is lost."""
    await make_bucket(database)
    await put_object(database, "b", "k", etag="0")

    async def step(where: Database) -> None:
        while True:
            now = await Objects(where).find("b", "k")
            assert now is not None
            try:
                await put_object(where, "b", "k", etag=str(int(now.etag) + 1), condition=Condition(etag=now.etag))
            except PreconditionFailed:
                continue
            return

    async with open_database(databases.mongo_url, database._database.name) as other:
        await asyncio.gather(*(step(where) for where in [database, other] * 6))
    found = await Objects(database).find("b", "k")
    assert found is not None
    assert found.etag == "12"


Act = Callable[[Database, list[Version]], Awaitable[Any]]
"""Something that is done to an object, whose versions at the start are given, the newest first."""


def delete_the(number: int) -> Act:
    return lambda database, there: delete(database, "k", there[number].name)


ACTS: dict[str, Act] = {
    "delete the newest": delete_the(0),
    "delete the second": delete_the(1),
    "delete the third": delete_the(2),
    "put a marker": lambda database, _: delete(database, "k"),
    "put": lambda database, _: put_object(database, "b", "k"),
}
HISTORIES = {
    "two files, a marker": "ffm",
    "a file, two markers": "fmm",
    "a marker between files": "fmf",
    "files": "fff",
}


class LookTogether:
    """Whoever looks for the newest version waits until another transaction has looked too, or can't."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._lookers: set[int] = set()
        self._go = asyncio.Event()
        look, attempt = Objects.newest, Database._attempt

        async def newest(objects: Objects, bucket: str, key: str, session: Any = None) -> Version | None:
            found = await look(objects, bucket, key, session)
            self._lookers.add(id(session))
            if len(self._lookers) == 2:
                self._go.set()
            await self._go.wait()
            return found

        async def attempted(*args: Any) -> Any:
            try:
                return await attempt(*args)
            finally:
                self._go.set()

        patch.setattr(Objects, "newest", newest)
        patch.setattr(Database, "_attempt", staticmethod(attempted))


@pytest.mark.parametrize("versioning", ["enabled", "suspended"])
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("acts", [(a, b) for a in ACTS for b in ACTS if a <= b], ids="+".join)
async def test_two_who_change_an_object_at_once_leave_its_newest_version_listed(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    acts: tuple[str, str],
    history: str,
    versioning: Versioning,
) -> None:
    """Both look before either writes. Seen to fail where what one relied on was read, and not written: the newest
    version stayed hidden, or an older one was seen."""
    await make_bucket(database, "enabled")
    for kind in history:
        await (put_object(database, "b", "k") if kind == "f" else delete(database, "k"))
    await Buckets(database).set_versioning("b", versioning)
    there = await versions(database)
    with monkeypatch.context() as patch:
        LookTogether(patch)
        await asyncio.gather(*(ACTS[act](database, there) for act in acts))
    await see_that_the_newest_is_listed(database)
    assert len({version.seq for version in await versions(database)}) == len(await versions(database))
