"""Choosing nodes, and telling how they are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import BlobDamaged, BlobMissing, ConfigError, NodeError, NodeFull, NodesUnavailable, NoSpace
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes
from app.nodes import cluster as cluster_module
from app.nodes.base import Space
from app.nodes.cluster import Cluster, open_cluster
from app.nodes.directory_site import DirectorySite
from app.types import Blob, Digest, NodeId, new_generation
from tests.conformance.nodes import FaultyNode, MemoryNode
from tests.support import PATIENCE, Databases

pytestmark = pytest.mark.anyio


async def write_somewhere(cluster: Cluster) -> None:
    await cluster.write(Blob(cluster.place()[0], Digest(b"d" * 32), new_generation()), b"x")


async def test_new_blobs_go_round() -> None:
    nodes = [MemoryNode(name) for name in "abc"]
    cluster = Cluster(nodes)
    for _ in range(30):
        await write_somewhere(cluster)
    assert [len(node.blobs) for node in nodes] == [10, 10, 10]


async def test_nodes_that_fail_are_passed_over_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [FaultyNode(MemoryNode(name)) for name in "abc"]
    cluster = Cluster(nodes)
    now = 1000.0
    monkeypatch.setattr(cluster_module, "monotonic", lambda: now)
    nodes[0].faults.write, nodes[1].faults.write = NodeFull("full"), NodeError("broken")
    for _ in range(2):
        while {member.node.id for member in cluster._members.values() if member.takes_writes()} != {"c"}:
            with suppress(NodeError):
                await write_somewhere(cluster)
        assert Counter(cluster.place()[0] for _ in range(6)) == {"c": 6}
        assert [status.state for status in await cluster.statuses()] == ["full", "down", "active"]
        await write_somewhere(cluster)
        now += cluster_module._REST
    nodes[0].faults.write = nodes[1].faults.write = None
    for _ in range(3):
        await write_somewhere(cluster)
    assert [status.state for status in await cluster.statuses()] == ["active"] * 3


@pytest.mark.parametrize(
    ("errors", "expected"),
    [(["f", "f"], NoSpace), (["f", "d"], NoSpace), (["d", "d"], NodesUnavailable), ([], NodesUnavailable)],
)
async def test_when_no_node_is_left(errors: list[str], expected: type[Exception]) -> None:
    nodes = [FaultyNode(MemoryNode(f"n{number}")) for number in range(len(errors))]
    cluster = Cluster(nodes)
    for node, kind in zip(nodes, errors, strict=True):
        node.faults.write = NodeFull("full") if kind == "f" else NodeError("down")
    for _ in nodes:
        with pytest.raises(NodeError):
            await write_somewhere(cluster)
    with pytest.raises(expected):
        cluster.place()


async def test_opening_again_finds_the_same_nodes(database: Database, tmp_path: Path) -> None:
    sites = [DirectorySite(tmp_path / "disk1" / "data"), DirectorySite(tmp_path / "disk2" / "data")]
    for _ in range(2):
        async with open_cluster(sites, "store", Nodes(database)) as cluster:
            assert [status.id for status in await cluster.statuses()] == ["data", "data-2"]
    async with open_cluster(sites[:1], "store", Nodes(database)) as cluster:
        assert [status.state for status in await cluster.statuses()] == ["active", "absent"]
    with pytest.raises(ConfigError, match="named twice"):
        async with open_cluster([sites[0], sites[0]], "store", Nodes(database)):
            pass


async def refused(cluster: Cluster, node: FaultyNode, error: NodeError) -> None:
    """Let one write to the node fail."""
    node.faults.write = error
    with pytest.raises(type(error)):
        await cluster.write(blob_on(node.id), b"x")
    node.faults.write = None


def blob_on(node: str) -> Blob:
    return Blob(NodeId(node), Digest(b"d" * 32), new_generation())


async def state_of(cluster: Cluster) -> str:
    (status,) = await cluster.statuses()
    return status.state


async def test_a_node_that_hangs_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither keeps others from telling how they are nor holds up those who ask."""
    monkeypatch.setattr(cluster_module, "_ANSWER", 0.05)
    hanging, broken, well = (FaultyNode(MemoryNode(name)) for name in ("hanging", "broken", "well"))
    hanging.faults.answering = asyncio.Event()
    broken.faults.space = NodeError("broken")
    cluster = Cluster([hanging, broken, well], absent=[NodeId("gone")])
    async with asyncio.timeout(PATIENCE):
        statuses = {status.id: (status.state, status.free) for status in await cluster.statuses()}
    assert statuses == {
        "hanging": ("down", 0),
        "broken": ("down", 0),
        "well": ("active", 1 << 40),
        "gone": ("absent", 0),
    }
    hanging.faults.answering.set()
    assert {status.state for status in await cluster.statuses()} == {"active", "down", "absent"}


