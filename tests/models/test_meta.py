"""The store's own document, and databases that an earlier version of Mini-S3 wrote."""

from __future__ import annotations

import asyncio

import pytest

from app.models.catalog import Catalog
from app.models.database import Database, ObjectId, open_database
from app.models.files import Files, Whose
from app.models.holdings import Holdings
from app.models.ledger import Hold, Ledger
from app.models.meta import VERSION, prepare
from app.models.objects import Objects, Position
from app.types import File
from tests.models.builders import digest_of, file_of, make_live, page_of, recount
from tests.support import Databases

pytestmark = pytest.mark.anyio

FILES = 2050
"""More than are brought to this version in one call."""


async def write_version_1(databases: Databases, name: str) -> list[File]:
    """Files as they were before there were buckets: two with pages, many without, no index of places."""
    async with open_database(databases.mongo_url, name) as database:
        await prepare(database)
        await make_live(database, 1, 2)
        page = page_of(1, 2)
        files = [file_of(page, name="a/ü"), file_of(page, name="a/ü"), *(file_of(name="") for _ in range(FILES))]
        for start in range(0, len(files), 500):
            await Ledger(database).commit_files(Hold(), files[start : start + 500], [page] if not start else [])
        change = {"$unset": {"bucket": "", "key": "", "listed": ""}}
        await database["files"].update_many({}, change)
        await database["meta"].update_one({"_id": "store"}, {"$set": {"version": 1}})
    with databases.client() as client:
        for index in ("listed objects", "versions"):
            client[name]["files"].drop_index(index)
    return files


async def test_files_of_version_1_get_their_places(databases: Databases) -> None:
    """By several servers that start at once, also where one of them was stopped half-way."""
    with databases.fresh() as name:
        files = await write_version_1(databases, name)
        async with open_database(databases.mongo_url, name) as database:
            half = {"$set": {"bucket": "", "key": f"{files[0].id}/a/ü", "listed": True}}
            await database["files"].update_one({"_id": ObjectId(files[0].id)}, half)
            stores = await asyncio.gather(*(prepare(database) for _ in range(3)))
            assert len(set(stores)) == 1
            meta = await database["meta"].find_one({"_id": "store"})
            assert meta is not None
            assert meta["version"] == VERSION
            expected = sorted((f"{file.id}/{file.name}", file.id) for file in files)
            listed = await Objects(database).page("", "", Position(), len(files) + 1)
            assert [(version.key, version.id) for version in listed] == expected
            found = await Objects(database).find("", f"{files[1].id}/a/ü")
            assert found is not None
            assert found.file == files[1] == await Files(database).find(files[1].id)
            assert (found.name, found.etag) == ("null", f"{files[1].content_id[:32]}-1")
            assert await Catalog(database).delete_file(files[0].id) == files[0]
            await recount(database)
            assert await prepare(database) == stores[0]


async def test_what_has_a_place_keeps_it(database: Database) -> None:
    """Also where an upgrade was stopped before its end."""
    file = file_of(name="a")
    await Ledger(database).commit_files(Hold(), [file], [])
    await database["meta"].update_one({"_id": "store"}, {"$set": {"version": 1}})
    before = await database["files"].find({})
    await prepare(database)
    assert await database["files"].find({}) == before


async def test_pages_of_version_2_are_found_by_their_chunks(database: Database) -> None:
    """Also where some are found already, and one is damaged."""
    await make_live(database, *range(6))
    pages = [page_of(1, 2), page_of(3), page_of(4, 5)]
    files = [file_of(page) for page in pages]
    await Ledger(database).commit_files(Hold(), files, pages)
    expected = await database["pages"].find({}, sort=[("_id", 1)])
    await database["pages"].update_many({"_id": {"$ne": pages[1].id}}, {"$unset": {"prefixes": ""}})
    await database["pages"].update_one({"_id": pages[2].id}, {"$set": {"packed": b"torn"}})
    await database["meta"].update_one({"_id": "store"}, {"$set": {"version": 2}})
    await asyncio.gather(*(prepare(database) for _ in range(2)))
    damaged = {"packed": b"torn", "prefixes": []}
    found = await database["pages"].find({}, sort=[("_id", 1)])
    assert found == [page | damaged if page["_id"] == pages[2].id else page for page in expected]
    meta = await database["meta"].find_one({"_id": "store"})
    assert meta is not None
    assert meta["version"] == VERSION
    for number, page in [(1, pages[0]), (2, pages[0]), (3, pages[1]), (4, None)]:
        assert await Holdings(database).page_with(digest_of(number), Whose("local")) == page
    assert await Holdings(database).page_with(digest_of(1), Whose("another")) is None
