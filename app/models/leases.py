"""Leases: who is at some work just now.

    upkeep: {_id: name, holder, until, …}

A lease only saves work: two holders at once do no harm. Its times are the server's own.
"""

from __future__ import annotations

from app.models.database import Database


class Lease:
    """The one of this name. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, name: str) -> None:
        self._upkeep = database["upkeep"]
        self._name = name

    async def take(self, holder: str, seconds: float) -> bool:
        """Get the lease, or keep it, for so long. False if another has it."""
        free = {
            "_id": self._name,
            "$or": [{"holder": holder}, {"holder": None}, {"$expr": {"$lt": ["$until", "$$NOW"]}}],
        }
        change = [{"$set": {"holder": holder, "until": {"$add": ["$$NOW", int(seconds * 1000)]}}}]
        if await self._upkeep.update_one(free, change):
            return True
        # An upsert can't look at the clock, so the document is made first.
        made = await self._upkeep.update_one({"_id": self._name}, {"$setOnInsert": {"holder": None}}, upsert=True)
        return not made and bool(await self._upkeep.update_one(free, change))

    async def give_back(self, holder: str) -> None:
        await self._upkeep.update_one({"_id": self._name, "holder": holder}, {"$unset": {"holder": "", "until": ""}})
