"""Drain, rebalance, scrub and repair on real nodes and a real database."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.faults import Point, pausing
from app.models.suspects import Suspects
from app.models.tasks import Tasks
from app.types import Redundancy
from app.upkeep import tending as tending_module
from app.upkeep import walk
from app.upkeep.pace import Silence
from app.upkeep.restorer import Restored, Restorer
from app.upkeep.schedule import Times
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB
from tests.support import eventually_async
from tests.upkeep.test_checking import cut, flip, remove
from tests.upkeep.test_copies import NODES, emptied
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

SIZE = 100_000
"""Bytes of a chunk, where many are needed: enough to be cut into shards."""


def directories(tmp_path: Path, count: int) -> str:
    """So many nodes; the first three are those that a store has if nothing is said."""
    return ",".join(str(tmp_path / "data" / "nodes" / f"node{number}") for number in range(1, count + 1))


def contents(count: int) -> list[bytes]:
    return [os.urandom(SIZE) for _ in range(count)]


async def is_well(store: Upkept, files: dict[Any, bytes]) -> None:
    """All files are as they were stored, and everything else is in order too."""
    for file, content in files.items():
        assert await store.get(file) == content
    assert (await store.check(read_data=True)).findings == []
    await recount(store.database)


async def filled(store: Upkept, count: int) -> dict[Any, bytes]:
    some = contents(count)
    return dict(zip(await store.put(*some), some, strict=True))


def held(store: Upkept) -> Counter[str]:
    """Blobs on each node."""
    return Counter(path.parent.parent.name for path in store.blobs())


# Drain


@pytest.mark.parametrize("redundancy", ["1", "2", "ec:2+1"])
async def test_a_drained_node_is_empty_and_nothing_else_has_changed(
    open_store: OpenStore, tmp_path: Path, redundancy: str
) -> None:
    async with upkept(open_store, tmp_path, redundancy=redundancy, nodes=directories(tmp_path, 5)) as store:
        files = await filled(store, 12)
        before = held(store)
        assert before["node2"]
        await store.drain("node2", "node4")
        task = await store.tending().finish(store.tending().drain(), Silence())
        assert (task.state, task.left) == ("done", 0)
        assert held(store).keys() == {"node1", "node3", "node5"}
        assert held(store).total() == before.total()
        assert task.done.blobs == before["node2"] + before["node4"]
        await is_well(store, files)


async def test_a_drain_waits_for_the_uploads_that_chose_the_node(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has named its blobs there, and takes its time to write them. Others come and go meanwhile.
    Seen to fail when chunks that are being written were passed over."""
    monkeypatch.setattr(tending_module, "_AGAIN", 0.01)
    monkeypatch.setattr("app.upkeep.collector.FOLDERS", 8)
    named, write = asyncio.Event(), asyncio.Event()

    async def hook(point: Point) -> None:
        if point == "named" and not named.is_set():
            named.set()
            await write.wait()

    async with upkept(open_store, tmp_path) as store:
        files = await filled(store, 10)
        with pausing(hook):
            slow = asyncio.create_task(filled(store, 3))
            await named.wait()
            await store.drain("node2")
            draining = asyncio.create_task(store.tending().finish(store.tending().drain(), Silence()))
            for _ in range(3):
                more = await filled(store, 3)
                doomed = next(iter(more))
                await store.parts.store.delete(doomed.id)
                del more[doomed]
                files.update(more)
                await store.gc(grace=3600)
            await eventually_async(lambda: waits_for(store, "being written"))
            assert not draining.done()
            write.set()
            files.update(await slow)
        task = await draining
        assert (task.state, task.left) == ("done", 0)
        assert held(store)["node2"] == 0
        await is_well(store, files)


async def waits_for(store: Upkept, reason: str) -> bool:
    task = await Tasks(store.database).read("drain")
    return task is not None and task.done.waiting.keys() == {reason}


async def test_a_drain_waits_where_there_is_no_place_and_says_so(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path, redundancy=3) as store:
        files = await filled(store, 2)
        await store.drain("node2")
        tending = store.tending()
        task = await tending.walk(tending.drain())
        assert task
        assert (task.state, task.left, dict(task.done.waiting)) == ("waiting", 2, {"no node takes more": 2})
        assert held(store)["node2"] == 2
        await is_well(store, files)


