"""Taking nodes into a store, saying what they are for, and taking them out again."""

from __future__ import annotations

import asyncio

from app.errors import ConfigError, NodeError
from app.faults import pause
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.nodes import NodeEntry, Nodes, Wish
from app.nodes.identity import answers_as
from app.nodes.members import Opener
from app.types import NodeId

_ANSWER = 5.0
"""Seconds that a node gets to show that it is not lost."""


class Membership:
    """Calls raise DatabaseUnavailable, and ConfigError where the store knows no such node. Running
    servers follow within seconds."""

    def __init__(self, database: Database, opener: Opener) -> None:
        self._nodes = Nodes(database)
        self._chunks = Chunks(database)
        self._opener = opener

    async def add(self, url: str, wish: Wish) -> NodeEntry:
        """Make the place a node of the store, which it may be already. Raises ConfigError where it can't be one."""
        entry = await self._opener.enrolled(self._opener.site_of(url))
        await self._nodes.add(entry, wish)
        return entry

    async def change(self, node_id: NodeId, wish: Wish) -> None:
        if not await self._nodes.change(node_id, wish):
            raise unknown_node(node_id)

    async def remove(self, node_id: NodeId) -> None:
        """Take a node out that holds nothing. What uploads meanwhile place on it is refused when they
        commit (see `Nodes`), so that none of it is held. Raises ConfigError where it holds anything."""
        attempt = await self._nodes.begin_removal(node_id)
        if attempt is None:
            raise unknown_node(node_id)
        try:
            await pause("removal-begun")
            held = await self._chunks.count_on(node_id)
            await pause("removal-checked")
            if held:
                raise ConfigError(
                    f"{node_id} holds {held:,} chunks, and gets no new ones now. `mini-s3 node drain {node_id}` moves "
                    "what files need to other nodes; what no file needs, `mini-s3 gc --grace 0` removes."
                )
            if not await self._nodes.end_removal(node_id, attempt):
                raise ConfigError(f"Somebody changed what {node_id} is for in the meantime. It stays a node.")
        except BaseException:
            await self._nodes.give_up_removal(node_id, attempt)
            raise

    async def forget(self, node_id: NodeId) -> None:
        """Take a node out that is lost: what it holds counts as missing from now on. Raises ConfigError where
        it answers, for then a check would call chunks lost that are there."""
        entry = next((entry for entry in await self._nodes.entries() if entry.id == node_id), None)
        if entry is None:
            raise unknown_node(node_id)
        if await self._answers(entry):
            raise ConfigError(
                f"{node_id} is not lost: it answers at {entry.location}. Empty it with `mini-s3 node drain {node_id}`, "
                "or take it away first: unmount its disk, or stop its server."
            )
        await self._nodes.remove(node_id)

    async def _answers(self, entry: NodeEntry) -> bool:
        try:
            async with asyncio.timeout(_ANSWER):
                return await answers_as(self._opener.site_of(entry.location), entry)
        except (NodeError, TimeoutError):
            return False


def unknown_node(node_id: NodeId) -> ConfigError:
    """What to say where the store knows no such node."""
    return ConfigError(f"The store knows no node {node_id}. `mini-s3 node list` names those that it knows.")
