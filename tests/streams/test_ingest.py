"""Uploads in this process, on a real MongoDB, with faults where they can't be had from outside."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.app import Parts
from app.coord.locks import Locks
from app.errors import DatabaseUnavailable, NodeError, TooLarge, UploadInterrupted
from app.models.chunks import Chunks
from app.models.database import Collection
from app.nodes.cluster import Cluster
from app.streams import chunker, dedupe, ingest
from app.streams.chunker import Filling
from app.streams.hasher import Hasher
from app.streams.ingest import BATCH, Receipt
from app.types import Blob, Digest
from tests.conformance.nodes import read_blob
from tests.conftest import OpenStore
from tests.streams.tools import MIB, put, write

pytestmark = pytest.mark.anyio


async def get(parts: Parts, receipt: Receipt, number: int = 0) -> bytes:
    file = receipt.files[number]
    return b"".join([bytes(piece) async for piece in parts.store.read(file, 0, file.size)])


def pool_of(parts: Parts) -> Any:
    return parts.store._stages.pool


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.data())
def test_chunks_are_the_slices_of_the_file(content: bytes, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunker, "CHUNK_SIZE", 32)
        chunks: list[bytes] = []
        filling = Filling(memoryview(bytearray(32)))
        rest = memoryview(content)
        while rest:
            cut = data.draw(st.integers(1, len(rest)))
            piece, rest = rest[:cut], rest[cut:]
            while piece:
                piece = filling.fill(piece)
                if filling.full:
                    chunks.append(bytes(filling.chunk))
                    filling = Filling(memoryview(bytearray(32)))
        chunks += [bytes(filling.chunk)] if filling.chunk else []
    assert chunks == [content[start : start + 32] for start in range(0, len(content), 32)]


@pytest.mark.parametrize("sizes", [[], [0], [1], [5, 0, 100_000], [70_000] * 17])
async def test_a_batch_of_digests(sizes: list[int]) -> None:
    hasher = Hasher()
    contents = [os.urandom(size) for size in sizes]
    assert await hasher.digests(contents) == [hashlib.sha256(content).digest() for content in contents]
    hasher.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 2 * MIB + 10), min_size=1, max_size=4), piece=st.integers(1000, 3 * MIB))
def test_what_went_in_comes_out(open_store: OpenStore, sizes: list[int], piece: int) -> None:
    async def work() -> None:
        contents = [os.urandom(size) for size in sizes]
        async with open_store() as parts:
            receipt = await put(parts, *contents, piece=piece)
            assert [await get(parts, receipt, number) for number in range(len(contents))] == contents
            assert pool_of(parts).in_use == 0

    asyncio.run(work())


async def test_pages_are_committed_on_the_way(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "PAGE_CHUNKS", 5)
    content = os.urandom(22 * MIB)
    async with open_store() as parts:
        receipt = await put(parts, content, content[: 7 * MIB])
        assert [page.chunks for page in receipt.files[0].pages] == [5, 5, 5, 5, 2]
        assert await get(parts, receipt) == content
        assert await get(parts, receipt, 1) == content[: 7 * MIB]
        again = await put(parts, content)
        assert again.files[0].pages == receipt.files[0].pages
        assert again.files[0].content_id == receipt.files[0].content_id
        assert again.counts.new == 0
        for file in (*receipt.files, *again.files):
            await parts.store.delete(file.id)
        pages = parts.store._pages
        assert set((await pages.refs(page.id for page in receipt.files[0].pages)).values()) == {0}


async def test_a_slow_upload_commits_pages_early(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_PAGE_AGE", -1.0)
    content = os.urandom((BATCH + 4) * MIB)
    async with open_store() as parts:
        receipt = await put(parts, content)
        assert [page.chunks for page in receipt.files[0].pages] == [BATCH, 4]
        assert await get(parts, receipt) == content


async def test_an_upload_that_fails_leaves_nothing(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "PAGE_CHUNKS", 5)
    async with open_store(max_file_size=60 * MIB) as parts:
        with pytest.raises(TooLarge):
            await put(parts, os.urandom(61 * MIB))
        assert pool_of(parts).in_use == 0
        assert (await parts.store.list_files(10, None, "")).files == []
        uploads = parts.store._stages.ledger._uploads._uploads
        assert await uploads.find({}) == []
        pages = parts.store._pages._pages
        assert {page["refs"] for page in await pages.find({})} == {0}


async def test_an_upload_may_be_cancelled_anywhere(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled after n turns of the event loop, for many n: memory and documents are in order."""
    monkeypatch.setattr(ingest, "PAGE_CHUNKS", 5)
    content = os.urandom(40 * MIB)
    async with open_store(buffer_memory=20 * MIB) as parts:
        for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233):
            task = asyncio.create_task(put(parts, content))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert pool_of(parts).in_use == 0
            assert await parts.store._stages.ledger._uploads._uploads.find({}) == []
        receipt = await put(parts, content)
        assert await get(parts, receipt) == content


