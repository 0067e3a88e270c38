"""Files: reading them, and listing them newest first at a cost that does not grow with their number."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.models.catalog import Catalog
from app.models.database import Database, open_database
from app.models.files import Cursor, Files, Whose, new_file_id
from app.models.meta import prepare
from app.types import ContentId, File, FileId
from tests.models.builders import file_of, page_of
from tests.support import Databases

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


async def insert(database: Database, *files: File) -> None:
    await database.transaction(lambda session: Files(database).insert([(file, 0) for file in files], session))


def dated(name: str, at: datetime, owner: str = "local") -> File:
    file = file_of(page_of(1), name=name)
    return File(file.id, name, file.size, file.content_type, file.content_id, at, owner, file.pages)


async def test_a_file_is_read_as_it_was_written(database: Database) -> None:
    file = dated("a\x00\ud7ff/../ü", NOON + timedelta(milliseconds=123))
    files = Files(database)
    await insert(database, file)
    assert await files.find(file.id) == file
    assert await files.find_by_content(file.content_id) == file
    assert await files.find_by_content("1" * 64) is None


@pytest.mark.parametrize("bad", ["", "x", "0" * 23, "0" * 25, "g" * 24, "aa " * 8, "é" * 12, "\x00" * 24, "$ne"])
async def test_what_is_no_id_finds_nothing(database: Database, bad: str) -> None:
    assert await Files(database).find(bad) is None
    assert await Catalog(database).delete_file(bad) is None


@pytest.mark.parametrize("prefix", ["", "a/"])
async def test_pages_of_a_listing_join_without_gap_or_overlap(database: Database, prefix: str) -> None:
    """Also where several files have the same millisecond, and while newer ones arrive."""
    rng = random.Random(2)
    stored = [dated(rng.choice("ab") + "/x", NOON + timedelta(milliseconds=rng.randrange(8))) for _ in range(60)]
    await insert(database, *stored)
    expected = sorted(
        (file for file in stored if file.name.startswith(prefix)), key=lambda file: (file.created_at, file.id)
    )[::-1]
    listed: list[File] = []
    after = None
    while batch := await Files(database).newest(7, after, prefix):
        listed += batch
        after = Cursor(batch[-1].created_at, batch[-1].id)
        await insert(database, dated("a/late", NOON + timedelta(hours=1)))
    assert [file.id for file in listed] == [file.id for file in expected]
    assert all(file.pages == () for file in listed)


@contextmanager
def profiled(databases: Databases, name: str) -> Iterator[list[Any]]:
    """Filled, in the end, with what the server did for the queries on files."""
    queries: list[Any] = []
    with databases.client() as client:
        client[name].command("profile", 2)
        yield queries
        client[name].command("profile", 0)
        queries += client[name]["system.profile"].find({"ns": f"{name}.files", "op": "query"})


async def test_listing_goes_down_an_index(databases: Databases) -> None:
    """A page of the list costs as many documents as it has, wherever it begins: no scan of the
    collection, no sort of everything."""
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as database:
            await prepare(database)
            stored = [
                dated(f"{number % 2}/{number}", NOON + timedelta(milliseconds=number // 3)) for number in range(400)
            ]
            await insert(database, *stored)
            middle = stored[200]
            with profiled(databases, name) as queries:
                for after in (None, Cursor(middle.created_at, middle.id), Cursor(NOON, FileId("0" * 24))):
                    await Files(database).newest(10, after, "")
                await Files(database).find_by_content("0" * 64)
            assert len(queries) == 4
            for query in queries:
                assert "IXSCAN" in query["planSummary"]
                assert "COLLSCAN" not in query["planSummary"]
                assert not query.get("hasSortStage")
                assert query["docsExamined"] <= 10 + 3


async def test_listing_by_prefix_goes_by_an_index(databases: Databases) -> None:
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as database:
            await prepare(database)
            await insert(database, *(dated(f"{number % 100:02}/x", NOON) for number in range(400)))
            with profiled(databases, name) as queries:
                assert len(await Files(database).newest(10, None, "42/")) == 4
            (query,) = queries
            assert "IXSCAN { name: 1" in query["planSummary"]
            assert query["docsExamined"] <= 4


async def test_of_one_owner_only_his_files_are_looked_at(databases: Databases) -> None:
    """Also where the index of all files would do as well for the first who asks: the server remembers what did well,
    and would take it for others."""
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as database:
            await prepare(database)
            others = [dated(f"{number % 7}/x", NOON + timedelta(seconds=number), "many") for number in range(1500)]
            own = [dated(f"{number % 7}/x", NOON - timedelta(seconds=number), "few") for number in range(28)]
            rare = [dated("rare/x", NOON - timedelta(days=1), owner) for owner in ("many", "many", "few")]
            await insert(database, *others, *own, *rare)
            files = Files(database)
            with profiled(databases, name) as queries:
                for _ in range(3):
                    assert len(await files.newest(5, None, "", Whose("many"))) == 5
                    assert len(await files.newest(5, None, "3/", Whose("many"))) == 5
                listed = await files.newest(5, None, "", Whose("few"))
                after = Cursor(listed[-1].created_at, listed[-1].id)
                listed += await files.newest(5, after, "", Whose("few"))
                assert [file.id for file in listed] == [file.id for file in own[:10]]
                assert len(await files.newest(5, None, "3/", Whose("few"))) == 4
                assert (
                    await files.newest(5, None, "", Whose("none"))
                    == await files.newest(5, None, "3/", Whose("none"))
                    == []
                )
            assert len(queries) == 11
            for query in queries:
                assert "owner: 1" in query["planSummary"]
                assert query["docsExamined"] <= 40
            with profiled(databases, name) as queries:
                assert len(await files.newest(5, None, "rare/", Whose("many"))) == 2
            assert queries[-1]["docsExamined"] == 2


async def test_a_content_is_found_among_the_files_that_are_meant(databases: Databases) -> None:
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as database:
            await prepare(database)
            others = [dated(f"{number % 7}/x", NOON, "many") for number in range(700)]
            own = [
                replace(dated(f"{number % 7}/x", NOON, "few"), content_id=ContentId("2" * 64)) for number in range(700)
            ]
            await insert(database, *others, *own, dated("3/x", NOON, "few"))
            files, content_id = Files(database), others[0].content_id
            with profiled(databases, name) as queries:
                found = await files.find_by_content(content_id, Whose("few", ("2/", "3/")))
                assert found is not None
                assert (found.owner, found.name) == ("few", "3/x")
                assert await files.find_by_content(content_id, Whose("few", ("2/", "4/"))) is None
                assert await files.find_by_content(content_id, Whose("none")) is None
                assert await files.find_by_content("1" * 64, Whose("few")) is None
                assert await files.find_by_content(content_id, Whose(None, ("3/",))) is not None
            assert len(queries) == 5
            for query in queries:
                assert query["docsExamined"] <= 1


@pytest.mark.parametrize(
    "prefix", ["a", "a.c", "\x00", "x\x00y", "\ud7ff", "\U0010ffff", "a\U0010ffff", "^a$", "ü" * 30_000]
)
async def test_a_prefix_is_any_text(database: Database, prefix: str) -> None:
    names = [prefix, prefix + "x", prefix + "\U0010ffff", prefix[:-1], "b" + prefix, "\ue000", "~", ""]
    await insert(database, *(file_of(name=name) for name in names))
    found = {file.name for file in await Files(database).newest(30, None, prefix)}
    assert found == {name for name in names if name.startswith(prefix)}


@given(
    at=st.timedeltas(timedelta(0), timedelta(days=365 * 7000)).map(
        lambda since: datetime(1970, 1, 1, tzinfo=UTC) + since
    ),
    raw=st.binary(min_size=12, max_size=12),
)
def test_a_cursor_is_read_as_it_was_written(at: datetime, raw: bytes) -> None:
    cursor = Cursor(at.replace(microsecond=at.microsecond // 1000 * 1000), FileId(raw.hex()))
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text())
def test_garbage_is_no_cursor(text: str) -> None:
    with pytest.raises(BadRequest):
        Cursor.parse(text)


def test_a_cursor_out_of_this_world_is_refused() -> None:
    """The right alphabet and length do not make a date: this one is far beyond the year 9999."""
    with pytest.raises(BadRequest):
        Cursor.parse(base64.urlsafe_b64encode(b"\xff" * 20).decode())


def test_a_cursor_that_was_cut_is_refused() -> None:
    text = str(Cursor(NOON, new_file_id()))
    for length in range(len(text)):
        with pytest.raises(BadRequest):
            Cursor.parse(text[:length])
