"""What is given back, when, and what stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.errors import NodeError
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.leases import Lease
from app.types import Blob, new_generation
from app.upkeep.mover import Mover
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB, write
from tests.support import eventually_async
from tests.upkeep.tools import upkept

pytestmark = pytest.mark.anyio


async def test_a_deleted_file_is_given_back_and_what_others_share_stays(open_store: OpenStore, tmp_path: Path) -> None:
    """R5, R2. Seen to fail with a claim that does not ask for `refs: 0`."""
    async with upkept(open_store, tmp_path) as store:
        shared, alone = os.urandom(2 * MIB), os.urandom(3 * MIB)
        first, second = await store.put(shared + alone, shared)
        await store.parts.store.delete(first.id)
        done = await store.gc()
        assert (done.chunks, done.bytes) == (3, 3 * MIB)
        assert await store.get(second) == shared
        assert len(store.blobs()) == 2
        await recount(store.database)
        await store.parts.store.delete(second.id)
        await store.gc()
        assert (await store.counts(), store.blobs()) == ({"files": 0, "pages": 0, "chunks": 0, "uploads": 0}, [])
        await recount(store.database)


async def test_chunks_wait_for_the_grace_by_the_databases_clock(open_store: OpenStore, tmp_path: Path) -> None:
    """R7. Seen to fail with a claim that does not look at `at`."""
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(3 * MIB))
        await store.parts.store.delete(file.id)
        assert (await store.gc(grace=100)).chunks == 0
        assert (await store.counts())["chunks"] == 3
        assert await store.get(file), "a download that has begun reads on"
        await store.age("chunks", 90)
        assert (await store.gc(grace=100)).chunks == 0
        await store.age("chunks", 11)
        assert (await store.foresee(grace=100)).chunks == 3
        assert (await store.gc(grace=100)).chunks == 3


async def test_a_dry_run_tells_what_a_run_does_and_changes_nothing(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        (file, kept) = await store.put(os.urandom(3 * MIB), os.urandom(MIB))
        await store.parts.store.delete(file.id)
        await store.gc(grace=100)
        stray = store.blobs()[0]
        stray.with_name(f"{stray.name[:65]}{new_generation()}").write_bytes(b"12345")
        before = await store.counts(), store.blobs()
        foreseen = await store.foresee()
        assert (await store.counts(), store.blobs()) == before
        done = await store.gc()
        assert (foreseen.chunks, foreseen.unnamed, foreseen.bytes) == (done.chunks, done.unnamed, done.bytes)
        assert (done.chunks, done.unnamed, done.bytes) == (3, 1, 3 * MIB + 5)
        assert await store.get(kept)


async def test_pages_of_a_deleted_file_are_released_within_moments(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(3 * MIB))
        await store.parts.store.delete(file.id)

        async def released() -> bool:
            return {page.get("released") for page in await store.database["pages"].find({})} == {True}

        await eventually_async(released)
        await recount(store.database)


async def test_a_page_is_taken_back_into_use(open_store: OpenStore, tmp_path: Path) -> None:
    """R4 for a page that was released: its chunks are asserted and counted anew. Seen to fail when a
    released page is referred to as any other."""
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(3 * MIB)
        (file,) = await store.put(content)
        await store.parts.store.delete(file.id)
        await store.gc(grace=100)
        (again,) = await store.put(content)
        assert again.pages == file.pages
        assert (await store.gc()).chunks == 0
        assert await store.get(again) == content
        await recount(store.database)


async def test_an_abandoned_upload_is_ended(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.ingest.PAGE_CHUNKS", 2)
    async with upkept(open_store, tmp_path) as store:
        async with store.parts.store.upload() as upload:
            await write(upload, os.urandom(5 * MIB))
            assert (await store.counts())["uploads"] == 1
            assert (await store.gc(grace=100, upload_expiry=100)).uploads == 0
            await store.age("uploads", 101)
            done = await store.gc(upload_expiry=100)
            assert (done.uploads, done.pages, done.chunks) == (1, 2, 5)
            await upload.abort()
        assert (await store.counts(), store.blobs()) == ({"files": 0, "pages": 0, "chunks": 0, "uploads": 0}, [])
        await recount(store.database)


async def test_what_a_crashed_collector_began_is_finished(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when dead chunks are not picked up."""
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(3 * MIB))
        await store.parts.store.delete(file.id)
        await store.gc(grace=100)
        digests = [chunk["_id"] for chunk in await store.database["chunks"].find({})]
        claimed = await Chunks(store.database).claim(digests, await store.database.now())
        assert {chunk.state for chunk in claimed} == {"dead"}
        assert (await store.gc(grace=100)).chunks == 3
        assert store.blobs() == []


