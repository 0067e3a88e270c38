"""Choosing nodes, and telling how they are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import (
    BlobDamaged,
    BlobMissing,
    ConfigError,
    NodeDown,
    NodeError,
    NodeFull,
    NodeHung,
    NodesUnavailable,
    NoSpace,
)
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes
from app.nodes import breaker, members
from app.nodes.base import Space
from app.nodes.cluster import Cluster
from app.nodes.directory_site import DirectorySite
from app.nodes.guarded import TERMS, GuardedNode, reserve
from app.nodes.members import Opener, open_cluster
from app.types import Blob, Digest, NodeId, new_generation
from tests.conformance.clock import FakeClock
from tests.conformance.nodes import FaultyNode, MemoryNode, read_blob
from tests.support import PATIENCE, Databases, eventually_async

pytestmark = pytest.mark.anyio

DIGEST = Digest(b"d" * 32)


async def write_somewhere(cluster: Cluster) -> None:
    await cluster.write(Blob(cluster.place(DIGEST)[0], DIGEST, new_generation()), b"x")


async def test_new_blobs_go_round() -> None:
    nodes = [MemoryNode(name) for name in "abc"]
    cluster = Cluster(nodes)
    for _ in range(30):
        await write_somewhere(cluster)
    assert [len(node.blobs) for node in nodes] == [10, 10, 10]


def guarded(clock: FakeClock, *nodes: FaultyNode) -> Cluster:
    return Cluster([GuardedNode(node, clock=clock) for node in nodes])


async def test_nodes_that_fail_are_passed_over_and_tried_again() -> None:
    nodes, clock = [FaultyNode(MemoryNode(name)) for name in "abc"], FakeClock()
    cluster = guarded(clock, *nodes)
    nodes[0].faults.write, nodes[1].faults.write = NodeFull("full"), NodeError("broken")
    for _ in range(2):
        for _ in range(30):
            with suppress(NodeError):
                await write_somewhere(cluster)
        assert Counter(cluster.place(DIGEST)[0] for _ in range(6)) == {"c": 6}
        assert [status.state for status in await cluster.statuses()] == ["full", "down", "active"]
        await write_somewhere(cluster)
        await clock.advance(60)
        assert {cluster.place(DIGEST)[0] for _ in range(3)} == set("abc")
    nodes[0].faults.write = nodes[1].faults.write = None
    for _ in range(3):
        await write_somewhere(cluster)
    statuses = await cluster.statuses()
    assert [status.state for status in statuses] == ["active"] * 3
    assert [status.health and status.health.breaker for status in statuses] == ["closed"] * 3


async def test_a_node_that_hangs_is_asked_no_more_and_others_go_on() -> None:
    hanging, well = FaultyNode(MemoryNode("hanging")), FaultyNode(MemoryNode("well"))
    clock = FakeClock()
    cluster = guarded(clock, hanging, well)
    blobs = [blob_on("hanging"), blob_on("well")]
    for blob in blobs:
        await cluster.write(blob, b"x")
    hanging.faults.answering = asyncio.Event()
    stuck = asyncio.ensure_future(read_blob(cluster, blobs[0], 1))
    assert await read_blob(cluster, blobs[1], 1) == b"x"
    await clock.advance(TERMS["read"].deadline)
    assert isinstance(stuck.exception(), NodeHung)
    with pytest.raises(NodeDown):
        await read_blob(cluster, blobs[0], 1)
    assert await cluster.unlink(blobs) == {blobs[0]}
    assert {cluster.place(DIGEST)[0] for _ in range(4)} == {"well"}
    statuses = {status.id: status for status in await cluster.statuses()}
    assert (statuses[NodeId("hanging")].state, statuses[NodeId("well")].state) == ("down", "active")
    health = statuses[NodeId("hanging")].health
    assert health
    assert (health.breaker, health.timeouts, health.errors, health.last_error) == ("open", 1, 1, "node-hung")
    assert health.p99 == pytest.approx(TERMS["read"].deadline, rel=0.3)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [(["f", "f"], NoSpace), (["f", "d"], NoSpace), (["d", "d"], NodesUnavailable), ([], NodesUnavailable)],
)
async def test_when_no_node_is_left(errors: list[str], expected: type[Exception]) -> None:
    nodes = [FaultyNode(MemoryNode(f"n{number}")) for number in range(len(errors))]
    cluster = Cluster(nodes)
    for node, kind in zip(nodes, errors, strict=True):
        node.faults.write = NodeFull("full") if kind == "f" else NodeError("down")
    for node in nodes:
        for _ in range(3):
            with pytest.raises(NodeError):
                await cluster.write(blob_on(node.id), b"x")
    with pytest.raises(expected):
        cluster.place(DIGEST)


async def test_opening_again_finds_the_same_nodes(database: Database, tmp_path: Path) -> None:
    sites = [DirectorySite(tmp_path / "disk1" / "data"), DirectorySite(tmp_path / "disk2" / "data")]
    for _ in range(2):
        async with open_cluster(sites, Opener("store", Nodes(database))) as cluster:
            assert [status.id for status in await cluster.statuses()] == ["data", "data-2"]
    async with open_cluster(sites[:1], Opener("store", Nodes(database))) as cluster:
        assert [status.state for status in await cluster.statuses()] == ["active", "absent"]
    with pytest.raises(ConfigError, match="named twice"):
        async with open_cluster([sites[0], sites[0]], Opener("store", Nodes(database))):
            pass


async def refused(cluster: Cluster, node: FaultyNode, error: NodeError) -> None:
    """Let writes to the node fail until it is passed over."""
    node.faults.write = error
    for _ in range(3):
        with pytest.raises(type(error)):
            await cluster.write(blob_on(node.id), b"x")
    node.faults.write = None


def blob_on(node: str) -> Blob:
    return Blob(NodeId(node), DIGEST, new_generation())


async def state_of(cluster: Cluster) -> str:
    (status,) = await cluster.statuses()
    return status.state


async def test_a_node_that_does_not_tell_its_space_is_down() -> None:
    """And neither keeps others from telling how they are nor holds up those who ask."""
    hanging, broken, well = (FaultyNode(MemoryNode(name)) for name in ("hanging", "broken", "well"))
    hanging.faults.answering = asyncio.Event()
    broken.faults.space = NodeError("broken")
    clock = FakeClock()
    guards = [GuardedNode(node, clock=clock) for node in (hanging, broken, well)]
    cluster = Cluster(guards, absent=[NodeId("gone")])
    asked = asyncio.ensure_future(cluster.statuses())
    await clock.advance(TERMS["space"].deadline)
    statuses = {status.id: (status.state, status.free) for status in asked.result()}
    assert statuses == {
        "hanging": ("down", 0),
        "broken": ("down", 0),
        "well": ("active", 1 << 40),
        "gone": ("absent", 0),
    }
    hanging.faults.answering.set()
    asked = asyncio.ensure_future(cluster.statuses())
    await clock.advance(1)
    assert [status.state for status in asked.result()] == ["active", "down", "active", "absent"]


@pytest.mark.parametrize(("error", "state"), [(NodeError("broken"), "down"), (NodeFull("full"), "full")])
async def test_a_node_recovers_although_nobody_writes(error: NodeError, state: str) -> None:
    """A server that is not ready gets no uploads, so that it must not need one to be ready again."""
    node, clock = FaultyNode(MemoryNode("n")), FakeClock()
    cluster = guarded(clock, node)
    await refused(cluster, node, error)
    assert await state_of(cluster) == state
    await clock.advance(5)
    assert await state_of(cluster) == "active"
    assert cluster.place(DIGEST) == ("n",)


async def test_a_node_below_its_reserve_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a write has failed there or not. It is read, and emptied, as ever."""
    free = 20 << 20

    class Small(MemoryNode):
        async def space(self) -> Space:
            return Space(free, 1 << 30)

    node, clock = FaultyNode(Small("n")), FakeClock()
    cluster = guarded(clock, node)
    await write_somewhere(cluster)
    free = 10 << 20
    assert await state_of(cluster) == "full"
    with pytest.raises(NoSpace):
        cluster.place(DIGEST)
    free = 20 << 20
    await cluster.look_at_room()
    await refused(cluster, node, NodeFull("full"))
    free = 10 << 20
    await clock.advance(5)
    assert await state_of(cluster) == "full"
    free = 20 << 20
    assert await state_of(cluster) == "active"
    await write_somewhere(cluster)


