"""Upload sessions: whose they are and what their owners learn of others, how long they last, and where they go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from app.api.tus import _state
from app.errors import ContentUnknown, Forbidden, NoSuchUpload, OffsetMismatch, TooLarge
from app.models.buckets import Bucket
from app.models.keys import Permission, Scope
from app.models.sessions import PartSums, UploadSession
from app.store.access import PERMISSIONS, Caller
from app.store.listing import Query
from app.store.uploads import CONCAT, Plan, UploadStore
from app.types import CHUNK_SIZE, ChunkRef, Digest, File
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.properties.house import cut, digest_of
from tests.streams.tools import MIB
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

ALL: frozenset[Permission] = PERMISSIONS - {"admin"}
ALICE = Caller("alice", "A", ALL)
BOB = Caller("bob", "B", ALL)
ADMIN = Caller("carol", "C", PERMISSIONS)
SCOPED = Caller("alice", "D", ALL, (Scope("", "a/"), Scope("photos", "")))
WRITER = Caller("alice", "E", frozenset({"write"}))


@pytest.fixture
async def store(open_store: OpenStore, tmp_path: Path) -> AsyncIterator[Upkept]:
    async with upkept(open_store, tmp_path) as opened:
        yield opened


def seen(store: Upkept, caller: Caller = ALICE) -> UploadStore:
    return store.parts.uploads.seen_by(caller)


async def put(store: Upkept, caller: Caller, name: str, content: bytes) -> File:
    async with store.parts.store.seen_by(caller).upload() as upload:
        await upload.begin_file(name, "x/y")
        await upload.write(content)
        await upload.end_file()
        return (await upload.commit()).files[0]


async def begin(store: Upkept, caller: Caller = ALICE, name: str = "a/1", kind: str = "file") -> UploadSession:
    return await seen(store, caller).begin(Plan(kind, name, "x/y"))  # type: ignore[arg-type]


async def missing(store: Upkept, caller: Caller, name: str, *chunks: bytes) -> list[bytes]:
    uploads = seen(store, caller)
    asked = {digest_of(chunk): len(chunk) for chunk in chunks}
    found = await uploads.missing(await uploads.begin(Plan("file", name, "x/y")), asked)
    return [chunk for chunk in chunks if digest_of(chunk) in found]


async def append(store: Upkept, session: UploadSession, offset: int, *pieces: bytes) -> None:
    async with seen(store).append(session, offset) as appender:
        for piece in pieces:
            await appender.write(piece)
        await appender.finish()


async def offset(store: Upkept, session: UploadSession) -> int:
    return (await seen(store).find_open("tus", str(session.id))).offset


# Whose they are


async def test_sessions_of_others_are_not_there(store: Upkept) -> None:
    session = await begin(store)
    for caller in (BOB, ADMIN):
        with pytest.raises(NoSuchUpload):
            await seen(store, caller).find("file", str(session.id))
        assert await seen(store, caller).list("file", 10, None) == ([], None)
    with pytest.raises(NoSuchUpload):
        await seen(store).find("tus", str(session.id))
    assert [one.id for one in (await seen(store, SCOPED).list("file", 10, None))[0]] == [session.id]


async def test_a_key_that_is_limited_to_names_writes_no_others(store: Upkept) -> None:
    with pytest.raises(Forbidden):
        await begin(store, SCOPED, "b/1")
    other = await begin(store, ALICE, "b/1")
    with pytest.raises(Forbidden):
        await seen(store, SCOPED).find("file", str(other.id))
    partial = await seen(store, SCOPED).begin(Plan("tus", "", "x/y", 1, {CONCAT: "partial"}))
    assert (await seen(store, SCOPED).find("tus", str(partial.id))).id == partial.id


async def test_sessions_of_the_native_api_are_no_uploads_of_a_bucket(store: Upkept) -> None:
    session = await begin(store, name="key")
    sessions, bucket = store.parts.uploads._engine.parts, Bucket("", "alice", session.created_at)
    assert (await sessions.list(bucket, Query(), Query().after(""))).items == []
    with pytest.raises(NoSuchUpload):
        await sessions.find(bucket, "key", str(session.id))


# What is known


async def test_only_chunks_of_own_files_are_known(store: Upkept) -> None:
    """Seen to fail where files of all accounts are looked at; also nobody gets to know by sending or asking first."""
    ours, theirs, nobodys = (os.urandom(1000) for _ in range(3))
    await put(store, ALICE, "a/1", ours)
    await put(store, BOB, "a/1", theirs)
    assert await missing(store, ALICE, "x", ours, theirs, nobodys) == [theirs, nobodys]
    assert await missing(store, BOB, "x", ours, theirs, nobodys) == [ours, nobodys]
    assert await missing(store, ADMIN, "x", ours, theirs, nobodys) == [ours, theirs, nobodys]
    session = await begin(store, BOB)
    async with seen(store, BOB).upload_chunk(session, digest_of(nobodys)) as ingest:
        await ingest.write(nobodys)
    assert await missing(store, ALICE, "x", nobodys) == [nobodys]
    assert await missing(store, BOB, "x", nobodys) == [nobodys], "another session holds it"


async def test_a_key_that_is_limited_to_names_learns_of_no_other_files(store: Upkept) -> None:
    inside, outside = os.urandom(1000), os.urandom(1000)
    await put(store, ALICE, "a/1", inside)
    file = await put(store, ALICE, "b/1", outside)
    assert await missing(store, SCOPED, "a/2", inside, outside) == [outside]
    with pytest.raises(ContentUnknown):
        await seen(store, SCOPED).complete_alike(await begin(store, SCOPED), file.content_id)


async def test_a_key_that_may_not_read_gets_no_content(store: Upkept) -> None:
    file = await put(store, ALICE, "a", b"content")
    with pytest.raises(ContentUnknown):
        await seen(store, WRITER).complete_alike(await begin(store, WRITER), file.content_id)
    with pytest.raises(ContentUnknown):
        await seen(store, BOB).complete_alike(await begin(store, BOB), file.content_id)


async def test_what_a_deleted_file_held_is_not_known(store: Upkept) -> None:
    content = os.urandom(1000)
    file = await put(store, ALICE, "a", content)
    await store.parts.store.seen_by(ALICE).delete(file.id)
    assert await missing(store, ALICE, "a", content) == [content]


async def test_of_a_file_that_resembles_another_everything_is_known(
    store: Upkept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although few are looked for, and chunks that stand alone are all found as long as there are few."""
    monkeypatch.setattr("app.store.negotiation._PROBES", (2, 3))
    cuts = [os.urandom(10) for _ in range(40)]
    session = await begin(store)
    for chunk in cuts:
        async with seen(store).upload_chunk(session, digest_of(chunk)) as ingest:
            await ingest.write(chunk)
    await seen(store).complete_listed(session, lists(cuts))
    alone = [os.urandom(10) for _ in range(3)]
    for number, chunk in enumerate(alone):
        await put(store, ALICE, str(number), chunk)
    new = os.urandom(10)
    assert await missing(store, ALICE, "a", *cuts[:20], new, *cuts[20:]) == [new]
    assert await missing(store, ALICE, "a", *alone, new) == [new]


