"""A server follows the registry: nodes come and go, and what is wanted of them changes, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import BlobMissing, DatabaseUnavailable, NodeError
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes, Wish
from app.nodes import members
from app.nodes.cluster import Cluster
from app.nodes.directory_site import DirectorySite
from app.nodes.identity import identify
from app.nodes.members import Opener, open_cluster
from app.types import Blob, Digest, NodeId, new_generation
from tests.conformance.nodes import read_blob
from tests.support import eventually_async

pytestmark = pytest.mark.anyio

DIGEST = Digest(b"d" * 32)
A, B = NodeId("a"), NodeId("b")


def blob_on(node: NodeId) -> Blob:
    return Blob(node, DIGEST, new_generation())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_FOLLOW", 0.02)


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is learnt but when somebody asks."""
    monkeypatch.setattr(members, "_FOLLOW", 1e6)


Opened = Callable[..., Any]


@pytest.fixture
def opened(database: Database, tmp_path: Path) -> Opened:
    @asynccontextmanager
    async def opened(*names: str, **how: Any) -> AsyncIterator[Cluster]:
        sites = [DirectorySite(tmp_path / name) for name in names]
        async with open_cluster(sites, Opener("store", Nodes(database)), **{"follow": True, **how}) as cluster:
            yield cluster

    return opened


async def add(database: Database, place: Path, **wish: Any) -> NodeEntry:
    """As another process does it."""
    nodes = Nodes(database)
    entry = await identify(DirectorySite(place), "store", await nodes.entries())
    await nodes.add(entry, Wish(**wish))
    return entry


async def becomes(cluster: Cluster, **states: str) -> None:
    """Wait until the nodes are these, in these states."""

    async def now() -> bool:
        return {status.id: status.state for status in await cluster.statuses()} == states

    await eventually_async(now)


async def test_changes_are_followed(database: Database, tmp_path: Path, opened: Opened, soon: None) -> None:
    nodes = Nodes(database)
    async with opened("a") as cluster:
        await becomes(cluster, a="active")
        await add(database, tmp_path / "b", zone="z")
        await becomes(cluster, a="active", b="active")
        blob = blob_on(B)
        await cluster.write(blob, b"x")
        for use in ("draining", "readonly"):
            await nodes.change(B, Wish(use=use))
            await becomes(cluster, a="active", b=use)
            assert not cluster.takes_writes(B)
            assert {cluster.place(DIGEST) for _ in range(4)} == {("a",)}
            assert await read_blob(cluster, blob, 1) == b"x"
            assert [stored.blob for stored in await cluster.list_blobs(B, DIGEST[0])] == [blob]
        await nodes.change(B, Wish(weight=3, use="active"))
        await becomes(cluster, a="active", b="active")

        async def thrice() -> bool:
            return [cluster.place(DIGEST)[0] for _ in range(8)].count(B) == 6

        await eventually_async(thrice)
        await nodes.remove(B)
        await becomes(cluster, a="active")
        with pytest.raises(BlobMissing):
            await read_blob(cluster, blob, 1)
        assert await cluster.unlink([blob]) == set(), "nothing is left to be done there"
    assert (tmp_path / "b" / "node.json").exists()


async def test_a_server_opens_what_was_added_before_it_started(
    database: Database, tmp_path: Path, opened: Opened
) -> None:
    for name in ("a", "b"):
        await add(database, tmp_path / name)
    (tmp_path / "b").rename(tmp_path / "unmounted")
    async with opened("c", follow=False) as cluster:
        await becomes(cluster, c="active", a="active", b="absent")


async def test_what_could_not_be_opened_is_opened_later(
    database: Database, tmp_path: Path, opened: Opened, soon: None
) -> None:
    await add(database, tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / "unmounted")
    async with opened("a") as cluster:
        await becomes(cluster, a="active", b="absent")
        (tmp_path / "unmounted").rename(tmp_path / "b")
        await becomes(cluster, a="active", b="active")