@pytest.mark.parametrize(
    ("total", "kept"),
    [(12 << 20, 768 << 10), (256 << 20, 16 << 20), (1 << 40, 1 << 30), (40 << 30, 40 * (1 << 30) // 100), (1, 0)],
)
def test_the_reserve_fits_the_disk(total: int, kept: int) -> None:
    assert reserve(total) == kept


async def test_what_a_node_raises_is_passed_on() -> None:
    node = FaultyNode(MemoryNode("n"))
    cluster, blob = Cluster([node]), blob_on("n")
    with pytest.raises(BlobMissing):
        await read_blob(cluster, blob, 1)
    await cluster.write(blob, b"x")
    assert await read_blob(cluster, blob, 1) == b"x"
    with pytest.raises(BlobDamaged):
        await read_blob(cluster, blob, 2)
    node.faults.read = node.faults.unlink = NodeError("broken")
    with pytest.raises(NodeError, match="broken"):
        await read_blob(cluster, blob, 1)
    assert await cluster.unlink([blob]) == {blob}
    assert cluster.place(DIGEST) == ("n",), "a node that can't read may still write"
    node.faults.unlink = None
    assert await cluster.unlink([blob]) == set()
    assert await cluster.unlink([blob]) == set()


async def test_a_blob_on_a_node_that_is_not_here() -> None:
    cluster = Cluster([MemoryNode("n")], absent=[NodeId("gone")])
    for call in (
        read_blob(cluster, blob_on("gone"), 1),
        cluster.write(blob_on("gone"), b"x"),
        cluster.list_blobs(NodeId("gone"), 0),
        cluster.quarantine(blob_on("gone")),
    ):
        with pytest.raises(NodeError, match="gone"):
            await call
    here, gone = blob_on("n"), blob_on("gone")
    assert await cluster.unlink([here, gone]) == {gone}


async def test_a_node_that_moved_is_found_where_it_is(database: Database, tmp_path: Path) -> None:
    registry = Nodes(database)
    async with open_cluster([DirectorySite(tmp_path / "a")], Opener("store", registry)):
        (before,) = await registry.entries()
    (tmp_path / "a").rename(tmp_path / "b")
    async with open_cluster([DirectorySite(tmp_path / "b")], Opener("store", registry)) as cluster:
        assert await state_of(cluster) == "active"
    assert await registry.entries() == [NodeEntry(before.id, before.uuid, (tmp_path / "b").as_uri())]


# Nodes that are away at the start


class Elsewhere(DirectorySite):
    """A site that answers if and when it is told to."""

    def __init__(self, directory: Path, *, how: str = "well") -> None:
        super().__init__(directory)
        self.how = how

    async def identity(self) -> bytes | None:
        if self.how == "hangs":
            await asyncio.Event().wait()
        if self.how == "fails":
            raise NodeError("connection refused")
        return await super().identity()


@pytest.fixture(params=["fails", "hangs"])
def away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(members, "_KNOWN", 0.05)
    monkeypatch.setattr(breaker, "_REST", 0.02)
    monkeypatch.setattr(breaker, "_LONGEST_REST", 0.02)
    return str(request.param)


async def test_a_known_node_that_does_not_answer_yet_is_down_until_it_does(
    database: Database, tmp_path: Path, away: str
) -> None:
    site, registry = Elsewhere(tmp_path / "n"), Nodes(database)
    async with open_cluster([site], Opener("store", registry)) as cluster:
        await write_somewhere(cluster)
    site.how = away
    async with open_cluster([site], Opener("store", registry)) as cluster:
        assert await state_of(cluster) == "down"
        with pytest.raises(NodesUnavailable):
            cluster.place(DIGEST)
        site.how = "well"
        await eventually_async(lambda: _is(cluster, "active"))
        await write_somewhere(cluster)


async def _is(cluster: Cluster, state: str) -> bool:
    return await state_of(cluster) == state


async def test_a_node_that_turns_out_to_be_another_is_never_used(database: Database, tmp_path: Path, away: str) -> None:
    site, registry = Elsewhere(tmp_path / "n"), Nodes(database)
    async with open_cluster([site], Opener("store", registry)):
        (before,) = await registry.entries()
    site.how = away
    async with open_cluster([site], Opener("store", registry)) as cluster:
        (tmp_path / "n").rename(tmp_path / "unmounted")
        (tmp_path / "n").mkdir()
        asked = 0
        real = DirectorySite.identity

        async def counted() -> bytes | None:
            nonlocal asked
            asked += 1
            return await real(site)

        site.identity = counted  # type: ignore[method-assign]
        await eventually_async(lambda: _more_than(3, lambda: asked))
        assert await state_of(cluster) == "down"
        with pytest.raises(NodeDown):
            await cluster.write(blob_on(before.id), b"x")
        assert not list((tmp_path / "n").iterdir()), "nothing is made of a known node that is empty"
    assert await registry.entries() == [before]


async def _more_than(number: int, count: Callable[[], int]) -> bool:
    return count() > number


async def test_a_new_node_that_does_not_answer_is_refused(
    database: Database, tmp_path: Path, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_NEW", 0.05)
    with pytest.raises(ConfigError, match="does not answer"):
        async with open_cluster([Elsewhere(tmp_path / "n", how=away)], Opener("store", Nodes(database))):
            pass
    assert await Nodes(database).entries() == []


async def test_commands_take_a_node_that_does_not_answer_for_absent(
    database: Database, tmp_path: Path, away: str
) -> None:
    site, registry = Elsewhere(tmp_path / "n"), Nodes(database)
    async with open_cluster([site], Opener("store", registry)):
        pass
    site.how = away
    async with open_cluster([site], Opener("store", registry), only_known=True) as cluster:
        assert [status.state for status in await cluster.statuses()] == ["absent"]


OPEN = """
import asyncio, sys
from app.models.database import open_database
from app.models.nodes import Nodes
from app.nodes.members import Opener, open_cluster
from app.nodes.sites import site_of

async def main(url, name, *directories):
    async with open_database(url, name) as database:
        async with open_cluster(list(map(site_of, directories)), Opener("store", Nodes(database))) as cluster:
            print(sorted(status.id for status in await cluster.statuses()))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_start_at_once_agree(databases: Databases, tmp_path: Path) -> None:
    """Workers open the same new directories at the same time."""
    directories = [str(tmp_path / disk / "data") for disk in "abc"]
    with databases.fresh() as name:
        words = [sys.executable, "-c", OPEN, databases.mongo_url, name, *directories]
        processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        try:
            said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert said == ["['data', 'data-2', 'data-3']\n"] * 3
