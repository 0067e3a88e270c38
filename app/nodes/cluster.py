"""All nodes of a store: opening them, and choosing among those that work."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.errors import BlobMissing, ConfigError, NodeError, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.nodes import Nodes
from app.nodes.base import Node, Site, Stored
from app.nodes.guarded import GuardedNode
from app.nodes.health import Health, NodeState, show
from app.nodes.identity import identify
from app.types import Blob, Digest, NodeId, Redundancy

log = get_logger(__name__)

_ROOM = 16 << 20
"""Bytes free from which a node that was full counts as active again before a write has proved it."""

_KNOWN, _NEW = 5.0, 30.0
"""Seconds that a site gets at the start to say who it is, where that is known, and to become a node."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """`health` is None for a node that this process was not given."""

    id: NodeId
    state: NodeState
    free: int
    health: Health | None = None


class Cluster:
    """The nodes as one. New chunks go to the nodes in turn."""

    def __init__(self, nodes: Iterable[Node], absent: Iterable[NodeId] = ()) -> None:
        guards = (node if isinstance(node, GuardedNode) else GuardedNode(node) for node in nodes)
        self._guards = {guard.id: guard for guard in guards}
        self._absent = tuple(absent)
        self._turn = itertools.count()
        self._reading_turn = itertools.count()
        for node_id in self._absent:
            show(node_id, "absent")

    def place(
        self,
        digest: Digest,  # noqa: ARG002
        count: int = 1,
        *,
        beside: Collection[NodeId] = (),
    ) -> tuple[NodeId, ...]:
        """Nodes for the next new blob and its copies: `count` of them or, where there are not so many, all
        that take writes and are none of `beside`. Raises NoSpace, or NodesUnavailable, where there is none.
        """
        ready = [node for node, guard in self._guards.items() if node not in beside and guard.takes_writes]
        if ready:
            first = next(self._turn)
            return tuple(ready[(first + number) % len(ready)] for number in range(min(count, len(ready))))
        if any(guard.state == "full" for guard in self._guards.values()):
            raise NoSpace("Every storage node is full. Delete files, or add a node.")
        raise NodesUnavailable("No storage node takes writes just now.")

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        """As `Node.write`; a node that fails is passed over for a while."""
        await self._guard(blob.node).write(blob, data)

    async def read(self, blob: Blob, size: int) -> memoryview:
        """As `Node.read`."""
        return await self._guard(blob.node).read(blob, size)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        """As `Node.read_into`."""
        await self._guard(blob.node).read_into(blob, buffer)

    async def unlink(self, blobs: Iterable[Blob]) -> set[Blob]:
        """Remove blobs; return those that a node could not remove, or may not have. Never raises."""
        on_node: dict[NodeId, list[Blob]] = {}
        for blob in blobs:
            on_node.setdefault(blob.node, []).append(blob)
        left = await asyncio.gather(*(self._unlink(node, some) for node, some in on_node.items()))
        return {blob for some in left for blob in some}

    def takes_writes(self, node_id: NodeId) -> bool:
        """Whether the node is here, and neither full nor failing."""
        guard = self._guards.get(node_id)
        return guard is not None and guard.takes_writes

    def by_readiness(self, blobs: Sequence[Blob], redundancy: Redundancy) -> list[Blob]:
        """The blobs of a chunk, those first that are most likely to be read at once; shards that need no
        decoding before parities; else in turn."""
        turn = next(self._reading_turn)
        turned = [blobs[(turn + number) % len(blobs)] for number in range(len(blobs))]
        return sorted(turned, key=lambda blob: (not self._answers(blob.node), _is_parity(blob, redundancy)))

    def _answers(self, node_id: NodeId) -> bool:
        guard = self._guards.get(node_id)
        return guard is not None and guard.is_prompt

    async def _unlink(self, node: NodeId, blobs: Sequence[Blob]) -> Sequence[Blob]:
        try:
            await self._guard(node).unlink(blobs)
        except NodeError as error:
            log.info("blobs left for the sweeper", node=node, blobs=len(blobs), error=error.message)
            return blobs
        return ()

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """The nodes that this process was given."""
        return tuple(self._guards)

    @property
    def absent(self) -> tuple[NodeId, ...]:
        """The nodes that the store knows, but that this process was not given."""
        return self._absent

    async def list_blobs(self, node: NodeId, first_byte: int) -> Sequence[Stored]:
        """As `Node.list_blobs`."""
        return await self._guard(node).list_blobs(first_byte)

    async def quarantine(self, blob: Blob) -> None:
        """As `Node.quarantine`."""
        await self._guard(blob.node).quarantine(blob)

    async def statuses(self) -> list[NodeStatus]:
        """Every node that the store knows, with the bytes free behind it (0 where it can't say)."""
        here = await asyncio.gather(*map(self._status, self._guards.values()))
        return [*here, *(NodeStatus(node_id, "absent", 0) for node_id in self._absent)]

    async def _status(self, guard: GuardedNode) -> NodeStatus:
        try:
            free = (await guard.space()).free
        except NodeError:
            return NodeStatus(guard.id, "down", 0, guard.health)
        # Nobody sends uploads to a server that is not ready: its nodes must not need one to be active again.
        again = guard.state == "full" and guard.takes_writes and free >= _ROOM
        return NodeStatus(guard.id, "active" if again else guard.state, free, guard.health)

    def _guard(self, node_id: NodeId) -> GuardedNode:
        guard = self._guards.get(node_id)
        if guard:
            return guard
        if node_id in self._absent:
            raise NodeError(f"the node {node_id} is not among those that this server was given")
        raise BlobMissing(f"the node {node_id} was removed from the store")


def _is_parity(blob: Blob, redundancy: Redundancy) -> bool:
    return blob.part is not None and blob.part.index >= redundancy.needed


@asynccontextmanager
async def open_cluster(
    sites: Sequence[Site], store: str, registry: Nodes, *, only_known: bool = False
) -> AsyncIterator[Cluster]:
    """Open the node at every site as one of this store, new ones included.

    A node that the registry knows may be away: it counts as down, and comes into use when it answers
    and is the one that is known. Raises ConfigError where a site is not what the registry knows (see
    `identity`), or where there is no answer from a new one. With `only_known` nothing is made or
    raised: what is no node of this store, or is away, counts as absent.
    """
    guards: list[GuardedNode] = []
    try:
        for site in sites:
            try:
                guard = await _opened(site, store, registry, only_known=only_known)
            except (ConfigError, NodeError) as error:
                if not only_known:
                    raise
                log.warning("node not opened", location=site.location, error=error.message)
                continue
            guards.append(guard)
            if sum(other.id == guard.id for other in guards) > 1:
                raise ConfigError(f"The node {site.location} is named twice.")
        given = {guard.id for guard in guards}
        absent = [entry.id for entry in await registry.entries() if entry.id not in given]
        if absent:
            log.warning("nodes absent", nodes=absent)
        yield Cluster(guards, absent)
    finally:
        await asyncio.gather(*(guard.close() for guard in guards))


async def _opened(site: Site, store: str, registry: Nodes, *, only_known: bool) -> GuardedNode:
    entries = await registry.entries()
    known = next((entry for entry in entries if entry.location == site.location), None)
    answers = True
    try:
        async with asyncio.timeout(_KNOWN if known else _NEW):
            entry = await identify(site, store, entries, make=not only_known)
    except (NodeError, TimeoutError) as error:
        reason = error.message if isinstance(error, NodeError) else "it takes too long to answer"
        if known is None or only_known:
            raise ConfigError(
                f"The node {site.location} does not answer ({reason}). Start it, or name the nodes without it."
            ) from error
        log.warning("node does not answer yet", node=known.id, location=site.location, error=reason)
        entry, answers = known, False
    else:
        await registry.register(entry)

    async def verify() -> None:
        await identify(site, store, [entry], make=False)

    return GuardedNode(site.open(entry.id), verify=verify, answers=answers)
