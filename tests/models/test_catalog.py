"""The transactions of objects and upload sessions: their sums are exact, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.errors import InvalidPart, MiniS3Error, NoSuchKey, NoSuchUpload
from app.models.buckets import Buckets
from app.models.catalog import Catalog, Deletion, Wanted
from app.models.database import Database
from app.models.files import Files, new_file_id
from app.models.ledger import Hold, Ledger, SourceGone
from app.models.objects import Objects, Position, Version
from app.models.pages import Pages
from app.models.sessions import Part, PartSums, Progress, UploadSession, UploadSessions, new_session_id
from app.types import Entry, File, PageRef
from tests.models.builders import make_live, object_of, page_of, put_object, recount
from tests.models.meetings import amidst

pytestmark = pytest.mark.anyio

DELETION = Deletion("alice")


@pytest.fixture
async def bucket(database: Database) -> str:
    await Buckets(database).create("b", "alice", {})
    await make_live(database, *range(6))
    return "b"


async def begin(database: Database, key: str = "k") -> UploadSession:
    upload = UploadSession(new_session_id(), Entry("b", key, ""), "x/y", "alice", await database.now())
    await UploadSessions(database).create(upload)
    return upload


async def put_part(database: Database, upload: UploadSession, number: int, *chunks: int) -> Part:
    page = page_of(*chunks)
    refs = (PageRef(page.id, page.size, len(page.chunks)),)
    part = Part(upload.id, number, page.size, PartSums("e"), await database.now(), refs)
    await Ledger(database).commit_part(Hold(), Progress(part), [page])
    return part


async def complete(database: Database, upload: UploadSession, parts: Sequence[Part]) -> File:
    pages = tuple(page for part in parts for page in part.pages)
    file = replace(object_of("b", upload.entry.key), pages=pages, size=sum(part.size for part in parts))
    return await Catalog(database).complete(upload, file, parts)


async def copy(database: Database, source: File, key: str) -> File:
    assert source.entry
    copied = replace(source, id=new_file_id(), entry=replace(source.entry, key=key))
    (file,) = await Ledger(database).commit_files(Hold(), [copied], [])
    return file


async def delete(database: Database, *keys: str) -> list[Any]:
    return list(await Catalog(database).delete("b", [Wanted(key) for key in keys], DELETION))


async def release(database: Database, *numbers: int) -> int:
    return await Ledger(database).release_pages([page_of(*numbers)])


async def attempt(work: Any) -> Any:
    try:
        return await work
    except MiniS3Error as error:
        return error


async def test_objects_that_share_pages_come_and_go(database: Database, bucket: str) -> None:
    first = await put_object(database, bucket, "a", 1, 2)
    await put_object(database, bucket, "b", 1, 2)
    await put_object(database, bucket, "a", 1, 2)
    await recount(database)
    await copy(database, first, "b")
    await copy(database, first, "c")
    await recount(database)
    await put_object(database, bucket, "a", 3)
    await put_object(database, bucket, "b")
    await recount(database)
    await delete(database, "a", "b", "c", "none", "a")
    assert await database["files"].find({}) == []
    await recount(database)
    assert await release(database, 1, 2) == 1
    await recount(database)


async def test_what_may_not_be_deleted_stays_and_the_rest_goes(database: Database, bucket: str) -> None:
    for key in "abc":
        await put_object(database, bucket, key, 1)

    def judge(version: Version) -> MiniS3Error | None:
        return NoSuchKey("kept") if version.key == "b" else None

    wanted = [Wanted(key) for key in "abc"]
    outcomes = await Catalog(database).delete(bucket, wanted, Deletion("alice", judge))
    assert [isinstance(outcome, NoSuchKey) for outcome in outcomes] == [False, True, False]
    assert [version.key for version in await Objects(database).page(bucket, "", Position(), 9)] == ["b"]
    await recount(database)


@pytest.mark.parametrize("collected", [False, True])
async def test_a_copy_while_its_source_is_deleted(database: Database, bucket: str, collected: bool) -> None:
    """It holds the bytes, or there is none."""
    source = await put_object(database, bucket, "a", 1, 2)

    async def delete_source() -> None:
        await delete(database, "a")
        if collected:
            await release(database, 1, 2)

    async with amidst(Objects, "make_way", delete_source):
        copied = await attempt(copy(database, source, "b"))
    assert isinstance(copied, (File, SourceGone) if collected else File)
    await recount(database)
    assert await Objects(database).find(bucket, "a") is None
    assert (await Objects(database).find(bucket, "b") is not None) == isinstance(copied, File)
    held = {document["_id"]: document for document in await database["pages"].find({"released": None})}
    assert (page_of(1, 2).id in held) or isinstance(copied, SourceGone)


async def test_a_copy_of_what_was_collected_is_refused(database: Database, bucket: str) -> None:
    """Seen to fail where the pages of the source were not looked for."""
    source = await put_object(database, bucket, "a", 1, 2)
    await delete(database, "a")
    await release(database, 1, 2)
    with pytest.raises(SourceGone):
        await copy(database, source, "b")
    await recount(database)


async def test_parts_become_an_object(database: Database, bucket: str) -> None:
    """Equal parts share a page; what is not chosen is released."""
    upload = await begin(database)
    parts = [
        await put_part(database, upload, number, *chunks) for number, chunks in enumerate([(1, 2), (3,), (1, 2)], 1)
    ]
    parts.append(await put_part(database, upload, 7, 4))
    await recount(database)
    file = await complete(database, upload, [parts[0], parts[2]])
    found = await Objects(database).find(bucket, "k")
    assert found is not None
    assert found.file == file
    await recount(database)
    refs = await Pages(database).refs([page_of(1, 2).id, page_of(3).id, page_of(4).id])
    assert refs == {page_of(1, 2).id: 1, page_of(3).id: 0, page_of(4).id: 0}
    with pytest.raises(NoSuchUpload):
        await complete(database, upload, [])
    with pytest.raises(NoSuchUpload):
        await put_part(database, upload, 1, 1)
    assert not await Catalog(database).end_session(upload.id)
    await recount(database)


async def test_a_part_that_comes_again_releases_what_it_was(database: Database, bucket: str) -> None:
    upload = await begin(database)
    for chunks in ((1, 2), (3,), (3,), (1, 2)):
        await put_part(database, upload, 1, *chunks)
        await recount(database)
    await asyncio.gather(*(put_part(database, upload, 1, number) for number in range(5)))
    assert len(await UploadSessions(database).parts(upload.id)) == 1
    await recount(database)
    assert await Catalog(database).end_session(upload.id)
    assert await database["upload_parts"].find({}) == []
    await recount(database)


async def test_a_part_is_replaced_amidst_the_completion(database: Database, bucket: str) -> None:
    """Seen to fail where a part did not touch its session."""
    upload = await begin(database)
    first = await put_part(database, upload, 1, 1)
    async with amidst(Objects, "make_way", lambda: attempt(put_part(database, upload, 1, 2))) as replaced:
        file = await complete(database, upload, [first])
    assert [type(outcome) for outcome in replaced] == [NoSuchUpload]
    assert file.pages == first.pages
    await recount(database)


async def test_a_completion_amidst_a_part(database: Database, bucket: str) -> None:
    upload = await begin(database)
    first = await put_part(database, upload, 1, 1)
    async with amidst(UploadSessions, "put_part", lambda: attempt(complete(database, upload, [first]))) as completed:
        await put_part(database, upload, 1, 2)
    assert [type(outcome) for outcome in completed] == [InvalidPart]
    assert await Objects(database).find(bucket, "k") is None
    await recount(database)


@pytest.mark.parametrize("where", [(UploadSessions, "put_part"), (Pages, "insert")], ids=["early", "late"])
async def test_an_upload_is_given_up_amidst_a_part(database: Database, bucket: str, where: tuple[type, str]) -> None:
    """Seen to fail where a part did not touch its session."""
    upload = await begin(database)
    await put_part(database, upload, 1, 1)
    async with amidst(*where, lambda: Catalog(database).end_session(upload.id)) as ended:
        await attempt(put_part(database, upload, 2, 2))
    assert ended == [True]
    assert await database["upload_parts"].find({}) == []
    await recount(database)


async def test_an_upload_is_given_up_amidst_its_completion(database: Database, bucket: str) -> None:
    upload = await begin(database)
    part = await put_part(database, upload, 1, 1)
    async with amidst(Files, "insert", lambda: Catalog(database).end_session(upload.id)) as ended:
        await complete(database, upload, [part])
    assert ended == [False]
    await recount(database)


async def test_a_session_that_makes_progress_does_not_end(database: Database, bucket: str) -> None:
    upload = await begin(database)
    before = await database.now()
    await put_part(database, upload, 1, 1)
    assert not await Catalog(database).end_session(upload.id, before)
    assert await Catalog(database).end_session(upload.id, await database.now())
    await recount(database)
