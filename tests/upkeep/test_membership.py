"""Taking a node out of a store loses nothing, however slow an upload is that has chosen it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.faults import Point, pausing
from app.models.chunks import Chunks
from app.models.mending import Mending
from app.models.nodes import Nodes, Use, Wish
from app.nodes import members
from app.nodes.cluster import Cluster
from app.nodes.members import Opener
from app.nodes.sites import site_of
from app.types import File, NodeId
from app.upkeep.membership import Membership
from app.upkeep.mover import Mover
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB
from tests.support import eventually_async
from tests.upkeep.test_checking import kinds
from tests.upkeep.test_copies import emptied
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

NODE2 = NodeId("node2")


@pytest.fixture(autouse=True)
def slow_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """None learns of anything by itself."""
    monkeypatch.setattr(members, "_FOLLOW", 1e6)


async def membership(store: Upkept) -> Membership:
    document = await store.database["meta"].find_one({"_id": "store"})
    assert document
    return Membership(store.database, Opener(document["store"], Nodes(store.database), site_of))


async def held_up(store: Upkept, content: bytes, at: Point, meanwhile: Callable[[], Any]) -> File:
    """Upload, and let something else happen when the upload first comes to this point."""
    waiting: list[Any] = [meanwhile]

    async def hook(point: Point) -> None:
        if point == at and waiting:
            await waiting.pop()()

    with pausing(hook):
        (file,) = await store.put(content)
    assert not waiting
    return file


@asynccontextmanager
async def kept_off(open_store: OpenStore, tmp_path: Path, content: bytes) -> AsyncIterator[Upkept]:
    """A store of two nodes, `a` and `b`, and a file that is on `a` alone. Its server places nothing on `b`."""
    async with upkept(open_store, tmp_path, nodes=f"{tmp_path / 'a'},{tmp_path / 'b'}") as store:
        await want_of_b(store, "draining")
        (file,) = await store.put(content)
        yield store
        assert await store.placed() == [{"a"}] * 4
        await is_well(store, file, content)


async def want_of_b(store: Upkept, use: Use) -> None:
    """What `b` is for from now on, as the server knows."""
    await Nodes(store.database).change(NodeId("b"), Wish(use=use))
    await store.cluster.look_again()


async def is_well(store: Upkept, file: File, content: bytes) -> None:
    assert await store.get(file) == content
    await store.gc()
    assert (await store.check(read_data=True)).findings == []
    await recount(store.database)


@pytest.mark.parametrize("point", ["looked-up", "named", "blobs-written", "live", "commit-begun"])
@pytest.mark.parametrize("copies", [1, 2])
async def test_an_upload_commits_nothing_on_a_node_that_was_removed_under_it(
    open_store: OpenStore, tmp_path: Path, point: Point, copies: int
) -> None:
    """Seen to fail, each in one of these: when commits asked for no nodes, when the look at the chunks was
    left out, and when the upload linked what it had stored again and again."""
    content = os.urandom(5 * MIB + 1)
    async with upkept(open_store, tmp_path, redundancy=copies) as store:
        outcome: list[str] = []

        async def remove() -> None:
            try:
                await (await membership(store)).remove(NODE2)
                outcome.append("removed")
            except ConfigError:
                outcome.append("refused")

        file = await held_up(store, content, point, remove)
        named = {node for nodes in await store.placed() for node in nodes}
        if outcome == ["removed"]:
            assert NODE2 not in named
            emptied(store, "node2")
        else:
            assert NODE2 in named
            assert (await Nodes(store.database).entries())[1].use == "draining"
        assert outcome == (["removed"] if point == "looked-up" else ["refused"])
        await is_well(store, file, content)


@pytest.mark.parametrize("until", ["removal-begun", "removal-checked"])
async def test_a_removal_that_is_slow_meets_an_upload(open_store: OpenStore, tmp_path: Path, until: Point) -> None:
    """The other way round: the upload comes while the removal stands still, and chooses the node, for its
    server knows nothing of that. What it stored is found, or is not committed."""
    content = os.urandom(4 * MIB)
    async with upkept(open_store, tmp_path) as store:
        files: list[File] = []

        async def hook(point: Point) -> None:
            if point == until:
                files.extend(await store.put(content))

        with pausing(hook):
            await (await membership(store)).remove(NODE2)
        assert {node for nodes in await store.placed() for node in nodes} == {"node1", "node3"}
        emptied(store, "node2")
        await is_well(store, files[0], content)
        assert [entry.id for entry in await Nodes(store.database).entries()] == ["node1", "node3"]


async def test_a_chunk_that_nobody_holds_yet_is_moved_by_whoever_needs_it(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """It was live before the node was to be removed. The old blobs go."""
    content = os.urandom(3 * MIB)
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(content)
        await store.parts.store.delete(file.id)
        await store.gc(grace=3600)
        before = await store.placed()
        assert {NODE2} in before
        assert await Nodes(store.database).begin_removal(NODE2)
        (file,) = await store.put(content)
        assert {NODE2} not in await store.placed()
        assert emptied(store, "node2") == 0
        await is_well(store, file, content)


@pytest.mark.parametrize("told", [True, False])
async def test_what_a_lost_node_held_is_stored_again_by_an_upload(
    open_store: OpenStore, tmp_path: Path, told: bool
) -> None:
    """Whether its server learns of the loss before it links what is lost, or from the commit, which is refused.
    Seen to fail when such chunks were linked: the upload was acknowledged, and could not be read."""
    content = os.urandom(4 * MIB)
    async with upkept(open_store, tmp_path) as store:
        (file,) = await store.put(content)
        shutil.rmtree(store.nodes / "node2")
        await (await membership(store)).forget(NODE2)
        if told:
            await store.cluster.look_again()
        (other,) = await store.put(content + b"more")
        assert await store.get(other) == content + b"more"
        assert await store.get(file) == content, "the upload healed it"
        await is_well(store, file, content)


async def test_a_node_that_answers_is_not_lost(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(4 * MIB)
        (file,) = await store.put(content)
        nodes = await membership(store)
        with pytest.raises(ConfigError, match="is not lost"):
            await nodes.forget(NODE2)
        with pytest.raises(ConfigError, match="knows no node nodeX"):
            await nodes.forget(NodeId("nodeX"))
        (store.nodes / "node2" / "node.json").write_text("{")
        with pytest.raises(ConfigError, match="garbled"):
            await nodes.forget(NODE2)
        assert len(await Nodes(store.database).entries()) == 3
        assert await store.get(file) == content


@pytest.mark.parametrize("change", [Wish(use="active"), None], ids=["changed", "again"])
async def test_a_removal_that_others_interfere_with_is_given_up(
    open_store: OpenStore, tmp_path: Path, change: Wish | None
) -> None:
    """Somebody puts the node into use again after the look, or begins another removal."""
    async with upkept(open_store, tmp_path) as store:
        nodes = await membership(store)

        async def hook(point: Point) -> None:
            if point == "removal-checked":
                if change:
                    await nodes.change(NODE2, change)
                else:
                    await Nodes(store.database).begin_removal(NODE2)

        with pausing(hook), pytest.raises(ConfigError, match="It stays a node"):
            await nodes.remove(NODE2)
        assert (await Nodes(store.database).entries())[1].use == ("active" if change else "removing")


async def test_a_removal_that_is_broken_off_takes_its_mark_back(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        begun = asyncio.Event()

        async def hook(point: Point) -> None:
            if point == "removal-begun":
                begun.set()
                await asyncio.Event().wait()

        with pausing(hook):
            removal = asyncio.create_task((await membership(store)).remove(NODE2))
            await begun.wait()
            removal.cancel()
            await asyncio.wait([removal])
        assert (await Nodes(store.database).entries())[1].use == "draining"


async def test_a_check_does_not_miss_what_is_on_a_node_that_it_did_not_open(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """The node came while the check ran. Seen to fail when its blobs counted as missing."""
    content = os.urandom(6 * MIB)
    async with upkept(open_store, tmp_path) as early, open_store(gc_interval=0) as parts:
        cluster = parts.store._stages.reader._cluster
        await (await membership(early)).add(str(tmp_path / "node4"), Wish(weight=50))
        await cluster.look_again()
        await eventually_async(lambda: _is_open(cluster, "node4"))
        late = Upkept(parts, early.database, cluster, early.nodes)
        (file,) = await late.put(content)
        assert any(tmp_path.glob("node4/??/*"))
        assert kinds(await early.check(repair=True)) == ["node-absent"]
        assert (await late.check(read_data=True)).findings == []
        assert await late.get(file) == content


async def _is_open(cluster: Cluster, node: str) -> bool:
    return node in cluster.node_ids


async def test_nothing_is_moved_to_a_node_that_was_looked_at_already(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when what is moved was offered without asking for the node."""
    async with kept_off(open_store, tmp_path, os.urandom(4 * MIB)) as store:

        async def hook(point: Point) -> None:
            if point == "removal-checked":
                mover = Mover(store.database, store.cluster, store.parts.store._stages.hasher)
                async for some in Chunks(store.database).stream(0, 255):
                    assert not any([await mover.move(chunk, chunk.blobs[0], NodeId("b")) for chunk in some])

        with pausing(hook):
            await (await membership(store)).remove(NodeId("b"))