async def test_a_blob_on_a_node_that_is_new_is_not_missing(
    database: Database, tmp_path: Path, opened: Opened, seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gateway learnt of the node first. Seen to fail when only nodes known so far were nodes."""
    async with opened("a") as cluster:
        missing = blob_on(B)
        with pytest.raises(BlobMissing):
            await read_blob(cluster, missing, 1)
        entry = await add(database, tmp_path / "b")
        opening = asyncio.Event()
        known = Opener.known

        async def slow(self: Opener, *arguments: Any, **named: Any) -> Any:
            await opening.wait()
            return await known(self, *arguments, **named)

        monkeypatch.setattr(Opener, "known", slow)
        for call in (read_blob(cluster, missing, 1), cluster.list_blobs(B, 0), cluster.write(missing, b"x")):
            with pytest.raises(NodeError) as raised:
                await call
            assert not isinstance(raised.value, BlobMissing), "it is known now, and not open yet"
        assert await cluster.unlink([missing]) == {missing}
        assert (cluster.absent, cluster.is_removed(B)) == (("b",), False)
        opening.set()
        await becomes(cluster, a="active", b="active")
        with pytest.raises(BlobMissing, match="is missing on b"):
            await read_blob(cluster, missing, 1)
        assert entry.id == B


async def test_the_registry_is_asked_once_for_all_who_wait(
    database: Database, opened: Opened, seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is answered by a reading that began after the question."""
    begun: list[asyncio.Event] = []
    real = Nodes.look_surely

    async def counted(self: Nodes) -> list[NodeEntry]:
        begun.append(asyncio.Event())
        await begun[-1].wait()
        return await real(self)

    monkeypatch.setattr(Nodes, "look_surely", counted)
    async with opened("a") as cluster:
        first = asyncio.create_task(read_blob(cluster, blob_on(B), 1))
        await eventually_async(lambda: _holds(lambda: len(begun) == 1))
        others = [asyncio.create_task(read_blob(cluster, blob_on(B), 1)) for _ in range(20)]
        await asyncio.sleep(0)
        begun[0].set()
        await eventually_async(lambda: _holds(lambda: len(begun) == 2))
        assert first.done()
        begun[1].set()
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BlobMissing}
        assert len(begun) == 2


async def _holds(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_nothing_is_missing_while_nobody_can_tell(
    opened: Opened, seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: Nodes) -> list[NodeEntry]:
        raise DatabaseUnavailable("away")

    async with opened("a") as cluster:
        monkeypatch.setattr(Nodes, "look_surely", away)
        with pytest.raises(NodeError) as raised:
            await read_blob(cluster, blob_on(B), 1)
        assert not isinstance(raised.value, BlobMissing)
        assert await cluster.unlink([blob := blob_on(B)]) == {blob}


async def test_known_nodes_are_opened_at_the_same_time(
    database: Database, tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail, by its time limit, when each waited for the one before it."""
    names = ("a", "b", "c")
    async with opened(*names):
        pass
    all_there = asyncio.Barrier(len(names))
    real = DirectorySite.identity

    async def together(self: DirectorySite) -> bytes | None:
        await all_there.wait()
        return await real(self)

    monkeypatch.setattr(DirectorySite, "identity", together)
    async with opened(*names, follow=False) as cluster:
        monkeypatch.setattr(DirectorySite, "identity", real)
        await becomes(cluster, a="active", b="active", c="active")


async def test_a_node_that_hangs_holds_up_no_other_that_was_added(
    database: Database, tmp_path: Path, opened: Opened, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DirectorySite.identity
    hangs = (tmp_path / "b").as_uri()

    async def identity(self: DirectorySite) -> bytes | None:
        if self.location == hangs:
            await asyncio.Event().wait()
        return await real(self)

    async with opened("a") as cluster:
        await add(database, tmp_path / "b")
        monkeypatch.setattr(DirectorySite, "identity", identity)
        await becomes(cluster, a="active", b="absent")
        await add(database, tmp_path / "c")
        await becomes(cluster, a="active", b="absent", c="active")


async def test_a_command_opens_nothing_behind_its_own_back(database: Database, tmp_path: Path, opened: Opened) -> None:
    async with opened("a", follow=False):
        pass
    async with opened("a", follow=False, only_known=True) as cluster:
        await add(database, tmp_path / "b")
        with pytest.raises(NodeError) as raised:
            await read_blob(cluster, blob_on(B), 1)
        assert not isinstance(raised.value, BlobMissing)
        await becomes(cluster, a="active", b="absent")
