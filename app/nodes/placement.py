"""Which nodes get a chunk's blobs. Nothing is asked here, and nothing awaited.

Both ways spread the blobs of a chunk in the same manner: nodes of zones that have none of it come
first, and where there are no more such zones, the other nodes.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.types import Digest, NodeId

Way = Literal["round-robin", "consistent-hash"]

POINTS = 150
"""Virtual nodes on the ring for each unit of weight."""

_WORD = 8
"""Bytes of a position on the ring."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as placement sees it. `weight` is over 0; one with an empty zone is a zone of its own."""

    id: NodeId
    weight: float = 1.0
    zone: str = ""

    @property
    def area(self) -> tuple[str, str]:
        """What it shares with the nodes of its zone."""
        return (self.zone, "") if self.zone else ("", self.id)


@dataclass(frozen=True, slots=True)
class Request:
    """`count` blobs of a chunk are to be placed. `ready` are the nodes that take one; `used` those that
    have one already."""

    digest: Digest
    count: int
    ready: Collection[NodeId]
    used: Collection[NodeId] = ()


class Placement(ABC):
    """One way of choosing, among members that may be exchanged at any time."""

    by_digest = False
    """Whether nothing but a chunk's digest, and which nodes are ready, decides on its nodes."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._members: Mapping[NodeId, Member] = {}
        self.become(members)

    def become(self, members: Iterable[Member]) -> None:
        """Choose among these from now on. Those that take no writes for a while belong to them too."""
        self._members = {member.id: member for member in members}

    @abstractmethod
    def choose(self, request: Request) -> tuple[NodeId, ...]:
        """Distinct nodes out of those that are ready and not used: as many as are asked for, or all."""

    def _free(self, request: Request) -> list[Member]:
        used = set(request.used)
        return [self._members[node] for node in request.ready if node in self._members and node not in used]

    def _spread(self, order: Iterable[Member], free: Collection[Member], request: Request) -> list[Member]:
        """The first ones in this order, other zones before those that have a blob of the chunk."""
        areas = {self._members[node].area for node in request.used if node in self._members}
        fresh = {member.area for member in free} - areas
        chosen: list[Member] = []
        others: list[Member] = []
        for member in order:
            if member.area in fresh:
                fresh.remove(member.area)
                chosen.append(member)
            else:
                others.append(member)
            if len(chosen) + (0 if fresh else len(others)) >= request.count:
                break
        return [*chosen, *others][: request.count]


class RoundRobin(Placement):
    """In turn, by weights: each blob goes to the node that has had the least for its weight.

    That is Webster's way of giving out seats, one blob a seat: `(blobs + 1/2) / weight` is smallest. It
    mixes as evenly as smooth weighted round robin, and keeps the proportions among the nodes that were
    free to choose also where copies or zones left no choice for others.
    """

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._had: dict[NodeId, float] = {}
        self._were_ready: set[NodeId] = set()
        super().__init__(members)

    def become(self, members: Iterable[Member]) -> None:
        super().become(members)
        self._had = {node: had for node, had in self._had.items() if node in self._members}
        self._were_ready &= self._members.keys()

    def choose(self, request: Request) -> tuple[NodeId, ...]:
        self._welcome(request.ready)
        free = self._free(request)
        order = sorted(free, key=lambda member: self._had[member.id] + 0.5 / member.weight)
        chosen = self._spread(order, free, request)
        for member in chosen:
            self._had[member.id] += 1 / member.weight
        return tuple(member.id for member in chosen)

    def _welcome(self, ready: Collection[NodeId]) -> None:
        """Nodes that are new or were away begin where the others are: they do not get all that they missed."""
        now = {node for node in ready if node in self._members}
        least = min((self._had[node] for node in now & self._were_ready), default=0.0)
        for node in now - self._were_ready:
            self._had[node] = max(self._had.get(node, 0.0), least)
        self._were_ready = now


class ConsistentHash(Placement):
    """Nodes at many points of a ring, and a chunk at the point that follows one of its own.

    The chunk's digest gives four places on the ring; the one that is closest to the point after it
    counts (multi-probe consistent hashing, Appleton and O'Reilly 2015). With one place the shares of six
    equal nodes vary by 7 % on average, with some names by 15 %; with four by 2.7 %, and hardly ever
    by 7 %. A new node can only come between a place and its point, so that only what goes to the new
    one moves; and one that is skipped leaves the others as they are.
    """

    by_digest = True

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._ring: Sequence[int] = ()
        self._owners: Sequence[NodeId] = ()
        self._weights: Mapping[NodeId, float] = {}
        super().__init__(members)

    def become(self, members: Iterable[Member]) -> None:
        super().become(members)
        weights = {member.id: member.weight for member in self._members.values()}
        if weights != self._weights:
            self._weights = weights
            points = sorted((point, node) for node, weight in weights.items() for point in _points(node, weight))
            self._ring, self._owners = [point for point, _ in points], [node for _, node in points]

    def choose(self, request: Request) -> tuple[NodeId, ...]:
        free = self._free(request)
        ids = {member.id for member in free}
        order = (self._members[node] for node in self._clockwise(self._place(request.digest), ids)) if ids else ()
        return tuple(member.id for member in self._spread(order, free, request))

    def _place(self, digest: Digest) -> int:
        """The index of the point that the chunk belongs to. The last point is followed by the first."""

        def distance(place: int, index: int) -> int:
            return (self._ring[index % len(self._ring)] - place) % (1 << 8 * _WORD)

        places = (int.from_bytes(digest[at : at + _WORD], "big") for at in range(0, len(digest), _WORD))
        _, index = min((distance(place, index), index) for place, index in ((p, self._after(p)) for p in places))
        return index % len(self._ring)

    def _after(self, place: int) -> int:
        return bisect_left(self._ring, place)

    def _clockwise(self, index: int, wanted: Collection[NodeId]) -> Iterator[NodeId]:
        """Each of the wanted nodes once, in the order of their first points from there on."""
        left = set(wanted)
        while left:
            node = self._owners[index]
            if node in left:
                left.remove(node)
                yield node
            index = (index + 1) % len(self._owners)


def _points(node: NodeId, weight: float) -> Iterator[int]:
    for number in range(max(1, round(POINTS * weight))):
        yield int.from_bytes(hashlib.sha256(f"{node} {number}".encode()).digest()[:_WORD], "big")


WAYS: Mapping[Way, Callable[[], Placement]] = {"round-robin": RoundRobin, "consistent-hash": ConsistentHash}
