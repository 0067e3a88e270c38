"""Uploads in parts, with their bytes: what is read back, and what is given back when they expire."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.models.buckets import Bucket
from app.models.catalog import Catalog
from app.models.objects import Objects
from app.models.pages import Pages
from app.models.sessions import Part, PartSums, UploadSession, UploadSessions
from app.store.objects import Wish
from app.store.sessions import SessionStore
from app.types import CHUNK_SIZE, ContentName, Entry
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.properties.house import cut, digest_of
from tests.streams.tools import MIB, write
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

NATIVE = Entry("", "k", "")


@pytest.fixture
async def store(open_store: OpenStore, tmp_path: Path) -> AsyncIterator[Upkept]:
    async with upkept(open_store, tmp_path) as opened:
        yield opened


def sessions_of(store: Upkept) -> SessionStore:
    stages, database = store.parts.store._stages, store.database
    return SessionStore(stages, UploadSessions(database), Pages(database), Catalog(database))


async def upload(store: Upkept, *bodies: bytes) -> tuple[UploadSession, Sequence[Part]]:
    """A session with these parts, the last of which came first."""
    sessions = sessions_of(store)
    session = await sessions.begin(Wish(NATIVE, "x/y", "alice"))
    for number, body in reversed(list(enumerate(bodies, 1))):
        async with sessions.upload(session) as ingest:
            await write(ingest, body)
            await ingest.commit_part(session, number, PartSums("e"))
    return session, await sessions.parts(session)


SIZES = [
    (),
    (0,),
    (1,),
    (1, 1, 1),
    (0, 5, 0),
    (MIB, MIB),
    (MIB - 1, 1, MIB + 1),
    (3 * MIB + 7, 1, 2 * MIB, 1),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
async def test_parts_of_any_sizes_are_read_back_as_one(store: Upkept, sizes: tuple[int, ...]) -> None:
    bodies = [os.urandom(size) for size in sizes]
    session, parts = await upload(store, *bodies)
    file = await sessions_of(store).complete(session, parts, Entry("", "k", "e"))
    content = b"".join(bodies)
    assert await store.get(file) == content
    for start in {0, 1, len(content) // 2, max(0, len(content) - 1)}:
        for stop in {start, min(start + 1, len(content)), len(content)}:
            pieces = [bytes(piece) async for piece in store.parts.store.read(file, start, stop)]
            assert b"".join(pieces) == content[start:stop]
    name = ContentName()
    for body in bodies:
        for chunk in cut(body, CHUNK_SIZE):
            name.add(digest_of(chunk))
    assert (file.size, file.content_id, file.owner, file.content_type) == (len(content), name.id, "alice", "x/y")
    found = await Objects(store.database).find("", "k")
    assert found is not None
    assert found.file == file
    assert (await store.check(read_data=True)).findings == []
    await recount(store.database)


async def test_the_object_of_one_part_has_the_content_id_of_its_bytes(store: Upkept) -> None:
    body = os.urandom(2 * MIB + 1)
    session, parts = await upload(store, body)
    file = await sessions_of(store).complete(session, parts, Entry("", "k", "e"))
    (same,) = await store.put(body)
    assert same.content_id == file.content_id
    assert len(store.blobs()) == 3


async def test_open_uploads_are_no_damage_and_keep_their_chunks(store: Upkept) -> None:
    """Seen to fail where the check counts files and uploads only."""
    body = os.urandom(MIB)
    session, _ = await upload(store, body, body, os.urandom(10))
    assert (await store.check(read_data=True)).findings == []
    assert (await store.gc()).found_work is False
    parts = await sessions_of(store).parts(session)
    file = await sessions_of(store).complete(session, parts[:2], Entry("", "k", "e"))
    assert await store.get(file) == body + body
    await store.gc()
    assert len(store.blobs()) == 1
    assert (await store.check(read_data=True)).findings == []


async def test_an_upload_that_expired_is_given_back(store: Upkept) -> None:
    """By the time of its last part, not of its beginning."""
    session, _ = await upload(store, os.urandom(MIB), os.urandom(5))
    await store.age("upload_sessions", 90)
    assert (await store.gc(upload_expiry=100)).uploads == 0
    assert len(store.blobs()) == 2
    await store.age("upload_sessions", 11)
    assert (await store.foresee(upload_expiry=100)).uploads == 1
    assert (await store.gc(upload_expiry=100)).uploads == 1
    assert (await store.counts(), store.blobs()) == ({"files": 0, "pages": 0, "chunks": 0, "uploads": 0}, [])
    assert await store.database["upload_parts"].find({}) == []
    assert await UploadSessions(store.database).find(str(session.id)) is None
    await recount(store.database)


async def test_a_completed_upload_is_remembered_until_it_expires(store: Upkept) -> None:
    session, parts = await upload(store, b"some bytes")
    sessions = sessions_of(store)
    file = await sessions.complete(session, parts, Entry("", "k", "e"))
    bucket = Bucket("", "local", session.created_at)
    assert (await sessions.find(bucket, "k", str(session.id))).done == file.id
    await store.age("upload_sessions", 101)
    await store.gc(upload_expiry=100)
    assert await UploadSessions(store.database).find(str(session.id)) is None
    assert await store.get(file) == b"some bytes"
    await recount(store.database)