async def test_a_node_that_fails_leaves_its_chunks_to_the_next_run(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2: a document is not removed before its blobs are. Seen to fail when `left` is not looked at."""
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(3 * MIB))
        await store.parts.store.delete(file.id)
        broken = store.cluster._guards["node1"]._behind  # type: ignore[index]

        async def fail(blobs: object) -> None:
            raise NodeError("broken")

        with monkeypatch.context() as patched:
            patched.setattr(broken, "unlink", fail)
            done = await store.gc()
            assert (done.chunks, done.left) == (2, 1)
        assert {chunk["state"] for chunk in await store.database["chunks"].find({})} == {"dead"}
        assert (await store.gc()).chunks == 1
        assert store.blobs() == []


async def test_unnamed_and_unfinished_blobs_are_swept(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(2 * MIB))
        named = store.blobs()
        stray = named[0].with_name(f"{named[0].name[:65]}{new_generation()}")
        stray.write_bytes(b"1")
        stray.with_name(f".tmp-{named[0].name[:65]}{new_generation()}").write_bytes(b"12")
        (stray.parent / "README").write_text("not ours")
        done = await store.gc(grace=100)
        assert (done.unnamed, done.bytes) == (2, 3)
        assert set(store.blobs()) == {*named, stray.parent / "README"}
        assert (await store.get(file))[:1]


async def test_a_blob_that_may_save_a_chunk_is_kept(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        await store.put(os.urandom(100))
        (named,) = store.blobs()
        saviour = named.with_name(f"{named.name[:65]}{new_generation()}")
        named.rename(saviour)
        assert (await store.gc()).unnamed == 0
        assert saviour.exists()


async def test_an_abandoned_copy_is_dropped(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(os.urandom(100))
        chunks = Chunks(store.database)
        (document,) = await store.database["chunks"].find({})
        chunk = (await chunks.find([document["_id"]]))[document["_id"]]
        copy = Blob(chunk.blobs[0].node, chunk.digest, new_generation())
        assert await chunks.name_added(chunk, [copy])
        await store.cluster.write(copy, b"x")
        assert (await store.gc(grace=100)).copies == 0
        assert len(store.blobs()) == 2
        assert (await store.gc()).copies == 1
        assert len(store.blobs()) == 1
        assert await store.get(file)


async def test_a_blob_moves_to_another_node(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(3 * MIB)
        (file,) = await store.put(content)
        mover = Mover(store.database, store.cluster, store.parts.store._stages.hasher)
        chunks = Chunks(store.database)
        ids = [document["_id"] for document in await store.database["chunks"].find({})]
        for chunk in (await chunks.find(ids)).values():
            assert await mover.move(chunk, chunk.blobs[0], store.cluster.node_ids[0])
            assert not await mover.move(chunk, chunk.blobs[0], store.cluster.node_ids[0]), "it is not there any more"
        assert {path.parent.parent.name for path in store.blobs()} == {"node1"}
        assert await store.get(file) == content
        await recount(store.database)
        assert (await store.check(read_data=True)).findings == []


async def test_one_process_has_the_lease(database: Database) -> None:
    lease = Lease(database, "collector")
    assert await lease.take("a", 60)
    assert not await lease.take("b", 60)
    assert await lease.take("a", 0), "the holder keeps it"

    async def passed_on() -> bool:
        return await lease.take("b", 60)

    await eventually_async(passed_on)
    await lease.give_back("b")
    assert await lease.take("a", 60)
