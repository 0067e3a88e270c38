"""All nodes of a store as one: choosing among those that work. `members` opens them, and keeps them up to date."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from app.errors import BlobMissing, DatabaseUnavailable, NodeError, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.nodes import NodeEntry, Use
from app.nodes.base import Node, Stored
from app.nodes.guarded import GuardedNode
from app.nodes.health import Health, NodeState, show, show_no_more
from app.nodes.placement import Member, Placement, Request, RoundRobin
from app.types import Blob, Digest, NodeId, Redundancy

log = get_logger(__name__)

_ROOM = 16 << 20
"""Bytes free from which a node that was full counts as active again before a write has proved it."""


_FAR, _FAR_AT_LEAST = 2.0, 0.01
"""A node is far where reads take so many times as long as on the nearest one, and so many seconds more."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """`health` is None for a node that is not open in this process."""

    id: NodeId
    state: NodeState
    free: int
    health: Health | None = None


async def _nothing_new() -> None:
    """The registry is not followed."""


class Cluster:
    """The nodes as one. `placement` says where new blobs go, by default in turn."""

    def __init__(
        self, nodes: Iterable[Node] = (), absent: Iterable[NodeId] = (), placement: Placement | None = None
    ) -> None:
        guards = (node if isinstance(node, GuardedNode) else GuardedNode(node) for node in nodes)
        self._guards = {guard.id: guard for guard in guards}
        self._absent: tuple[NodeId, ...] = ()
        self._leaving: frozenset[NodeId] = frozenset()
        self._placement = placement or RoundRobin()
        self._placement.become(map(Member, self._guards))
        self._reading_turn = itertools.count()
        self._look: Callable[[], Awaitable[None]] = _nothing_new
        self._note_absent(absent)

    # Who belongs to it

    def follow(self, look: Callable[[], Awaitable[None]]) -> None:
        """Await `look` to learn of the registry as it is then; it calls `know`, and raises DatabaseUnavailable."""
        self._look = look

    def know(self, entries: Sequence[NodeEntry]) -> list[GuardedNode]:
        """What the registry says: all nodes there are, and what people want of them. Returns those that
        were open and are forgotten now, for the caller to close."""
        known = {entry.id: entry for entry in entries}
        removed = [guard for guard in self._guards.values() if guard.id not in known]
        for node_id in {guard.id for guard in removed} | (set(self._absent) - known.keys()):
            show_no_more(node_id)
        self._guards = {node_id: guard for node_id, guard in self._guards.items() if node_id in known}
        for guard in self._guards.values():
            guard.use_as(known[guard.id].use)
        self._placement.become(Member(entry.id, entry.weight, entry.zone) for entry in entries)
        self._leaving = frozenset(entry.id for entry in entries if entry.use == "removing")
        self._note_absent(node_id for node_id in known if node_id not in self._guards)
        return removed

    def join(self, guard: GuardedNode, use: Use) -> None:
        """The node, which is known, is open now."""
        guard.use_as(use)
        self._guards[guard.id] = guard
        self._absent = tuple(node_id for node_id in self._absent if node_id != guard.id)

    def _note_absent(self, absent: Iterable[NodeId]) -> None:
        self._absent = tuple(absent)
        for node_id in self._absent:
            show(node_id, "absent")

    async def look_again(self) -> None:
        """Learn what the registry says now. Raises DatabaseUnavailable."""
        await self._look()

    def is_removed(self, node_id: NodeId) -> bool:
        """Whether it is no node of the store, as far as is known: it may be new. Ask after `look_again`."""
        return node_id not in self._guards and node_id not in self._absent

    def is_leaving(self, node_id: NodeId) -> bool:
        """Whether nothing new may be committed on the node: it was removed, or is about to be."""
        return node_id in self._leaving or self.is_removed(node_id)

    # New blobs

    def place(self, digest: Digest, count: int = 1, *, beside: Collection[NodeId] = ()) -> tuple[NodeId, ...]:
        """Nodes for new blobs of a chunk: `count` of them or, where there are not so many, all that take
        writes and are none of `beside`, which have blobs of it already. Raises NoSpace, or
        NodesUnavailable, where there is none.
        """
        ready = [node for node, guard in self._guards.items() if guard.takes_writes]
        if chosen := self._placement.choose(Request(digest, count, ready, beside)):
            return chosen
        if any(guard.state == "full" for guard in self._guards.values()):
            raise NoSpace("Every storage node is full. Delete files, or add a node.")
        raise NodesUnavailable("No storage node takes writes just now.")

    @property
    def by_digest(self) -> bool:
        """Whether each chunk has a `home`."""
        return self._placement.by_digest

    def home(self, digest: Digest, count: int, among: Collection[NodeId]) -> tuple[NodeId, ...]:
        """Where a chunk of so many blobs would be placed if these nodes were ready. Only where its digest decides."""
        return self._placement.choose(Request(digest, count, among))

    def takes_writes(self, node_id: NodeId) -> bool:
        """Whether the node is here, is wanted for new blobs, and is neither full nor failing."""
        guard = self._guards.get(node_id)
        return guard is not None and guard.takes_writes

    # Blobs

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        """As `Node.write`; a node that fails is passed over for a while."""
        await (await self._guard(blob.node)).write(blob, data)

    async def write_all(self, writes: Sequence[tuple[Blob, bytes | memoryview]]) -> set[Blob]:
        """Write blobs at the same time; return those that a node did not take. Each has ended when this does."""
        outcomes = await asyncio.gather(*(self.write(blob, data) for blob, data in writes), return_exceptions=True)
        failed: set[Blob] = set()
        for (blob, _), outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, NodeError):
                failed.add(blob)
            elif outcome:
                raise outcome
        return failed

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        """As `Node.read_into`. All blobs of a node that was removed are missing, which is said only after the
        registry was asked again."""
        await (await self._guard(blob.node)).read_into(blob, buffer)

    async def unlink(self, blobs: Iterable[Blob]) -> set[Blob]:
        """Remove blobs; return those that a node could not remove, or may not have. What was on a node that
        was removed is gone. Never raises."""
        on_node: dict[NodeId, list[Blob]] = {}
        for blob in blobs:
            on_node.setdefault(blob.node, []).append(blob)
        left = await asyncio.gather(*(self._unlink(node, some) for node, some in on_node.items()))
        return {blob for some in left for blob in some}

    async def _unlink(self, node: NodeId, blobs: Sequence[Blob]) -> Sequence[Blob]:
        try:
            await (await self._guard(node)).unlink(blobs)
        except BlobMissing:
            return ()
        except NodeError as error:
            log.info("blobs left for the sweeper", node=node, blobs=len(blobs), error=error.message)
            return blobs
        return ()

    def by_readiness(self, blobs: Sequence[Blob], redundancy: Redundancy) -> list[Blob]:
        """The blobs of a chunk, those first that are most likely to be read at once: on nodes that answer,
        and among these on near ones. Shards that need no decoding come before parities; else it is in turn."""
        turn = next(self._reading_turn)
        turned = [blobs[(turn + number) % len(blobs)] for number in range(len(blobs))]
        prompt = {blob: guard.distance for blob in turned if (guard := self._guards.get(blob.node)) and guard.is_prompt}
        near = _FAR * min(prompt.values(), default=0.0) + _FAR_AT_LEAST
        return sorted(
            turned, key=lambda blob: (blob not in prompt, prompt.get(blob, 0.0) > near, _is_parity(blob, redundancy))
        )

    async def list_blobs(self, node: NodeId, first_byte: int) -> Sequence[Stored]:
        """As `Node.list_blobs`."""
        return await (await self._guard(node)).list_blobs(first_byte)

    async def quarantine(self, blob: Blob) -> None:
        """As `Node.quarantine`."""
        await (await self._guard(blob.node)).quarantine(blob)

    async def _guard(self, node_id: NodeId) -> GuardedNode:
        """The node, if it is open. Another process may have learnt of it, and written there, before this one."""
        if self.is_removed(node_id):
            try:
                await self._look()
            except DatabaseUnavailable as error:
                raise NodeError(f"nobody can tell whether {node_id} is a node: {error.message}") from error
        guard = self._guards.get(node_id)
        if guard:
            return guard
        if self.is_removed(node_id):
            raise BlobMissing(f"the node {node_id} was removed from the store")
        raise NodeError(f"the node {node_id} is not open here: this server was not given it, or can't use it (yet)")

    # How they are

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """The nodes that are open in this process."""
        return tuple(self._guards)

    @property
    def absent(self) -> tuple[NodeId, ...]:
        """The nodes that the store knows, but that are not open in this process."""
        return self._absent

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

    async def look_at_room(self) -> None:
        """Let every node be asked how much room it has. Never raises."""
        await asyncio.gather(*(guard.space() for guard in self._guards.values()), return_exceptions=True)

    async def close(self) -> None:
        """End calls under way on every node."""
        await asyncio.gather(*(guard.close() for guard in self._guards.values()))


def _is_parity(blob: Blob, redundancy: Redundancy) -> bool:
    return blob.part is not None and blob.part.index >= redundancy.needed