async def test_more_uploads_than_memory_all_end(open_store: OpenStore) -> None:
    contents = [os.urandom(3 * MIB + 1) for _ in range(12)]
    async with open_store(buffer_memory=4 * MIB) as parts:
        receipts = await asyncio.gather(*(put(parts, content) for content in contents))
        for receipt, content in zip(receipts, contents, strict=True):
            assert await get(parts, receipt) == content
        assert pool_of(parts).in_use == 0


# Round trips


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that reach the database outside transactions' bookkeeping, and the collector's lease."""
    made: list[str] = []
    for name in ("find", "find_one", "bulk_update", "update_one", "update_many", "insert_one", "insert_many"):
        real = getattr(Collection, name)

        async def call(self: Collection, *arguments: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            if self._collection.name != "upkeep":
                made.append(f"{self._collection.name}.{_name}")
            return await _real(self, *arguments, **options)

        monkeypatch.setattr(Collection, name, call)
    return made


async def test_a_batch_costs_a_fixed_number_of_round_trips(open_store: OpenStore, calls: list[str]) -> None:
    async with open_store() as parts:
        deduper = parts.store._stages.deduper
        for count in (1, 16):
            contents = [os.urandom(100) for _ in range(count)]
            batch = {Digest(hashlib.sha256(content).digest()): content for content in contents}
            calls.clear()
            assert await deduper.store(batch) == set(batch)
            assert calls == ["chunks.find", "chunks.bulk_update", "chunks.bulk_update"]
            calls.clear()
            assert await deduper.store(batch) == set()
            assert calls == ["chunks.find", "chunks.update_many"], "no page holds them yet: they are touched"


async def test_a_second_upload_writes_nothing_until_its_page_commits(open_store: OpenStore, calls: list[str]) -> None:
    content = os.urandom(20 * MIB)
    async with open_store() as parts:
        await put(parts, content)
        async with parts.store.upload() as upload:
            calls.clear()
            await write(upload, content)
            assert set(calls) == {"chunks.find"}
            await upload.commit()


# Many writers


class NoLocks(Locks):
    """Everybody gets every lock, as among processes whose Redis is away."""

    async def take(self, keys: Any) -> set[str]:
        return set(keys)

    async def release(self, keys: Any) -> None: ...

    async def wait(self, keys: Any, timeout: float) -> None: ...


@pytest.mark.parametrize("useless_locks", [False, True])
async def test_writers_of_the_same_chunks_end_with_one_copy(
    open_store: OpenStore, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, useless_locks: bool
) -> None:
    monkeypatch.setattr(dedupe, "_PATIENCE", 0.0 if useless_locks else dedupe._PATIENCE)
    content = os.urandom(12 * MIB + 5)
    async with open_store() as parts:
        if useless_locks:
            monkeypatch.setattr(parts.store._stages.deduper, "_locks", NoLocks())
        receipts = await asyncio.gather(*(put(parts, content) for _ in range(6)))
        assert all([await get(parts, receipt) == content for receipt in receipts])
        chunks = await parts.store._chunks._chunks.find({})
        assert {chunk["state"] for chunk in chunks} == {"live"}
        named = {f"{chunk['_id'].hex()}.{blob['gen']}" for chunk in chunks for blob in chunk["blobs"]}
        assert {path.name for path in (tmp_path / "data" / "nodes").glob("*/??/*")} == named


async def test_the_chunk_of_a_crashed_writer_is_taken_over(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupe, "_PATIENCE", 0.1)
    content = os.urandom(1000)
    async with open_store() as parts:
        with monkeypatch.context() as crashing:
            crashing.setattr(Cluster, "write", fail_with(DatabaseUnavailable("crash")))
            with pytest.raises(DatabaseUnavailable):
                await put(parts, content)
        (chunk,) = await parts.store._chunks._chunks.find({})
        assert chunk["state"] == "pending"
        receipt = await put(parts, content)
        assert await get(parts, receipt) == content
        (taken,) = await parts.store._chunks._chunks.find({})
        assert (taken["state"], taken["gen"] != chunk["gen"]) == ("live", True)


def fail_with(error: Exception) -> Any:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


async def test_a_blob_is_named_before_it_is_written_and_durable_before_it_is_live(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules R1 and R6. Seen to fail with the naming after the writes, and with make_live before them."""
    real_write, real_live = Cluster.write, Chunks.make_live
    steps: list[str] = []
    async with open_store() as parts:
        chunks = parts.store._chunks

        async def write_checked(self: Cluster, blob: Blob, data: Any) -> None:
            chunk = (await chunks.find([blob.digest]))[blob.digest]
            assert (chunk.state, chunk.blobs) == ("pending", (blob,))
            await real_write(self, blob, data)
            steps.append("written")

        async def live_checked(self: Chunks, namings: Any) -> Any:
            for naming in namings:
                assert (
                    len(await read_blob(parts.store._stages.reader._cluster, naming.blobs[0], naming.size))
                    == naming.size
                )
            steps.append("live")
            return await real_live(self, namings)

        monkeypatch.setattr(Cluster, "write", write_checked)
        monkeypatch.setattr(Chunks, "make_live", live_checked)
        await put(parts, os.urandom(3 * MIB))
    assert steps == ["written"] * 3 + ["live"]


