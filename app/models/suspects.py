"""Chunks of which readers found a blob bad or missing, in the order in which they are to be looked at.

    suspects: {_id: digest, at}

Nothing rests on them: what is noted twice, or not at all for want of room, the next reading finds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from app.models.database import Database, UpdateOne
from app.types import Digest

_MOST = 10_000
"""Chunks that are kept in mind, about. When a whole node is lost there is no use in naming each."""


@dataclass(frozen=True, slots=True)
class Suspect:
    digest: Digest
    at: datetime


class Suspects:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._suspects = database["suspects"]

    async def create_indexes(self) -> None:
        await self._suspects.create_index([("at", 1)])

    async def note(self, digests: Collection[Digest]) -> None:
        """Keep these in mind. Those that are known already keep their places."""
        if await self._suspects.estimated_count() < _MOST:
            at = [{"$set": {"at": {"$ifNull": ["$at", "$$NOW"]}}}]
            await self._suspects.bulk_update([UpdateOne({"_id": digest}, at, upsert=True) for digest in digests])

    async def due(self, limit: int) -> list[Suspect]:
        """Up to so many that are to be looked at now."""
        query = {"at": {"$lte": await self._database.now()}}
        documents = await self._suspects.find(query, sort=[("at", 1)], limit=limit)
        return [Suspect(Digest(document["_id"]), document["at"]) for document in documents]

    async def clear(self, suspect: Suspect) -> None:
        """It was looked at."""
        await self._suspects.delete_many({"_id": suspect.digest})

    async def postpone(self, suspect: Suspect, seconds: float) -> None:
        """Look at it again so much later."""
        later = [{"$set": {"at": {"$add": ["$$NOW", int(seconds * 1000)]}}}]
        await self._suspects.update_one({"_id": suspect.digest}, later)

    async def count(self) -> int:
        return await self._suspects.estimated_count()
