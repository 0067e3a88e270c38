"""Several copies of each chunk: what the loss of a node costs, and how it is made good."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import NodeError, NodesUnavailable
from app.models.nodes import Nodes
from app.nodes.directory import DirectoryNode
from app.streams import reader
from app.types import Blob, Digest, NodeId
from app.upkeep.restorer import Restored, Restorer
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB
from tests.upkeep.test_checking import kinds
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

NODES = ("node1", "node2", "node3")


def emptied(store: Upkept, node: str) -> int:
    """Remove all blobs of a node; how many there were."""
    blobs = list((store.nodes / node).glob("??/*"))
    for blob in blobs:
        blob.unlink()
    return len(blobs)


def hang(patch: pytest.MonkeyPatch, *nodes: str) -> None:
    """Reads on these nodes never end."""
    never = asyncio.Event()
    real = DirectoryNode.read_into

    async def hangs(self: DirectoryNode, blob: Blob, buffer: memoryview) -> None:
        if self.id in nodes:
            await never.wait()
        await real(self, blob, buffer)

    patch.setattr(DirectoryNode, "read_into", hangs)


@contextmanager
def failing(patch: pytest.MonkeyPatch, call: str, *nodes: str) -> Iterator[None]:
    """The call fails on these nodes."""
    real = getattr(DirectoryNode, call)

    async def called(self: DirectoryNode, *arguments: Any) -> Any:
        if self.id in nodes:
            raise NodeError(f"{self.id} is broken")
        return await real(self, *arguments)

    with patch.context() as patched:
        patched.setattr(DirectoryNode, call, called)
        yield


async def test_each_chunk_is_on_as_many_nodes_as_asked(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        content = os.urandom(7 * MIB + 3)
        (file,) = await store.put(content)
        assert [len(nodes) for nodes in await store.placed()] == [2] * 8
        assert {node for nodes in await store.placed() for node in nodes} == set(NODES)
        assert len(store.blobs()) == 16
        assert await store.get(file) == content
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)
        await store.parts.store.delete(file.id)
        await store.gc()
        assert store.blobs() == []


@pytest.mark.parametrize("first", NODES)
async def test_one_node_after_the_other_may_lose_all(open_store: OpenStore, tmp_path: Path, first: str) -> None:
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        content = os.urandom(9 * MIB)
        (file,) = await store.put(content)
        for node in (first, *(node for node in NODES if node != first)):
            lost = emptied(store, node)
            assert lost
            assert await store.get(file) == content
            assert kinds(await store.check()) == ["blob-missing"] * lost
            assert (await store.check(repair=True)).left == []
            assert (await store.check(read_data=True)).findings == []
            assert [len(nodes) for nodes in await store.placed()] == [2] * 9
        assert await store.get(file) == content
        await recount(store.database)


async def test_what_others_mend_meanwhile_is_mended(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server mends what a command has found and has not come to yet."""
    mend = Restorer.restore

    async def mended_by_two(self: Restorer, digest: Digest) -> Restored:
        await mend(self, digest)
        return await mend(self, digest)

    monkeypatch.setattr(Restorer, "restore", mended_by_two)
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        await store.put(os.urandom(6 * MIB))
        lost = emptied(store, "node1")
        report = await store.check(repair=True)
        assert kinds(report) == ["blob-missing"] * lost
        assert report.left == []


async def test_another_node_takes_the_place_of_one_that_fails(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of what was written in vain."""
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        content = os.urandom(5 * MIB)
        with failing(monkeypatch, "write", "node2"):
            (file,) = await store.put(content)
        assert await store.placed() == [{"node1", "node3"}] * 5
        assert len(store.blobs()) == 10
        assert await store.get(file) == content
        assert (await store.check()).findings == []


async def test_too_few_nodes_take_no_upload_unless_that_is_wanted(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(3 * MIB)
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        with failing(monkeypatch, "write", "node1", "node3"), pytest.raises(NodesUnavailable, match="needs 2"):
            await store.put(content)
    async with upkept(open_store, tmp_path, redundancy=2, degraded_writes=True) as store:
        with failing(monkeypatch, "write", "node1", "node3"):
            (file,) = await store.put(content)
        assert await store.placed() == [{"node2"}] * 3
        assert await store.get(file) == content
        await store.gc()  # What the refused upload had written is swept up.
        report = await store.check()
        assert kinds(report) == ["chunk-copies"] * 3
        assert [touched.id for touched in report.touched] == [file.id]
    async with upkept(open_store, tmp_path) as store:
        assert (await store.check(repair=True)).left == []
        assert [len(nodes) for nodes in await store.placed()] == [2] * 3
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)


async def test_a_change_of_the_setting_holds_for_new_chunks(open_store: OpenStore, tmp_path: Path) -> None:
    old, new = os.urandom(2 * MIB), os.urandom(2 * MIB)
    async with upkept(open_store, tmp_path) as store:
        await store.put(old)
    async with upkept(open_store, tmp_path, redundancy=3) as store:
        await store.put(old + new)
        assert sorted(len(nodes) for nodes in await store.placed()) == [1, 1, 3, 3]
        assert (await store.check()).findings == []


async def test_a_node_that_is_removed_is_made_up_for(open_store: OpenStore, tmp_path: Path) -> None:
    """Its disk is gone for good. Seen to fail when a node that nobody knows counted as one that is away."""
    content = os.urandom(6 * MIB)
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        (file,) = await store.put(content)
        held = sum("node2" in nodes for nodes in await store.placed())
    left = ",".join(str(tmp_path / "data" / "nodes" / node) for node in ("node1", "node3"))
    async with upkept(open_store, tmp_path, redundancy=2, nodes=left) as store:
        assert kinds(await store.check(repair=True)) == ["node-absent"], "it may come back"
        assert await store.get(file) == content
        assert await Nodes(store.database).remove(NodeId("node2"))
    async with upkept(open_store, tmp_path, redundancy=2, nodes=left) as store:
        assert await store.get(file) == content
        assert kinds(await store.check()) == ["blob-missing"] * held
        assert (await store.check(repair=True)).left == []
        assert await store.placed() == [{"node1", "node3"}] * 6
        assert (await store.check(read_data=True)).findings == []
        await recount(store.database)


async def test_a_copy_that_keeps_us_waiting_is_not_waited_for(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail, by its time limit, when only one copy was read at a time."""
    monkeypatch.setattr(reader, "_HEDGE", 0.01)
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        content = os.urandom(12 * MIB)
        (file,) = await store.put(content)
        hang(monkeypatch, "node1")
        async with asyncio.timeout(60):
            assert await store.get(file) == content


async def test_a_wrong_copy_is_made_up_for_by_a_right_one(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path, redundancy=2) as store:
        content = os.urandom(4 * MIB)
        (file,) = await store.put(content)
        spoilt = list((store.nodes / "node1").glob("??/*"))
        for blob in spoilt:
            blob.write_bytes(os.urandom(blob.stat().st_size))
        for _ in range(4):
            assert await store.get(file) == content
        report = await store.check(read_data=True, repair=True)
        assert kinds(report) == ["blob-wrong"] * len(spoilt)
        assert report.left == []
        assert sorted((store.nodes / "node1" / "quarantine").iterdir())
        assert (await store.check(read_data=True)).findings == []