async def test_a_commit_that_comes_very_late_finds_no_other_node_in_its_place(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """The node is removed under an upload that has chosen it, its disk is wiped and added again: that is
    another node. Seen to fail when it took the same id: the upload was acknowledged, and its bytes were gone."""
    content = os.urandom(4 * MIB)
    async with upkept(open_store, tmp_path) as store:
        nodes = await membership(store)
        chosen, goes_on = asyncio.Event(), asyncio.Event()
        uploads: list[asyncio.Task[tuple[File, ...]]] = []

        async def hook(point: Point) -> None:
            if point == "removal-checked":
                uploads.append(asyncio.create_task(store.put(content)))
                await chosen.wait()
            elif point == "commit-begun":
                chosen.set()
                await goes_on.wait()

        with pausing(hook):
            await nodes.remove(NODE2)
            assert emptied(store, "node2")
            shutil.rmtree(store.nodes / "node2")
            added = await nodes.add(str(store.nodes / "node2"), Wish())
            goes_on.set()
            (file,) = await uploads[0]
        assert added.id == "node2-2"
        await store.cluster.look_again()
        await eventually_async(lambda: _is_open(store.cluster, added.id))
        await is_well(store, file, content)


async def test_what_was_lost_is_not_healed_there_either(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when a chunk that pages hold was named anew without asking for its nodes."""
    content = os.urandom(4 * MIB)
    async with kept_off(open_store, tmp_path, content) as store:
        await want_of_b(store, "active")

        async def hook(point: Point) -> None:
            if point == "removal-checked":
                async for some in Chunks(store.database).stream(0, 255):
                    assert all([await Mending(store.database).lose(chunk) for chunk in some])
                await store.put(content)

        with pausing(hook):
            await (await membership(store)).remove(NodeId("b"))
