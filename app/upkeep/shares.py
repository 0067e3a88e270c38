"""How much each node should hold, and which moves bring it nearer to that. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.models.nodes import NodeEntry
from app.nodes.placement import Member
from app.types import NodeId

_SLACK = 0.01
"""The part of its share by which a node may hold more before it gives anything away."""


class Shares:
    """Of nodes that are to hold bytes in proportion to their weights; `held` is what each has now. Every move
    makes the squares of what they have too much or too little smaller: it never goes to and fro."""

    def __init__(self, nodes: Mapping[NodeId, NodeEntry], held: Mapping[NodeId, int]) -> None:
        self._nodes = nodes
        weights = sum(entry.weight for entry in nodes.values())
        total = sum(held.get(node, 0) for node in nodes)
        self._share = {node: total * entry.weight / weights for node, entry in nodes.items()}
        self._excess = {node: held.get(node, 0) - share for node, share in self._share.items()}

    @property
    def surplus(self) -> float:
        """Bytes that lie on nodes which have more than their shares."""
        return sum(excess for node, excess in self._excess.items() if self._gives(node))

    def target(self, node: NodeId, size: int, holders: Collection[NodeId], ready: Collection[NodeId]) -> NodeId | None:
        """Where a blob of this size had better go from the node; None where it stays. `holders` are the nodes
        of its chunk, none of which gets another; `ready` those that take blobs. No zone loses its last one."""
        if not self._gives(node):
            return None
        zones = {self._zone(other) for other in holders if other != node}
        free = [
            other
            for other in ready
            if other in self._excess
            and other not in holders
            and size < self._excess[node] - self._excess[other]
            and (self._zone(other) not in zones or self._zone(node) in zones)
        ]
        return min(free, key=lambda other: self._excess[other], default=None)

    def move(self, size: int, node: NodeId, to: NodeId) -> None:
        """A blob goes, or will go, from a node to another."""
        for place, change in ((node, -size), (to, size)):
            if place in self._excess:
                self._excess[place] += change

    def _gives(self, node: NodeId) -> bool:
        return self._excess.get(node, 0) > _SLACK * self._share.get(node, 0)

    def _zone(self, node: NodeId) -> tuple[str, str]:
        return Member(node, zone=self._nodes[node].zone if node in self._nodes else "").area
