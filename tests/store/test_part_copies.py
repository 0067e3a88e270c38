"""Parts that take over the pages of files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.errors import NoSuchKey, NoSuchUpload
from app.models.database import open_database
from app.models.ledger import Ledger
from app.models.sessions import PartSums, UploadSession
from app.server import Faces, open_parts
from app.store.objects import Wish
from app.types import Entry, File
from tests.models.builders import recount
from tests.support import Databases

pytestmark = pytest.mark.anyio

SUMS = PartSums("0" * 32)


@pytest.fixture
def name(databases: Databases) -> Iterator[str]:
    with databases.fresh() as name:
        yield name


@pytest.fixture
async def faces(databases: Databases, name: str, tmp_path: Path) -> AsyncIterator[Faces]:
    """A store; in the end every sum in it is what the documents say."""
    async with open_parts(databases.assignment(name, tmp_path)) as opened:
        yield opened
    async with open_database(databases.mongo_url, name) as database:
        await recount(database)


async def file_of(faces: Faces, content: bytes) -> File:
    async with faces.api.store.upload() as ingest:
        await ingest.begin_file("a", "text/plain")
        await ingest.write(content)
        await ingest.end_file()
        return (await ingest.commit()).files[0]


async def session_of(faces: Faces) -> UploadSession:
    await faces.s3.buckets.create("bucket", "local", {})
    return await faces.s3.sessions.begin(Wish(Entry("bucket", "key", ""), "text/plain", "local"))


@pytest.mark.parametrize("times", [1, 2], ids=["new", "in the place of itself"])
async def test_a_part_keeps_the_pages_of_a_file_that_is_deleted(faces: Faces, times: int) -> None:
    file, session = await file_of(faces, b"abc"), await session_of(faces)
    for _ in range(times):
        part = await faces.s3.sessions.copy_part(session, 1, file, SUMS)
    await faces.api.store.delete(file.id)
    made = await faces.s3.sessions.complete(session, [part], Entry("bucket", "key", "etag"))
    assert b"".join([bytes(piece) async for piece in faces.s3.objects.read(made, 0, made.size)]) == b"abc"


async def test_nothing_is_made_of_a_file_whose_pages_are_gone(databases: Databases, name: str, faces: Faces) -> None:
    file, session = await file_of(faces, b"abc"), await session_of(faces)
    await faces.api.store.delete(file.id)
    assert file.only_page
    async with open_database(databases.mongo_url, name) as database:
        assert await Ledger(database).release_pages([file.only_page]) == 1
    with pytest.raises(NoSuchKey):
        await faces.s3.sessions.copy_part(session, 1, file, SUMS)
    assert await faces.s3.sessions.parts(session) == []


async def test_no_part_of_an_upload_that_is_given_up(faces: Faces) -> None:
    file, session = await file_of(faces, b"abc"), await session_of(faces)
    await faces.s3.sessions.abort(session)
    with pytest.raises(NoSuchUpload):
        await faces.s3.sessions.copy_part(session, 1, file, SUMS)
