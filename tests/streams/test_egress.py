"""Downloads in this process: any cutting, any range, any copy that is good."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.app import Parts
from app.errors import Damaged, NodeError, NodesUnavailable
from app.models.files import new_file_id
from app.models.ledger import Hold
from app.nodes.cluster import Cluster
from app.nodes.guarded import GuardedNode
from app.streams import egress
from app.types import Blob, ChunkRef, ContentName, Digest, File, Page, PageRef, new_generation
from tests.conftest import OpenStore

pytestmark = pytest.mark.anyio


async def store_cut(parts: Parts, content: bytes, sizes: list[int], page_chunks: int) -> File:
    """Commit a file that is cut into chunks of these sizes, in small pages."""
    chunks, at = [], 0
    for size in [*sizes, len(content) - sum(sizes)]:
        chunks.append(content[at : at + size])
        at += size
    refs = [ChunkRef(Digest(hashlib.sha256(chunk).digest()), len(chunk)) for chunk in chunks]
    await parts.store._stages.deduper.store({ref.digest: chunk for ref, chunk in zip(refs, chunks, strict=True)})
    pages = [Page.of(refs[start : start + page_chunks]) for start in range(0, len(refs), page_chunks)]
    name = ContentName()
    for ref in refs:
        name.add(ref.digest)
    listed = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
    file = File(new_file_id(), "f", len(content), "x/y", name.id, datetime.now(UTC), "local", listed)
    await parts.store._stages.ledger.commit_files(Hold(), [file], pages)
    return file


async def read(parts: Parts, file: File, start: int, stop: int) -> bytes:
    async with aclosing(parts.store.read(file, start, stop)) as pieces:
        return b"".join([bytes(piece) async for piece in pieces])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 3000), min_size=0, max_size=20), page=st.integers(1, 6), data=st.data())
def test_any_range_of_any_cutting_is_the_slice(
    open_store: OpenStore, sizes: list[int], page: int, data: st.DataObject
) -> None:
    async def work() -> None:
        content = os.urandom(sum(sizes) + 100)
        async with open_store() as parts:
            file = await store_cut(parts, content, sizes, page)
            for _ in range(5):
                start = data.draw(st.integers(0, len(content)))
                stop = data.draw(st.integers(start, len(content)))
                assert await read(parts, file, start, stop) == content[start:stop]
            listed = await parts.store.manifest(file.id, 1, 3)
            expected = [sum(sizes[:number]) for number in range(1, min(4, len(sizes) + 1))]
            assert [placed.offset for placed in listed.chunks] == expected
            assert parts.store._egress._spare == egress._SHARED

    asyncio.run(work())


async def test_leaving_early_gives_memory_back(open_store: OpenStore) -> None:
    async with open_store() as parts:
        file = await store_cut(parts, os.urandom(100_000), [1000] * 99, 10)
        for pieces_read in range(12):
            async with aclosing(parts.store.read(file, 0, file.size)) as pieces:
                for _ in range(pieces_read):
                    await anext(pieces)
            assert parts.store._egress._spare == egress._SHARED
        for turns in range(60):
            task = asyncio.create_task(read(parts, file, 0, file.size))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert parts.store._egress._spare == egress._SHARED


async def test_reading_ahead_is_bounded(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started = 0
    real = Cluster.read_into

    async def counted(self: Cluster, blob: Blob, buffer: memoryview) -> None:
        nonlocal started
        started += 1
        await real(self, blob, buffer)

    monkeypatch.setattr(Cluster, "read_into", counted)
    async with open_store() as parts:
        file = await store_cut(parts, os.urandom(100_000), [1000] * 99, 100)
        async with aclosing(parts.store.read(file, 0, file.size)) as pieces:
            received = 0
            async for _ in pieces:
                received += 1
                assert started <= received + 2 * egress._GROUP
        monkeypatch.setattr(parts.store._egress, "_spare", 0)
        started = 0
        async with aclosing(parts.store.read(file, 0, 10_000)) as pieces:
            await anext(pieces)
            assert started <= 2


# Several copies


async def with_second_copy(parts: Parts, content: bytes) -> tuple[File, Blob, Blob]:
    file = await store_cut(parts, content, [], 1)
    digest = Digest(hashlib.sha256(content).digest())
    (first,) = (await parts.store._chunks.find([digest]))[digest].blobs
    nodes = list(parts.store._stages.reader._cluster._guards)
    second = Blob(next(node for node in nodes if node != first.node), digest, new_generation())
    await parts.store._stages.reader._cluster.write(second, content)
    named = [{"node": blob.node, "gen": blob.generation} for blob in (first, second)]
    await parts.store._chunks._chunks.update_one({"_id": digest}, {"$set": {"blobs": named}})
    return file, first, second


def path_of(tmp_path: Path, blob: Blob) -> Path:
    return tmp_path / "data" / "nodes" / blob.node / f"{blob.digest[0]:02x}" / blob.name


@pytest.mark.parametrize("damage", ["missing", "short", "wrong"])
async def test_a_bad_copy_is_made_up_for_by_a_good_one(open_store: OpenStore, tmp_path: Path, damage: str) -> None:
    content = os.urandom(5000)
    async with open_store() as parts:
        file, first, second = await with_second_copy(parts, content)
        for number, blob in enumerate((first, second)):
            path = path_of(tmp_path, blob)
            match damage:
                case "missing":
                    path.unlink()
                case "short":
                    os.truncate(path, 4999)
                case "wrong":
                    path.write_bytes(os.urandom(5000))
            if number == 0:
                assert await read(parts, file, 10, 4000) == content[10:4000]
        with pytest.raises(Damaged):
            await read(parts, file, 0, 5000)
        assert parts.store._egress._spare == egress._SHARED


async def test_a_copy_that_moved_is_found(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document changes between the look-up and the read, as when a node is drained."""
    content = os.urandom(5000)
    real = Cluster.read_into
    moved = False
    async with open_store() as parts:
        file = await store_cut(parts, content, [], 1)

        async def move_first(self: Cluster, blob: Blob, buffer: memoryview) -> None:
            nonlocal moved
            if not moved:
                moved = True
                to = Blob(blob.node, blob.digest, new_generation())
                await self.write(to, content)
                change: Any = {"$set": {"gen": to.generation, "blobs": [{"node": to.node, "gen": to.generation}]}}
                await parts.store._chunks._chunks.update_one({"_id": blob.digest}, change)
                await self.unlink([blob])
            await real(self, blob, buffer)

        monkeypatch.setattr(Cluster, "read_into", move_first)
        assert await read(parts, file, 0, 5000) == content


async def test_a_node_that_does_not_answer_is_no_damage(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store() as parts:
        file = await store_cut(parts, os.urandom(100), [], 1)

        async def fail(*_: Any) -> None:
            raise NodeError("away")

        monkeypatch.setattr(GuardedNode, "read_into", fail)
        with pytest.raises(NodesUnavailable):
            await read(parts, file, 0, 100)


async def test_info_agrees_with_brute_force(open_store: OpenStore) -> None:
    """`unique` is what the referenced chunks would lose if the file and its own pages went."""
    async with open_store() as parts:
        pool = [os.urandom(number + 1) for number in range(8)]
        files: list[tuple[File, list[bytes]]] = []
        for picks in ([0, 1, 2], [0, 1, 2], [2, 3, 3], [4, 5, 4, 5], [6, 6], [0, 7, 2, 3], []):
            cut = [pool[pick] for pick in picks] or [b"last"]
            content = b"".join(cut)
            files.append((await store_cut(parts, content, [len(part) for part in cut[:-1]], 2), cut))
        for file, cut in files:
            others = {part for other, parts_of in files if other is not file for part in parts_of}
            expected = sum(len(part) for part in set(cut) - others)
            assert (await parts.store.info(file.id)).unique == expected
