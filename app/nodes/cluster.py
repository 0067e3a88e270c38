"""All nodes of a store: opening them, choosing among them, and remembering which of them fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from app.errors import BlobDamaged, BlobMissing, ConfigError, NodeError, NodeFull, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.metrics import NODE_ERRORS
from app.models.nodes import Nodes
from app.nodes.base import Node, Site, Stored, fresh
from app.nodes.identity import identify
from app.types import Blob, NodeId

log = get_logger(__name__)

NodeState = Literal["active", "full", "down", "absent"]

_REST = 5.0
"""Seconds for which a node that was full, or failed a write, is passed over before it is tried again."""

_ROOM = 16 << 20
"""Bytes free from which a node that was full counts as active again before a write has proved it."""

_ANSWER = 2.0
"""Seconds within which a node must say how much space it has, or it counts as down."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    id: NodeId
    state: NodeState
    free: int


@dataclass(slots=True)
class _Member:
    node: Node
    state: NodeState = "active"
    rests_until: float = 0.0

    def takes_writes(self) -> bool:
        return self.state == "active" or monotonic() >= self.rests_until


class Cluster:
    """The nodes as one. New chunks go to the nodes in turn."""

    def __init__(self, nodes: Iterable[Node], absent: Iterable[NodeId] = ()) -> None:
        self._members = {node.id: _Member(node) for node in nodes}
        self._absent = tuple(absent)
        self._turn = itertools.count()
        self._reading_turn = itertools.count()

    def place(self, count: int = 1, *, beside: Collection[NodeId] = ()) -> tuple[NodeId, ...]:
        """Nodes for the next new blob and its copies: `count` of them or, where there are not so many, all
        that take writes and are none of `beside`. Raises NoSpace, or NodesUnavailable, where there is none.
        """
        ready = [node for node, member in self._members.items() if node not in beside and member.takes_writes()]
        if ready:
            first = next(self._turn)
            return tuple(ready[(first + number) % len(ready)] for number in range(min(count, len(ready))))
        if any(member.state == "full" for member in self._members.values()):
            raise NoSpace("Every storage node is full. Delete files, or add a node.")
        raise NodesUnavailable("No storage node takes writes just now.")

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        """As `Node.write`; a node that fails is passed over for a while."""
        member = self._member(blob.node)
        try:
            await member.node.write(blob, data)
        except NodeError as error:
            NODE_ERRORS.labels(blob.node, "write").inc()
            member.state = "full" if isinstance(error, NodeFull) else "down"
            member.rests_until = monotonic() + _REST
            log.warning("node write failed", node=blob.node, state=member.state, error=error.message)
            raise
        member.state = "active"

    async def read(self, blob: Blob, size: int) -> memoryview:
        """As `Node.read`."""
        data = fresh(size)
        await self.read_into(blob, data)
        return data

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        """As `Node.read_into`."""
        try:
            await self._member(blob.node).node.read_into(blob, buffer)
        except (BlobMissing, BlobDamaged):
            raise
        except NodeError as error:
            NODE_ERRORS.labels(blob.node, "read").inc()
            log.warning("node read failed", node=blob.node, error=error.message)
            raise

    async def unlink(self, blobs: Iterable[Blob]) -> set[Blob]:
        """Remove blobs; return those that a node could not remove, or may not have. Never raises."""
        on_node: dict[NodeId, list[Blob]] = {}
        for blob in blobs:
            on_node.setdefault(blob.node, []).append(blob)
        left = await asyncio.gather(*(self._unlink(node, some) for node, some in on_node.items()))
        return {blob for some in left for blob in some}

    def takes_writes(self, node_id: NodeId) -> bool:
        """Whether the node is here, and neither full nor failing."""
        member = self._members.get(node_id)
        return member is not None and member.takes_writes()

    def by_readiness(self, blobs: Sequence[Blob]) -> list[Blob]:
        """The blobs of a chunk, those first that are most likely to be read at once; else in turn."""
        turn = next(self._reading_turn)
        turned = [blobs[(turn + number) % len(blobs)] for number in range(len(blobs))]
        return sorted(turned, key=lambda blob: not self._answers(blob.node))

    def _answers(self, node_id: NodeId) -> bool:
        member = self._members.get(node_id)
        return member is not None and (member.state != "down" or member.takes_writes())

    async def _unlink(self, node: NodeId, blobs: Sequence[Blob]) -> Sequence[Blob]:
        try:
            await self._member(node).node.unlink(blobs)
        except NodeError as error:
            NODE_ERRORS.labels(node, "unlink").inc()
            log.info("blobs left for the sweeper", node=node, blobs=len(blobs), error=error.message)
            return blobs
        return ()

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """The nodes that this process was given."""
        return tuple(self._members)

    @property
    def absent(self) -> tuple[NodeId, ...]:
        """The nodes that the store knows, but that this process was not given."""
        return self._absent

    async def list_blobs(self, node: NodeId, first_byte: int) -> Sequence[Stored]:
        """As `Node.list_blobs`."""
        return await self._member(node).node.list_blobs(first_byte)

    async def quarantine(self, blob: Blob) -> None:
        """As `Node.quarantine`."""
        await self._member(blob.node).node.quarantine(blob)

    async def statuses(self) -> list[NodeStatus]:
        """Every node that the store knows, with the bytes free behind it (0 where it can't say)."""
        here = await asyncio.gather(*map(self._status, self._members.values()))
        return [*here, *(NodeStatus(node_id, "absent", 0) for node_id in self._absent)]

    async def _status(self, member: _Member) -> NodeStatus:
        try:
            async with asyncio.timeout(_ANSWER):
                space = await member.node.space()
        except (NodeError, TimeoutError):
            return NodeStatus(member.node.id, "down", 0)
        # Nobody sends uploads to a server that is not ready: its nodes must not need one to be active again.
        again = member.takes_writes() and (member.state != "full" or space.free >= _ROOM)
        return NodeStatus(member.node.id, "active" if again else member.state, space.free)

    def _member(self, node_id: NodeId) -> _Member:
        member = self._members.get(node_id)
        if member:
            return member
        if node_id in self._absent:
            raise NodeError(f"the node {node_id} is not among those that this server was given")
        raise BlobMissing(f"the node {node_id} was removed from the store")


@asynccontextmanager
async def open_cluster(
    sites: Sequence[Site], store: str, registry: Nodes, *, only_known: bool = False
) -> AsyncIterator[Cluster]:
    """Open the node at every site as one of this store, new ones included.

    Raises ConfigError where a site is not what the registry knows (see `identity`). With `only_known`
    nothing is made or raised: what is no node of this store counts as absent.
    """
    nodes: list[Node] = []
    try:
        for site in sites:
            try:
                entry = await identify(site, store, await registry.entries(), make=not only_known)
            except (ConfigError, NodeError) as error:
                if not only_known:
                    raise
                log.warning("node not opened", location=site.location, error=error.message)
                continue
            if any(node.id == entry.id for node in nodes):
                raise ConfigError(f"The node {site.location} is named twice.")
            await registry.register(entry)
            nodes.append(site.open(entry.id))
        given = {node.id for node in nodes}
        absent = [entry.id for entry in await registry.entries() if entry.id not in given]
        if absent:
            log.warning("nodes absent", nodes=absent)
        yield Cluster(nodes, absent)
    finally:
        for node in nodes:
            await node.close()