@pytest.mark.parametrize(("error", "state"), [(NodeError("broken"), "down"), (NodeFull("full"), "full")])
async def test_a_node_recovers_although_nobody_writes(
    monkeypatch: pytest.MonkeyPatch, error: NodeError, state: str
) -> None:
    """A server that is not ready gets no uploads, so that it must not need one to be ready again."""
    now = 1000.0
    monkeypatch.setattr(cluster_module, "monotonic", lambda: now)
    node = FaultyNode(MemoryNode("n"))
    cluster = Cluster([node])
    await refused(cluster, node, error)
    assert await state_of(cluster) == state
    now += cluster_module._REST
    assert await state_of(cluster) == "active"
    assert cluster.place() == ("n",)


async def test_a_node_stays_full_while_it_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(cluster_module, "monotonic", lambda: now)

    class Small(MemoryNode):
        async def space(self) -> Space:
            return Space(1000, 1 << 30)

    node = FaultyNode(Small("n"))
    cluster = Cluster([node])
    await refused(cluster, node, NodeFull("full"))
    now += cluster_module._REST
    assert await state_of(cluster) == "full"
    await write_somewhere(cluster)
    assert await state_of(cluster) == "active"


async def test_what_a_node_raises_is_passed_on() -> None:
    node = FaultyNode(MemoryNode("n"))
    cluster, blob = Cluster([node]), blob_on("n")
    with pytest.raises(BlobMissing):
        await cluster.read(blob, 1)
    await cluster.write(blob, b"x")
    assert await cluster.read(blob, 1) == b"x"
    with pytest.raises(BlobDamaged):
        await cluster.read(blob, 2)
    node.faults.read = node.faults.unlink = NodeError("broken")
    with pytest.raises(NodeError, match="broken"):
        await cluster.read(blob, 1)
    assert await cluster.unlink([blob]) == {blob}
    assert cluster.place() == ("n",), "a node that can't read may still write"
    node.faults.unlink = None
    assert await cluster.unlink([blob]) == set()
    assert await cluster.unlink([blob]) == set()


async def test_a_blob_on_a_node_that_is_not_here() -> None:
    cluster = Cluster([MemoryNode("n")], absent=[NodeId("gone")])
    for call in (
        cluster.read(blob_on("gone"), 1),
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
    async with open_cluster([DirectorySite(tmp_path / "a")], "store", registry):
        (before,) = await registry.entries()
    (tmp_path / "a").rename(tmp_path / "b")
    async with open_cluster([DirectorySite(tmp_path / "b")], "store", registry) as cluster:
        assert await state_of(cluster) == "active"
    assert await registry.entries() == [NodeEntry(before.id, before.uuid, (tmp_path / "b").as_uri())]


OPEN = """
import asyncio, sys
from app.models.database import open_database
from app.models.nodes import Nodes
from app.nodes.cluster import open_cluster
from app.nodes.sites import site_of

async def main(url, name, *directories):
    async with open_database(url, name) as database:
        async with open_cluster(list(map(site_of, directories)), "store", Nodes(database)) as cluster:
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
