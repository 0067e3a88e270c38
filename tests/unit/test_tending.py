"""What is to be done with a chunk, how urgently, and how fast: without database and nodes."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from app.models.chunk import Chunk
from app.models.nodes import NodeEntry, Use
from app.types import Blob, Digest, Generation, NodeId, Redundancy, new_generation
from app.upkeep.completing import Completing
from app.upkeep.drain import Drain
from app.upkeep.pace import due_in
from app.upkeep.places import Places
from app.upkeep.rebalance import Rebalance
from app.upkeep.shares import Shares

NOBODY: Any = None
"""A part that pure decisions do not ask."""


def places(**uses: Use) -> Places:
    """The first nodes are where every chunk belongs."""
    known = Home(NOBODY, NOBODY)
    known.known = {NodeId(node): NodeEntry(NodeId(node), "", "", use=use) for node, use in uses.items()}
    return known


class Home(Places):
    by_digest = True

    def __init__(self, *_: Any) -> None:
        """It asks nobody."""

    def home(self, digest: Digest, count: int) -> list[NodeId]:
        return list(self.known)[:count]


def chunk(*nodes: str, redundancy: str = "1", adding: tuple[str, ...] = (), **fields: Any) -> Chunk:
    digest = Digest(bytes(32))
    blobs, added = (tuple(Blob(NodeId(n), digest, new_generation()) for n in some) for some in (nodes, adding))
    given: dict[str, Any] = {"size": 1 << 20, "state": "live", "refs": 1, **fields}
    return Chunk(
        digest,
        generation=Generation("0"),
        blobs=blobs,
        changed_at=datetime.now(UTC),
        adding=added,
        redundancy=Redundancy.parse(redundancy),
        **given,
    )


@pytest.mark.parametrize(
    ("nodes", "redundancy", "level"),
    [
        ("ab", "2", None),
        ("a", "2", 0),
        ("a", "3", 0),
        ("ab", "3", 1),
        ("ax", "2", 0),
        ("xy", "2", -1),
        ("abx", "2", 1),  # One more than it is to have, but on a node that was removed.
        ("abc", "ec:2+1", None),
        ("ab", "ec:2+1", 0),
        ("abcd", "ec:4+2", 0),
        ("abcde", "ec:4+2", 1),
        ("abcxyz", "ec:4+2", -1),
    ],
)
def test_a_level_of_repair_is_how_many_more_blobs_may_be_lost(nodes: str, redundancy: str, level: int | None) -> None:
    repair = Completing(places(a="active", b="draining", c="readonly", d="active", e="active"), NOBODY)
    assert repair.level(chunk(*nodes, redundancy=redundancy)) == level
    assert repair.level(chunk(*nodes, redundancy=redundancy, refs=0)) is None
    assert repair.level(chunk(*nodes, redundancy=redundancy, state="lost")) is None


def test_a_drain_is_about_all_that_names_the_node() -> None:
    drain = Drain(places(a="active", b="draining"), NOBODY, NOBODY)
    assert drain.parameters == {"nodes": ["b"]}
    assert drain.level(chunk("a")) is None
    assert drain.level(chunk("a", "b")) == 0
    assert drain.level(chunk("a", adding=("b",))) == 0
    assert drain.level(chunk("b", refs=0)) == 0
    assert drain.level(chunk("b", state="pending")) == 0
    assert drain.level(chunk("b", state="lost")) == 0
    assert drain.level(chunk("b", state="dead")) is None


def test_what_is_to_be_converted_comes_before_what_is_to_be_moved() -> None:
    some = places(a="active", b="active", c="active")
    convert = Rebalance(some, NOBODY, NOBODY, Redundancy.parse("ec:2+1"))
    assert convert.level(chunk("a", "b", redundancy="2")) == 0
    assert convert.level(chunk("a", "b", "c", redundancy="ec:2+1")) is None
    assert convert.level(chunk("a", "b", "d", redundancy="ec:2+1")) == 1
    assert convert.level(chunk("a", "b", redundancy="2", size=100)) is None, "small ones are copies in any case"
    assert convert.level(chunk("a", "b", redundancy="2", refs=0)) is None
    move = Rebalance(some, NOBODY, NOBODY)
    assert move.level(chunk("a", "b", redundancy="2")) is None
    assert move.level(chunk("b", "c", redundancy="2")) == 1


# Shares


def entry(node: str, weight: float, zone: str) -> NodeEntry:
    return NodeEntry(NodeId(node), "", "", weight, zone)


def balanced(weights: dict[str, float], held: dict[str, int], zones: dict[str, str] | None = None) -> tuple[Any, int]:
    """What nodes hold in the end that held so many single blobs of one byte each, and how many moves that took."""
    zones = zones or {}
    nodes = {NodeId(node): entry(node, weight, zones.get(node, "")) for node, weight in weights.items()}
    shares = Shares(nodes, {NodeId(node): count for node, count in held.items()})
    blobs = [NodeId(node) for node, count in held.items() for _ in range(count)]
    Random(1).shuffle(blobs)
    moves = 0
    for number, node in enumerate(blobs):
        target = shares.target(node, 1, [node], list(nodes))
        if target:
            shares.move(1, node, target)
            blobs[number] = target
            moves += 1
    assert all(shares.target(node, 1, [node], list(nodes)) is None for node in blobs), "there is a second round"
    return {node: blobs.count(NodeId(node)) for node in weights}, moves


@pytest.mark.parametrize(
    ("weights", "held", "expected", "moves"),
    [
        ({"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 400, "b": 400, "c": 400, "d": 0}, [300, 300, 300, 300], 300),
        ({"a": 1, "b": 2}, {"a": 300, "b": 0}, [100, 200], 200),
        ({"a": 1, "b": 1}, {"a": 500, "b": 500}, [500, 500], 0),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 0, "c": 0}, [1, 0, 0], 0),
    ],
)
def test_nodes_get_their_shares_by_as_few_moves_as_that_takes(
    weights: dict[str, float], held: dict[str, int], expected: list[int], moves: int
) -> None:
    after, made = balanced(weights, held)
    for node, wanted in zip(weights, expected, strict=True):
        assert after[node] == pytest.approx(wanted, rel=0.03, abs=1)
    assert made == pytest.approx(moves, rel=0.03)


def test_no_node_gets_two_blobs_of_a_chunk_and_no_zone_loses_its_only_one() -> None:
    nodes = {NodeId(node): entry(node, 1, node[0]) for node in ("a1", "a2", "b1", "b2")}
    a1, a2, b1, b2 = nodes
    shares = Shares(nodes, {a1: 100, a2: 0, b1: 0, b2: 0})
    everywhere = list(nodes)
    assert shares.target(a1, 1, [a1, b1], everywhere) == a2
    assert shares.target(a1, 1, [a1, b1], [b2]) is None
    assert shares.target(a1, 1, [a1, a2], [a2, b2]) == b2
    assert shares.target(a1, 1, everywhere, everywhere) is None
    assert shares.target(b1, 1, [b1], everywhere) is None


# Pace


def test_what_is_to_be_read_is_spread_over_the_time_that_is_left() -> None:
    assert due_in(0.0, 0.5, since_last=0, left=100) == 50
    assert due_in(0.0, 0.5, since_last=30, left=100) == 20
    assert due_in(0.5, 0.75, since_last=0, left=50) == 25
    assert due_in(0.5, 1.0, since_last=0, left=50) == 50, "the end is due as well"
    assert due_in(0.0, 0.5, since_last=80, left=100) == 0, "it was away"
    assert due_in(0.5, 0.75, since_last=0, left=20) == 10, "and hurries no more than it must"
    assert due_in(0.5, 0.75, since_last=0, left=-5) == 0
    assert due_in(1.0, 1.0, since_last=0, left=5) == 0
