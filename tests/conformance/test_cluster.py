"""Choosing nodes, and knowing them again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import ConfigError, NodeError, NodeFull, NodesUnavailable, NoSpace
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes
from app.nodes import cluster as cluster_module
from app.nodes.base import Node, Space
from app.nodes.cluster import Cluster, open_cluster
from app.nodes.identity import FANOUT, identify
from app.types import Blob, Digest, NodeId, new_generation

pytestmark = pytest.mark.anyio


class Moody(Node):
    """Keeps blobs in memory, and fails as it is told."""

    def __init__(self, node_id: str) -> None:
        self.id = NodeId(node_id)
        self.error: NodeError | None = None
        self.blobs: dict[str, bytes] = {}

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        if self.error:
            raise self.error
        self.blobs[blob.name] = bytes(data)

    async def read(self, blob: Blob, size: int) -> bytes:
        return self.blobs[blob.name][:size]

    async def unlink(self, blob: Blob) -> None:
        self.blobs.pop(blob.name, None)

    async def space(self) -> Space:
        return Space(1, 2)

    async def close(self) -> None: ...


async def write_somewhere(cluster: Cluster) -> None:
    await cluster.write(Blob(cluster.place(), Digest(b"d" * 32), new_generation()), b"x")


async def test_new_blobs_go_round() -> None:
    nodes = [Moody(name) for name in "abc"]
    cluster = Cluster(nodes)
    for _ in range(30):
        await write_somewhere(cluster)
    assert [len(node.blobs) for node in nodes] == [10, 10, 10]


async def test_nodes_that_fail_are_passed_over_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Moody(name) for name in "abc"]
    cluster = Cluster(nodes)
    now = 1000.0
    monkeypatch.setattr(cluster_module, "monotonic", lambda: now)
    nodes[0].error, nodes[1].error = NodeFull("full"), NodeError("broken")
    for _ in range(2):
        while {member.node.id for member in cluster._members.values() if member.takes_writes()} != {"c"}:
            with suppress(NodeError):
                await write_somewhere(cluster)
        assert Counter(cluster.place() for _ in range(6)) == {"c": 6}
        assert [status.state for status in await cluster.statuses()] == ["full", "down", "active"]
        await write_somewhere(cluster)
        now += cluster_module._REST
    nodes[0].error = nodes[1].error = None
    for _ in range(3):
        await write_somewhere(cluster)
    assert [status.state for status in await cluster.statuses()] == ["active"] * 3


@pytest.mark.parametrize(
    ("errors", "expected"),
    [(["f", "f"], NoSpace), (["f", "d"], NoSpace), (["d", "d"], NodesUnavailable), ([], NodesUnavailable)],
)
async def test_when_no_node_is_left(errors: list[str], expected: type[Exception]) -> None:
    nodes = [Moody(f"n{number}") for number in range(len(errors))]
    cluster = Cluster(nodes)
    for node, kind in zip(nodes, errors, strict=True):
        node.error = NodeFull("full") if kind == "f" else NodeError("down")
    for _ in nodes:
        with pytest.raises(NodeError):
            await write_somewhere(cluster)
    with pytest.raises(expected):
        cluster.place()


async def test_opening_again_finds_the_same_nodes(database: Database, tmp_path: Path) -> None:
    directories = [tmp_path / "disk1" / "data", tmp_path / "disk2" / "data"]
    for _ in range(2):
        async with open_cluster(directories, "store", Nodes(database)) as cluster:
            assert [status.id for status in await cluster.statuses()] == ["data", "data-2"]
    async with open_cluster(directories[:1], "store", Nodes(database)) as cluster:
        assert [status.state for status in await cluster.statuses()] == ["active", "absent"]
    with pytest.raises(ConfigError, match="named twice"):
        async with open_cluster([directories[0], directories[0]], "store", Nodes(database)):
            pass


def known(path: Path, store: str = "store") -> NodeEntry:
    return identify(path, store, [])


def test_a_new_directory_is_made_ready(tmp_path: Path) -> None:
    entry = known(tmp_path / "a" / "disk one")
    assert entry.id == "disk-one"
    assert {path.name for path in Path(entry.location).iterdir()} == {"node.json", *FANOUT}
    assert known(tmp_path / "a" / "disk one") == entry


def test_a_directory_that_was_not_finished_is_finished(tmp_path: Path) -> None:
    for name in FANOUT[:100]:
        (tmp_path / name).mkdir()
    assert (Path(known(tmp_path).location) / "node.json").exists()


def test_an_empty_directory_under_a_known_name_is_refused(tmp_path: Path) -> None:
    entry = known(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "aside")
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match="Is its disk mounted"):
        identify(tmp_path / "a", "store", [entry])
    assert not list((tmp_path / "a").iterdir())


def test_swapped_directories_are_refused(tmp_path: Path) -> None:
    first = known(tmp_path / "a")
    second = identify(tmp_path / "b", "store", [first])
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(ConfigError, match="swapped"):
        identify(tmp_path / "a", "store", [first, second])


def test_a_directory_may_move(tmp_path: Path) -> None:
    entry = known(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = identify(tmp_path / "b", "store", [entry])
    assert (moved.id, moved.uuid) == (entry.id, entry.uuid)
    assert moved.location == str(tmp_path / "b")


def test_what_is_no_node_of_this_store_is_refused(tmp_path: Path) -> None:
    known(tmp_path / "other", "another store")
    with pytest.raises(ConfigError, match="belongs to another store"):
        known(tmp_path / "other")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"neither a node nor empty \(it holds letter.txt\)"):
        known(tmp_path / "home")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be used"):
        known(tmp_path / "file")
    newer = known(tmp_path / "newer")
    identity = Path(newer.location) / "node.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"format": 2}))
    with pytest.raises(ConfigError, match="format 2"):
        known(tmp_path / "newer")
    identity.write_text("{")
    with pytest.raises(ConfigError, match="garbled"):
        known(tmp_path / "newer")


def test_two_workers_that_initialise_at_once_agree(tmp_path: Path) -> None:
    entries: list[NodeEntry] = []

    def work() -> None:
        with cluster_module._alone(tmp_path / "n"):
            entries.append(known(tmp_path / "n"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries) == 4
    assert len(set(entries)) == 1