async def lists(chunks: Sequence[bytes]) -> AsyncIterator[Sequence[ChunkRef]]:
    yield [ChunkRef(digest_of(chunk), len(chunk)) for chunk in chunks]


async def test_a_session_holds_so_much_and_no_more(store: Upkept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.negotiation._HELD", 3)
    cuts = [bytes([n]) * 10 for n in range(4)]
    for number, chunk in enumerate(cuts):
        await put(store, ALICE, str(number), chunk)
    session = await begin(store)
    sizes = {digest_of(chunk): 10 for chunk in cuts}
    with pytest.raises(TooLarge):
        await seen(store).missing(session, sizes)
    three: dict[Digest, int] = dict(list(sizes.items())[:3])
    for _ in range(3):
        assert await seen(store).missing(session, three) == set()


async def test_a_list_has_so_many_chunks_and_no_more(store: Upkept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.negotiation.MAX_CHUNKS", 3)
    session = await begin(store)
    with pytest.raises(TooLarge):
        await seen(store).complete_listed(session, lists([b"x"] * 4))


# How long they last


async def test_a_session_ends_when_it_says(store: Upkept) -> None:
    session = await begin(store, kind="tus")
    assert seen(store).expires_at(session) - session.created_at == timedelta(days=1)
    await append(store, session, 0, b"x")
    later = await seen(store).find("tus", str(session.id))
    assert seen(store).expires_at(later) >= seen(store).expires_at(session)
    told = parsedate_to_datetime(_state(seen(store), later)["Upload-Expires"])
    assert timedelta() <= seen(store).expires_at(later) - told < timedelta(seconds=1)
    await store.age("upload_sessions", 86_390)
    assert (await seen(store).find("tus", str(session.id))).id == session.id
    await store.age("upload_sessions", 11)
    for call in (seen(store).find("tus", str(session.id)), append(store, session, 2, b"y")):
        with pytest.raises(NoSuchUpload):
            await call
    await store.gc()
    assert await store.counts() == {"files": 0, "pages": 0, "chunks": 0, "uploads": 0}


async def test_begun_and_sent_chunks_go_when_the_session_does(store: Upkept) -> None:
    """Seen to fail where bundles are not given back."""
    kept = os.urandom(1000)
    file = await put(store, ALICE, "a", kept)
    session = await begin(store)
    sent = [bytes([n]) * 100 for n in range(66)]
    await seen(store).missing(session, {digest_of(kept): 1000})
    for chunk in sent:
        async with seen(store).upload_chunk(session, digest_of(chunk)) as ingest:
            await ingest.write(chunk)
    assert (await store.check(read_data=True)).findings == []
    await store.gc()
    assert len(store.blobs()) == 67
    await recount(store.database)
    await seen(store).abort(session)
    await store.gc()
    assert len(store.blobs()) == 1
    assert await store.get(file) == kept
    assert await store.database["upload_parts"].find({}) == []
    await recount(store.database)


# Where they go on


async def test_another_gateway_goes_on_with_an_upload(open_store: OpenStore, tmp_path: Path) -> None:
    """And the one that began it adds nothing any more."""
    content = os.urandom(3 * MIB + 5)
    async with upkept(open_store, tmp_path) as one, upkept(open_store, tmp_path) as two:
        session = await begin(one, kind="tus")
        await append(one, session, 0, content[: MIB + 9])
        async with seen(one).append(session, MIB + 9) as old:
            await old.write(os.urandom(500))
            assert await offset(two, session) == MIB + 9
            await append(two, session, MIB + 9, content[MIB + 9 : 2 * MIB])
            with pytest.raises(OffsetMismatch):
                await old.finish()
        with pytest.raises(OffsetMismatch):
            await append(one, session, MIB + 9, b"again")
        await append(one, session, 2 * MIB, content[2 * MIB :])
        made = await seen(two).complete(await seen(two).find("tus", str(session.id)))
        assert await one.get(made.file) == content
        assert (await one.check(read_data=True)).findings == []
        await recount(one.database)


async def test_what_is_appended_is_cut_as_a_whole_file_is(store: Upkept) -> None:
    """But where one request ended and the next one began; parts end where a chunk does."""
    content = os.urandom(4 * MIB + 100)
    await put(store, ALICE, "whole", content)
    session = await begin(store, kind="tus")
    await append(store, session, 0, content[:300])
    await append(store, session, 300, *cut(content[300 : MIB + 50], 70_000))
    await append(store, session, MIB + 50, *cut(content[MIB + 50 :], 333_333))
    before = len(store.blobs())
    made = await seen(store).complete(session)
    assert await store.get(made.file) == content
    listed = (await store.parts.store.manifest(made.file.id, 0, 100)).chunks
    assert [placed.ref.size for placed in listed] == [300, MIB - 300, 50, MIB - 50, MIB, MIB, 100]
    assert before == 5 + 4


async def test_long_appends_are_durable_part_by_part(store: Upkept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.appending._PART", MIB)
    content = os.urandom(3 * MIB + 70_000)
    session = await begin(store, kind="tus")
    async with seen(store).append(session, 0) as appender:
        for piece in cut(content, 70_000):
            await appender.write(piece)
        await appender._settle()
        assert await offset(store, session) == 3 * MIB
        await appender.finish()
    assert [part.size for part in await seen(store).parts(session)] == [MIB, MIB, MIB, 70_000]


@pytest.mark.parametrize(("age", "durable"), [(4.0, 0), (6.0, CHUNK_SIZE), (31.0, CHUNK_SIZE + 5)])
async def test_slow_appends_are_durable_before_long(
    store: Upkept, monkeypatch: pytest.MonkeyPatch, age: float, durable: int
) -> None:
    """Between two chunks after some seconds, anywhere after some more."""
    clock = [0.0]
    monkeypatch.setattr("app.store.appending.monotonic", lambda: clock[0])
    session = await begin(store, kind="tus")
    async with seen(store).append(session, 0) as appender:
        await appender.write(bytes(CHUNK_SIZE - 5))
        clock[0] += age if durable <= CHUNK_SIZE else 0
        await appender.write(bytes(5))
        clock[0] += age if durable > CHUNK_SIZE else 0
        await appender.write(bytes(5))
        await appender._settle()
        assert await offset(store, session) == durable


async def test_what_is_appended_in_tiny_pieces_takes_few_documents(
    store: Upkept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without merging."""
    for name in ("models.sessions", "store.merging"):
        monkeypatch.setattr(f"app.{name}.PAGE_CHUNKS", 8)
    monkeypatch.setattr("app.store.merging._SMALL", 4)
    content = os.urandom(30)
    session = await begin(store, kind="tus")
    for at in range(30):
        await append(store, session, at, content[at : at + 1])
    parts = await seen(store).parts(session)
    assert len(parts) <= 4 + 30 // 8
    assert [part.number for part in parts] == sorted(part.number for part in parts)
    await store.gc()
    assert (await store.check()).findings == []
    made = await seen(store).complete(session)
    assert await store.get(made.file) == content
    assert len(made.file.pages) <= 4 + 30 // 8 * 2
    await recount(store.database)


async def test_chunks_that_are_sent_one_by_one_take_few_documents(
    store: Upkept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models.sessions", "store.merging"):
        monkeypatch.setattr(f"app.{name}.PAGE_CHUNKS", 8)
    monkeypatch.setattr("app.store.merging._SMALL", 4)
    session = await begin(store)
    cuts = [bytes([n]) * 3 for n in range(30)]
    for chunk in [*cuts, *cuts[:10]]:
        async with seen(store).upload_chunk(session, digest_of(chunk)) as ingest:
            await ingest.write(chunk)
    assert len(await store.database["upload_parts"].find({})) <= 4 + 40 // 8
    made = await seen(store).complete_listed(session, lists(cuts))
    assert await store.get(made.file) == b"".join(cuts)
    await store.gc()
    assert len(store.blobs()) == 30
    await recount(store.database)


async def test_a_part_that_is_replaced_while_all_are_taken(store: Upkept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has the new one: it is looked again at what there is."""
    session = await begin(store)

    async def send(body: bytes) -> None:
        async with seen(store).upload(session) as ingest:
            await ingest.begin_file("a", "x/y")
            await ingest.write(body)
            await ingest.end_file()
            await ingest.commit_part(session, 1, PartSums("e"))

    await send(b"one")
    uploads = seen(store)
    parts, looks = uploads.parts, 0

    async def replaced_after(one: UploadSession) -> object:
        nonlocal looks
        found = await parts(one)
        looks += 1
        if looks == 1:
            await send(b"another")
        return found

    monkeypatch.setattr(uploads, "parts", replaced_after)
    made = await uploads.complete(session)
    assert (looks, await store.get(made.file)) == (2, b"another")


async def test_a_session_becomes_one_file_however_often_it_is_completed(store: Upkept) -> None:
    """Seen to fail where two of those who ask at the same time are committed together."""
    file = await put(store, ALICE, "a", b"content")
    for complete in (
        lambda uploads, session: uploads.complete_listed(session, lists([])),
        lambda uploads, session: uploads.complete_alike(session, file.content_id),
        lambda uploads, session: uploads.complete(session, None),
    ):
        session = await seen(store).begin(Plan("file", "name", "x/y"))
        async with seen(store).upload(session) as ingest:
            await ingest.begin_file("a", "x/y")
            await ingest.write(b"x")
            await ingest.end_file()
            await ingest.commit_part(session, 1, PartSums("e"))
        made = await asyncio.gather(*(complete(seen(store), session) for _ in range(5)))
        assert len({one.file.id for one in made}) == 1
        assert [one.just_now for one in made].count(True) == 1
    assert (await store.counts())["files"] == 4
    await recount(store.database)
