"""What the last collection did.

    upkeep: {_id: "collector", last}, {_id: "barrier", passed}

In the same document stands who does such work now (see `leases`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from app.models.database import Database


@dataclass(slots=True)
class Collected:
    """What one run of the collector did. `bytes` are those of chunks and unnamed blobs; `left` counts
    chunks whose blobs a node did not remove yet. `at` is the server's time at the end."""

    uploads: int = 0
    pages: int = 0
    chunks: int = 0
    copies: int = 0
    unnamed: int = 0
    bytes: int = 0
    left: int = 0
    swept: bool = False
    seconds: float = 0.0
    at: datetime | None = None

    @property
    def found_work(self) -> bool:
        return any((self.uploads, self.pages, self.chunks, self.copies, self.unnamed, self.left))


class Runs:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._upkeep = database["upkeep"]

    async def record(self, run: Collected) -> None:
        """Keep what a run did; `at` becomes the server's time."""
        change = [{"$set": {"last": {"$mergeObjects": [{"$literal": asdict(run)}, {"at": "$$NOW"}]}}}]
        await self._upkeep.update_one({"_id": "collector"}, change, upsert=True)

    async def last(self) -> Collected | None:
        document = await self._upkeep.find_one({"_id": "collector"})
        return Collected(**document["last"]) if document and document.get("last") else None
