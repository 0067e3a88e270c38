"""The registry of storage nodes.

    nodes: {_id: node id, uuid, location}

A node is itself wherever it is mounted: `uuid` is what its identity file says, `location` the URL of
the site where it was last seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.models.database import Database
from app.types import NodeId


@dataclass(frozen=True, slots=True)
class NodeEntry:
    id: NodeId
    uuid: str
    location: str


class Nodes:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._nodes = database["nodes"]

    async def entries(self) -> list[NodeEntry]:
        documents = await self._nodes.find({}, sort=[("_id", 1)])
        return [NodeEntry(NodeId(entry["_id"]), entry["uuid"], _as_url(entry["location"])) for entry in documents]

    async def register(self, entry: NodeEntry) -> None:
        change = {"$set": {"uuid": entry.uuid, "location": entry.location}}
        await self._nodes.update_one({"_id": entry.id}, change, upsert=True)

    async def remove(self, node_id: NodeId) -> bool:
        """Know the node no more: blobs that documents place on it are missing from now on. False if it
        was not known."""
        return bool(await self._nodes.delete_many({"_id": node_id}))


def _as_url(location: str) -> str:
    """The first stores noted the paths of directories."""
    return Path(location).as_uri() if location.startswith("/") else location