# Rule R4: what is reclaimed under an upload is stored again


async def reclaim(parts: Parts, *, unlink: bool) -> None:
    """What the collector does to chunks without references: dead, unlinked, removed."""
    chunks = parts.store._chunks
    for document in await chunks._chunks.find({"refs": 0}):
        await chunks._chunks.update_one({"_id": document["_id"]}, {"$set": {"state": "dead"}})
        if unlink:
            chunk = (await chunks.find([document["_id"]]))[document["_id"]]
            await parts.store._stages.reader._cluster.unlink(chunk.blobs)
            await chunks._chunks.delete_many({"_id": document["_id"]})


@pytest.mark.parametrize(("size", "unlink"), [(3 * MIB, False), (3 * MIB, True), ((2 * BATCH + 3) * MIB, False)])
async def test_chunks_reclaimed_before_the_commit_are_stored_again(
    open_store: OpenStore, size: int, unlink: bool
) -> None:
    content = os.urandom(size)
    async with open_store(gc_interval=0) as parts:
        async with parts.store.upload() as upload:
            await write(upload, content)
            await reclaim(parts, unlink=unlink)
            receipt = await upload.commit()
        assert await get(parts, receipt) == content
        assert {chunk["refs"] for chunk in await parts.store._chunks._chunks.find({})} == {1}


async def test_an_upload_whose_bytes_are_gone_asks_for_them_again(open_store: OpenStore) -> None:
    content = os.urandom((2 * BATCH + 3) * MIB)
    async with open_store(gc_interval=0) as parts:
        with pytest.raises(UploadInterrupted):
            async with parts.store.upload() as upload:
                await write(upload, content)
                await reclaim(parts, unlink=True)
                await upload.commit()
        assert (await parts.store.list_files(10, None, "")).files == []
        receipt = await put(parts, content)
        assert await get(parts, receipt) == content


async def test_a_failed_write_is_placed_elsewhere(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(9 * MIB)
    async with open_store() as parts:
        node = parts.store._stages.reader._cluster._guards["node2"]._behind  # type: ignore[index]
        monkeypatch.setattr(node, "write", fail_with(NodeError("broken")))
        receipt = await put(parts, content)
        assert await get(parts, receipt) == content
        assert receipt.counts.new == 9
        chunks = await parts.store._chunks._chunks.find({})
        assert {chunk["blobs"][0]["node"] for chunk in chunks} == {"node1", "node3"}


async def test_the_event_loop_is_never_blocked(open_store: OpenStore) -> None:
    """Disk, hashing and locks run in threads: blockbuster raises where the loop's own thread blocks."""
    content = os.urandom(5 * MIB)
    async with open_store() as parts:
        await put(parts, b"opens the connections, for which drivers look at their own files")
        with blockbuster_ctx("app"):
            receipt = await put(parts, content)
            assert await get(parts, receipt) == content
            await parts.store.info(receipt.files[0].id)
            await parts.statistics.read()
            await parts.readiness.check()
            await parts.store.delete(receipt.files[0].id)
