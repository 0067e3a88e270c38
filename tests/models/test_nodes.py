"""The registry of nodes: what people want of each is kept, and a removal leaves nothing behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.errors import ConfigError
from app.models.database import Database, Session
from app.models.nodes import NodeEntry, Nodes, Wish
from app.types import NodeId

pytestmark = pytest.mark.anyio

A, B = NodeId("a"), NodeId("b")
ENTRY = NodeEntry(A, "1", "file:///a")


async def test_a_start_keeps_what_people_want(database: Database) -> None:
    nodes = Nodes(database)
    await nodes.register(ENTRY)
    assert await nodes.entries() == [ENTRY]
    assert await nodes.change(A, Wish(weight=2.5))
    assert await nodes.change(A, Wish(zone="rack 1".replace(" ", "-"), use="readonly"))
    assert not await nodes.change(B, Wish(weight=1))
    await nodes.register(replace(ENTRY, location="file:///b"))
    wanted = NodeEntry(A, "1", "file:///b", 2.5, "rack-1", "readonly")
    assert await nodes.entries() == await nodes.look_surely() == [wanted]
    await nodes.add(ENTRY, Wish(zone=""))
    assert await nodes.entries() == [replace(wanted, location="file:///a", zone="", added=True)]


async def test_another_node_does_not_take_the_place_of_one(database: Database) -> None:
    nodes = Nodes(database)
    await asyncio.gather(*(nodes.register(ENTRY) for _ in range(8)))
    with pytest.raises(ConfigError, match="took the name a"):
        await nodes.register(replace(ENTRY, uuid="2", location="file:///elsewhere"))
    assert await nodes.entries() == [ENTRY]


@pytest.mark.parametrize(
    "wish", [{"weight": 0.0}, {"weight": -1.0}, {"weight": float("nan")}, {"weight": 101.0}, {"zone": "a/b"}]
)
def test_what_makes_no_sense_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Wish(**wish)


async def test_a_removal_ends_only_what_it_began(database: Database) -> None:
    """Whoever says meanwhile what a node is for, or begins to remove it again, is not overruled."""
    nodes = Nodes(database)
    assert await nodes.begin_removal(A) is None
    await nodes.register(ENTRY)
    first = await nodes.begin_removal(A)
    assert first
    assert (await nodes.entries())[0].use == "removing"
    await nodes.change(A, Wish(use="active"))
    assert not await nodes.end_removal(A, first)
    await nodes.give_up_removal(A, first)
    assert await nodes.entries() == [ENTRY]
    second = await nodes.begin_removal(A)
    assert second
    assert not await nodes.end_removal(A, first)
    await nodes.give_up_removal(A, second)
    assert (await nodes.entries())[0].use == "draining"
    third = await nodes.begin_removal(A)
    assert third
    assert await nodes.end_removal(A, third)
    assert await nodes.entries() == []


async def test_transactions_are_told_which_nodes_stay(database: Database) -> None:
    nodes = Nodes(database)
    await nodes.register(ENTRY)
    await nodes.register(NodeEntry(B, "2", "file:///b"))
    await nodes.begin_removal(B)

    async def ask(session: Session) -> None:
        assert await nodes.gone([A, B, NodeId("c")], session) == {B, "c"}
        assert await nodes.hold([A, A], session)
        assert not await nodes.hold([A, B], session)

    await database.transaction(ask)


async def test_a_removal_that_a_transaction_did_not_see_makes_it_look_again(database: Database) -> None:
    """One that names blobs itself is not seen by the removal's look. Seen to fail when `hold` only read."""
    nodes = Nodes(database)
    await nodes.register(ENTRY)
    begun: list[str | None] = []

    async def work(session: Session) -> bool:
        await nodes.uses([A], session)
        if not begun:
            begun.append(await nodes.begin_removal(A))
            assert await nodes.gone([A], session) == set(), "it sees the moment at which it began"
        return await nodes.hold([A], session)

    assert not await database.transaction(work)
    assert begun != [None]
