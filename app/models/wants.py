"""What people want of each node: as the registry says, at this moment.

nodes: {_id: node id, state, weight, zone, …}
"""

from __future__ import annotations

from dataclasses import dataclass

from app.models.database import Database
from app.types import NodeId


@dataclass(frozen=True, slots=True)
class Want:
    use: str = "active"
    weight: float = 1.0
    zone: str = ""


class Wants:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._nodes = database["nodes"]

    async def read(self) -> dict[NodeId, Want]:
        """All nodes that the store knows."""
        documents = await self._nodes.find({})
        return {
            NodeId(entry["_id"]): Want(entry.get("state", "active"), entry.get("weight", 1.0), entry.get("zone", ""))
            for entry in documents
        }

    async def use(self, node: NodeId, use: str) -> bool:
        """False if the store knows no such node."""
        return bool(await self._nodes.update_one({"_id": node}, {"$set": {"state": use}}))
