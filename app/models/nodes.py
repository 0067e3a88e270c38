"""The registry of storage nodes: what servers follow while they run.

    nodes:         {_id: node id, uuid, location, weight, zone, state, added, removal, holds}
    nodes_retired: {_id: node id}

A node is itself wherever it is mounted: `uuid` is what its identity file says, `location` the URL of
the site where it was last seen. The rest is what people want of it; where it is missing, the defaults
of `NodeEntry` hold. `removal` names the attempt to remove it that is under way; `holds` counts for nothing
but conflicts.

A node is removed in three steps, which are safe however slow a server is: it is marked, then all
chunks are looked at for one that names it, then the entry goes. Whoever names a blob on it after the
mark commits after that too, and every commit asks for it; what was named before, the look finds. The
id is retired, so that a commit which comes even later finds no other node under it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.errors import ConfigError
from app.models.database import Database, Document, DuplicateKey, Session
from app.types import NodeId

Use = Literal["active", "readonly", "draining", "removing"]
"""What a node is for: `readonly` and `draining` ones get no new blobs; `removing` is the mark of a removal."""

HEAVIEST = 100
"""The most that a node may weigh: each unit costs memory and time on the ring of consistent hashing."""

_ZONE = re.compile(r"[A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """`zone` is empty for a node that is a zone of its own; `added` that servers open it unasked."""

    id: NodeId
    uuid: str
    location: str
    weight: float = 1.0
    zone: str = ""
    use: Use = "active"
    added: bool = False

    @classmethod
    def read(cls, document: Document) -> NodeEntry:
        return cls(
            NodeId(document["_id"]),
            document["uuid"],
            _as_url(document["location"]),
            document.get("weight", 1.0),
            document.get("zone", ""),
            document.get("state", "active"),
            document.get("added", False),
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be changed of an entry; None leaves as it is. Raises ConfigError where it can't be."""

    weight: float | None = None
    zone: str | None = None
    use: Use | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight <= HEAVIEST:
            raise ConfigError(f"A node weighs more than 0 and at most {HEAVIEST}; 1 if nothing is said.")
        if self.zone is not None and not _ZONE.fullmatch(self.zone):
            raise ConfigError("A zone is named with up to 63 letters, digits and ._-; an empty name takes it away.")

    @property
    def change(self) -> Document:
        named = {"weight": self.weight, "zone": self.zone, "state": self.use}
        return {name: value for name, value in named.items() if value is not None}


class Nodes:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nodes = database["nodes"]
        self._retired = database["nodes_retired"]
        self._upkeep = database["upkeep"]

    async def entries(self) -> list[NodeEntry]:
        """All nodes, by id."""
        return await self._entries()

    async def look_surely(self) -> list[NodeEntry]:
        """As `entries`, but never those of a server that has lost its primacy unawares: a node that is
        missing here is missing."""

        async def work(session: Session) -> list[NodeEntry]:
            await self._upkeep.update_one({"_id": "barrier"}, {"$inc": {"passed": 1}}, upsert=True, session=session)
            return await self._entries(session)

        return await self._database.transaction(work)

    async def _entries(self, session: Session | None = None) -> list[NodeEntry]:
        documents = await self._nodes.find({}, sort=[("_id", 1)], session=session)
        return list(map(NodeEntry.read, documents))

    async def register(self, entry: NodeEntry) -> None:
        """Note that the node is there; what people want of it stays. Raises ConfigError if another one has its id."""
        await self._upsert(entry, {})

    async def add(self, entry: NodeEntry, wish: Wish) -> None:
        """As `register`, for a node that servers are to open although they were not given it."""
        await self._upsert(entry, {**wish.change, "added": True})

    async def _upsert(self, entry: NodeEntry, wanted: Document) -> None:
        this, change = {"_id": entry.id, "uuid": entry.uuid}, {"$set": {"location": entry.location, **wanted}}
        try:
            await self._nodes.update_one(this, change, upsert=True)
        except DuplicateKey:
            # Somebody registered it at the same moment, or another node that took the same name.
            if not await self._nodes.update_one(this, change):
                raise ConfigError(
                    f"Two new nodes took the name {entry.id} at the same time. The one at {entry.location} is to "
                    "take another: empty that place (it holds no data yet), and add it again."
                ) from None

    async def change(self, node_id: NodeId, wish: Wish) -> bool:
        """Note what people want of a node. An end is put to a removal that is under way. False if it is not known."""
        ended = {"$unset": {"removal": ""}} if wish.use else {}
        change = {"$set": {"_id": node_id, **wish.change}, **ended}  # An empty $set is refused.
        return bool(await self._nodes.update_one({"_id": node_id}, change))

    # Removing

    async def begin_removal(self, node_id: NodeId) -> str | None:
        """Mark the node, so that nothing new is committed on it. Returns a name of this attempt, or None if
        the node is not known."""
        attempt = secrets.token_hex(8)
        change = {"$set": {"state": "removing", "removal": attempt}}
        return attempt if await self._nodes.update_one({"_id": node_id}, change) else None

    async def give_up_removal(self, node_id: NodeId, attempt: str) -> None:
        """Take the mark back, unless somebody else has changed it: the node is draining."""
        change = {"$set": {"state": "draining"}, "$unset": {"removal": ""}}
        await self._nodes.update_one({"_id": node_id, "removal": attempt}, change)

    async def end_removal(self, node_id: NodeId, attempt: str) -> bool:
        """Know the node no more. False if the mark was changed meanwhile: then blobs may be named on it again."""
        await self._retire(node_id)
        return bool(await self._nodes.delete_many({"_id": node_id, "removal": attempt}))

    async def remove(self, node_id: NodeId) -> bool:
        """Know the node no more, whatever names it: blobs on it are missing from now on. False if it was not known."""
        await self._retire(node_id)
        return bool(await self._nodes.delete_many({"_id": node_id}))

    async def retired(self) -> set[NodeId]:
        """The ids of nodes that were removed, which no other node may take. One of these may come back itself."""
        return {NodeId(document["_id"]) for document in await self._retired.find({})}

    async def _retire(self, node_id: NodeId) -> None:
        await self._retired.update_one({"_id": node_id}, {"$set": {"_id": node_id}}, upsert=True)

    # For transactions that commit what documents name

    async def uses(self, node_ids: Collection[NodeId], session: Session) -> dict[NodeId, Use]:
        """What those of them are for that the store has at this moment."""
        query = {"_id": {"$in": sorted(node_ids)}}
        documents = await self._nodes.find(query, fields={"state": 1}, session=session)
        return {NodeId(document["_id"]): document.get("state", "active") for document in documents}

    async def gone(self, node_ids: Collection[NodeId], session: Session) -> set[NodeId]:
        """Those that are no nodes of the store at this moment, or are about to be none.

        Enough where the blobs were named before the transaction began. One that names them itself asks
        `hold`.
        """
        uses = await self.uses(node_ids, session)
        return {node for node in node_ids if uses.get(node, "removing") == "removing"}

    async def hold(self, node_ids: Collection[NodeId], session: Session) -> bool:
        """Whether all of them are nodes of the store, and are to be. No removal begins before this transaction
        has ended, for the two would conflict. For what happens rarely: so would two of these."""
        query = {"_id": {"$in": sorted(set(node_ids))}, "state": {"$ne": "removing"}}
        return await self._nodes.update_many(query, {"$inc": {"holds": 1}}, session=session) == len(set(node_ids))


def _as_url(location: str) -> str:
    """The first stores noted the paths of directories."""
    return Path(location).as_uri() if location.startswith("/") else location