async def test_who_goes_on_begins_where_the_last_one_was_broken_off(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.upkeep.chore.Chore.together", 1)
    async with upkept(open_store, tmp_path) as store:
        files = await filled(store, 18)
        await store.drain("node1", "node2")
        tending = store.tending()
        reached = asyncio.Event()
        seen: list[bytes] = []
        real = tending._mover.recast

        async def recast(chunk: Any, *rest: Any) -> bool:
            seen.append(chunk.digest)
            if len(seen) == 5:
                reached.set()
                await asyncio.Event().wait()
            return await real(chunk, *rest)

        monkeypatch.setattr(tending._mover, "recast", recast)
        broken_off = asyncio.create_task(tending.walk(tending.drain()))
        await reached.wait()
        broken_off.cancel()
        await asyncio.wait([broken_off])
        task = await tending.tasks.read("drain")
        assert task
        assert (task.state, task.held, task.done.chunks, task.position) == ("running", False, 4, seen[3])
        again = await tending.walk(tending.drain())
        assert again
        assert again.done.chunks == task.total == 12
        assert seen == sorted(seen[:5]) + sorted(seen[4:])[1:] or seen[5:] == sorted(seen[5:])
        assert seen[5] == seen[4], "it goes on with the one that was not finished"
        assert len(seen) == 13
        assert held(store).keys() == {"node3"}
        await is_well(store, files)


async def test_only_one_is_at_it_at_a_time(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        await filled(store, 3)
        await store.drain("node1")
        async with walk.holding(walk.Lease(store.database, "drain")) as keeper:
            assert keeper
            assert await store.tending().walk(store.tending().drain()) is None
            looking_on = asyncio.create_task(store.tending().finish(store.tending().drain(), Silence()))
            await asyncio.sleep(0)
        assert (await looking_on).state == "done"
        assert held(store)["node1"] == 0


# Rebalance


@pytest.mark.parametrize("redundancy", ["1", "2"])
async def test_a_new_node_gets_its_share_and_no_more_is_moved(
    open_store: OpenStore, tmp_path: Path, redundancy: str
) -> None:
    async with upkept(open_store, tmp_path, redundancy=redundancy) as store:
        files = await filled(store, 60)
        before = set(store.blobs())
    async with upkept(open_store, tmp_path, redundancy=redundancy, nodes=directories(tmp_path, 4)) as store:
        tending = store.tending()
        task = await tending.finish(tending.rebalance(), Silence())
        share = len(before) // 4
        assert held(store) == dict.fromkeys((*NODES, "node4"), share)
        assert task.done.blobs == task.total == len(set(store.blobs()) - before) == share
        assert task.state == "done"
        again = await tending.finish(tending.rebalance(), Silence())
        assert (again.total, again.done.blobs) == (0, 0)
        await is_well(store, files)


async def test_where_digests_decide_chunks_go_to_where_they_belong(open_store: OpenStore, tmp_path: Path) -> None:
    how = {"redundancy": 2, "placement": "consistent-hash"}
    async with upkept(open_store, tmp_path, **how) as store:
        files = await filled(store, 20)
        before = await names(store)
    async with upkept(open_store, tmp_path, **how, nodes=directories(tmp_path, 4)) as store:
        tending = store.tending()
        task = await tending.finish(tending.rebalance(), Silence())
        belongs = {digest: set(store.cluster.home(digest, 2, store.cluster.node_ids)) for digest in before}
        after = await names(store)
        assert {digest: nodes_of(blobs) for digest, blobs in after.items()} == belongs
        moved = {digest for digest in before if nodes_of(before[digest]) != belongs[digest]}
        assert 0 < len(moved) < 20
        assert task.total == task.done.chunks == len(moved)
        assert task.done.blobs == sum(len(belongs[digest] - nodes_of(before[digest])) for digest in before)
        assert sum(len(after[digest] - before[digest]) for digest in before) == task.done.blobs
        await is_well(store, files)


async def names(store: Upkept) -> dict[Any, set[tuple[str, str]]]:
    """The blobs of each chunk."""
    chunks = await store.database["chunks"].find({})
    return {chunk["_id"]: {(blob["node"], blob["gen"]) for blob in chunk["blobs"]} for chunk in chunks}


def nodes_of(blobs: set[tuple[str, str]]) -> set[str]:
    return {node for node, _ in blobs}


async def test_chunks_become_copies_and_shards_and_copies_again(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        files = await filled(store, 6)
        (small,) = await store.put(b"x" * 1000)
        files[small] = b"x" * 1000
        tending = store.tending()
        for wish, large, little in (("2", 2, 2), ("ec:2+1", 3, 2), ("ec:2+1", 3, 2), ("1", 1, 1)):
            task = await tending.finish(tending.rebalance(Redundancy.parse(wish)), Silence())
            assert task.state == "done"
            chunks = await store.database["chunks"].find({})
            assert {(chunk["size"], len(chunk["blobs"])) for chunk in chunks} == {(SIZE, large), (1000, little)}
            await is_well(store, files)
        assert held(store).total() == 7


# Scrub, suspects, repair


@pytest.mark.parametrize("redundancy", ["2", "ec:2+1"])
async def test_scrub_finds_what_is_bad_and_mends_it(open_store: OpenStore, tmp_path: Path, redundancy: str) -> None:
    async with upkept(open_store, tmp_path, redundancy=redundancy) as store:
        files = await filled(store, 9)
        hurt = {path.name[:64]: path for path in store.blobs() if path.parent.parent.name == "node1"}
        for path, damage in zip(list(hurt.values())[:3], (flip, cut, remove), strict=True):
            damage(path)
        task = await store.tending().walk(store.tending().scrub(1e-9))
        assert task
        assert (task.done.findings, task.done.blobs, dict(task.done.waiting)) == (3, 3, {})
        assert task.done.bytes == sum(path.stat().st_size for path in store.blobs())
        assert len(list((store.nodes / "node1" / "quarantine").iterdir())) == 2
        await is_well(store, files)
        again = await store.tending().walk(store.tending().scrub(1e-9))
        assert again
        assert again.done.findings == 0


async def test_scrub_takes_the_days_that_it_may(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read before its time comes, whatever breaks it off meanwhile. Days go by as the test says."""
    async with upkept(open_store, tmp_path) as store:
        await filled(store, 8)
        tending = store.tending()
        scrub = tending.scrub(10)
        scrub.page = scrub.together = 1
        read: list[bytes] = []
        days: list[int] = []
        real = scrub.tend

        async def tend(chunks: Any) -> Any:
            read.extend(chunk.digest for chunk in chunks)
            return await real(chunks)

        async def no_nap(seconds: float) -> None:
            raise Broken

        monkeypatch.setattr(scrub, "tend", tend)
        monkeypatch.setattr(walk, "_nap", no_nap)
        for _ in range(10):
            with pytest.raises(Broken):
                await tending.walk(scrub)
            days.append(len(read))
            yesterday: Any = [{"$set": {name: {"$subtract": [f"${name}", 86_400_000]} for name in ("at", "startedAt")}}]
            await store.database["upkeep"].update_one({"_id": "scrub"}, yesterday)
        due = [int.from_bytes(digest[:8], "big") / 2**64 * 10 for digest in read]
        assert all(count <= sum(moment <= day for moment in due) for day, count in enumerate(days))
        assert days[-1] > 0
        assert await tending.walk(scrub), "it is over after the days that it may take"
        assert sorted(set(read)) == read
        assert len(read) == 8


class Broken(Exception):
    """What ends a walk in the middle."""


async def test_what_a_download_finds_is_mended_without_anybody_asking(open_store: OpenStore, tmp_path: Path) -> None:
    quick = Times(mend=0.01, tend=1e6)
    async with upkept(open_store, tmp_path, quick, redundancy=2) as store:
        # An odd number of chunks: which copy is read takes turns.
        content = os.urandom(5 * MIB)
        (file,) = await store.put(content)
        hurt = [path for path in store.blobs() if path.parent.parent.name == "node1"]
        for path, damage in zip(hurt, (flip, remove, cut, flip), strict=False):
            damage(path)

        async def mended() -> bool:
            assert await store.get(file) == content
            blobs = store.blobs()
            return len(blobs) == 10 and all(sha256(blob.read_bytes()).hexdigest() == blob.name[:64] for blob in blobs)

        await eventually_async(mended)
        await eventually_async(lambda: nothing_suspected(store))
        await is_well(store, {file: content})


async def nothing_suspected(store: Upkept) -> bool:
    return await Suspects(store.database).count() == 0


async def test_a_chunk_that_a_download_finds_lost_is_healed_by_an_upload(open_store: OpenStore, tmp_path: Path) -> None:
    """It must not stay live, or the upload would be linked to what nobody can read."""
    async with upkept(open_store, tmp_path, Times(mend=0.01, tend=1e6)) as store:
        (content,) = contents(1)
        (file,) = await store.put(content)
        flip(store.blobs()[0])
        with pytest.raises(Exception, match="missing or wrong"):
            await store.get(file)

        async def lost() -> bool:
            return [chunk["state"] for chunk in await store.database["chunks"].find({})] == ["lost"]

        await eventually_async(lost)
        (again,) = await store.put(content)
        await is_well(store, {file: content, again: content})


async def test_the_least_protected_come_first(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three nodes are lost for good: some chunks have one copy left, some two."""
    async with upkept(
        open_store, tmp_path, redundancy=3, degraded_writes=True, nodes=directories(tmp_path, 5)
    ) as store:
        files = await filled(store, 20)
    async with upkept(open_store, tmp_path, redundancy=3, nodes=directories(tmp_path, 5)) as store:
        for node in ("node1", "node2"):
            emptied(store, node)
            await store.database["nodes"].delete_many({"_id": node})
        left = {
            document["_id"]: sum(blob["node"] not in ("node1", "node2") for blob in document["blobs"])
            for document in await store.database["chunks"].find({})
        }
        assert set(left.values()) == {1, 2, 3}
        order: list[int] = []
        complete = Restorer.complete

        async def noted(self: Restorer, digest: Any) -> Restored:
            order.append(left[digest])
            return await complete(self, digest)

        monkeypatch.setattr(Restorer, "complete", noted)
        tending = store.tending()
        task = await tending.walk(tending.repair())
        assert task
        assert order == sorted(order)
        assert order.count(3) == 0
        assert task.state == "done"
        assert task.done.blobs == sum(3 - count for count in left.values())
        assert await store.placed() == [{"node3", "node4", "node5"}] * 20
        await is_well(store, files)
