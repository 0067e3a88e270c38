"""Chunks that are cut into shards: what the loss of nodes costs, and how it is made good."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from app.errors import Damaged, NodesUnavailable
from app.models.chunk import Chunk
from app.models.tallies import Tallies
from app.streams import reader
from app.types import NodeId, Redundancy
from app.upkeep.mover import Mover
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB
from tests.upkeep.test_checking import kinds
from tests.upkeep.test_copies import emptied, failing, hang
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

NODES = tuple(f"n{number}" for number in range(6))


@asynccontextmanager
async def coded(
    open_store: OpenStore, tmp_path: Path, redundancy: str = "ec:4+2", nodes: tuple[str, ...] = NODES, **settings: Any
) -> AsyncIterator[Upkept]:
    urls = ",".join(str(tmp_path / "data" / "nodes" / node) for node in nodes)
    async with upkept(open_store, tmp_path, redundancy=redundancy, nodes=urls, **settings) as store:
        yield store


async def chunks_of(store: Upkept) -> list[Chunk]:
    return [Chunk.read(document) for document in await store.database["chunks"].find({})]


def spoil(store: Upkept, node: str) -> int:
    """Change a byte in each blob of a node; how many blobs it has."""
    blobs = list((store.nodes / node).glob("??/*"))
    for blob in blobs:
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.write_bytes(content)
    return len(blobs)


async def test_each_shard_is_on_a_node_of_its_own(open_store: OpenStore, tmp_path: Path) -> None:
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(3 * MIB + 70_001)
        (file,) = await store.put(content)
        assert await store.placed() == [set(NODES)] * 4
        assert sorted({blob.stat().st_size for blob in store.blobs()}) == [17_501, MIB // 4]
        assert await store.get(file) == content
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)
        held = (await Tallies(store.database).read()).nodes
        assert sum(node.bytes for node in held.values()) == 6 * (3 * MIB // 4 + 17_501)
        await store.parts.store.delete(file.id)
        await store.gc()
        assert store.blobs() == []


async def test_small_chunks_are_kept_as_copies(open_store: OpenStore, tmp_path: Path) -> None:
    """They survive as much, in half as many blobs."""
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(10_000)
        (file,) = await store.put(content)
        (chunk,) = await chunks_of(store)
        assert (chunk.redundancy, len(chunk.blobs)) == (Redundancy(1, 2), 3)
        assert await store.get(file) == content
        assert (await store.check(read_data=True)).findings == []


async def test_any_two_nodes_may_lose_all(open_store: OpenStore, tmp_path: Path) -> None:
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(2 * MIB + 99_999)
        (file,) = await store.put(content)
        for lost in combinations(NODES, 2):
            gone = sum(emptied(store, node) for node in lost)
            assert await store.get(file) == content
            assert kinds(await store.check()) == ["blob-missing"] * gone
            assert (await store.check(repair=True)).left == []
        assert (await store.check(read_data=True)).findings == []
        assert await store.placed() == [set(NODES)] * 3
        assert await store.get(file) == content
        await recount(store.database)


async def test_wrong_shards_are_told_from_right_ones(open_store: OpenStore, tmp_path: Path) -> None:
    """The library that decodes would make wrong bytes of them. Seen to fail without their digests."""
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(2 * MIB)
        (file,) = await store.put(content)
        spoilt = spoil(store, "n1") + spoil(store, "n4")
        assert await store.get(file) == content
        report = await store.check(read_data=True, repair=True)
        assert kinds(report) == ["blob-wrong"] * spoilt
        assert report.left == []
        assert len(list((store.nodes / "n1" / "quarantine").iterdir())) == 2
        assert (await store.check(read_data=True)).findings == []
        assert await store.get(file) == content


async def test_what_is_left_of_a_lost_chunk_is_kept(open_store: OpenStore, tmp_path: Path) -> None:
    """Three nodes lose all: too many. With one more shard, from wherever, the others would be enough."""
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(MIB)
        (file,) = await store.put(content)
        for node in ("n1", "n2", "n3"):
            emptied(store, node)
        with pytest.raises(Damaged):
            await store.get(file)
        report = await store.check(repair=True)
        assert [touched.id for touched in report.touched] == [file.id]
        assert report.left
        await store.gc()
        (chunk,) = await chunks_of(store)
        assert (chunk.state, set(chunk.nodes)) == ("lost", {"n0", "n4", "n5"})
        assert len(store.blobs()) == 3
        await recount(store.database)


async def test_uploading_again_heals_a_lost_chunk(open_store: OpenStore, tmp_path: Path) -> None:
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(MIB)
        (file,) = await store.put(content)
        for node in ("n1", "n2", "n3"):
            emptied(store, node)
        assert (await store.check(repair=True)).left
        await store.put(content)
        assert await store.get(file) == content
        await store.gc()
        assert len(store.blobs()) == 6
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)


async def test_fewer_shards_than_asked_for_only_if_that_is_wanted(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * MIB)
    async with coded(open_store, tmp_path) as store:
        with failing(monkeypatch, "write", "n3"), pytest.raises(NodesUnavailable, match="needs 6"):
            await store.put(content)
    async with coded(open_store, tmp_path, degraded_writes=True) as store:
        with failing(monkeypatch, "write", "n3", "n5"):
            (file,) = await store.put(content)
        assert await store.placed() == [{"n0", "n1", "n2", "n4"}] * 2
        assert await store.get(file) == content
        with failing(monkeypatch, "write", "n1", "n3", "n5"), pytest.raises(NodesUnavailable):
            await store.put(os.urandom(MIB))
        await store.gc()
        assert kinds(await store.check()) == ["chunk-copies"] * 2
    async with coded(open_store, tmp_path) as store:
        assert (await store.check(repair=True)).left == []
        assert await store.placed() == [set(NODES)] * 2
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)


async def test_shards_that_keep_us_waiting_are_not_waited_for(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail, by its time limit, when only those were read that need no decoding."""
    monkeypatch.setattr(reader, "_HEDGE", 0.01)
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(6 * MIB)
        (file,) = await store.put(content)
        hang(monkeypatch, "n0", "n3")
        async with asyncio.timeout(60):
            assert await store.get(file) == content


@pytest.mark.parametrize("target", ["1", "3", "ec:2+1"])
async def test_a_chunk_becomes_what_another_setting_asks_for(
    open_store: OpenStore, tmp_path: Path, target: str
) -> None:
    redundancy = Redundancy.parse(target)
    async with coded(open_store, tmp_path) as store:
        content = os.urandom(2 * MIB)
        (file,) = await store.put(content)
        mover = Mover(store.database, store.cluster, store.parts.store._stages.hasher)
        for chunk in await chunks_of(store):
            nodes = [NodeId(node) for node in NODES[: redundancy.total]]
            assert await mover.recast(chunk, chunk.blobs, nodes, redundancy)
        assert {chunk.redundancy for chunk in await chunks_of(store)} == {redundancy}
        assert len(store.blobs()) == 2 * redundancy.total
        assert await store.get(file) == content
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)
