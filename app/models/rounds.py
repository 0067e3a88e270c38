"""Rounds of lifecycle rules: one after the other goes through all buckets that have some.

    upkeep: {_id: "lifecycle", holder, until, round: {the fields of a `Round`}}

`holder` and `until` are its lease (see `leases`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from app.models.database import Database

NAME = "lifecycle"


@dataclass(slots=True)
class Round:
    """What lifecycle rules did. All buckets before `bucket`, and in it all keys up to `key`, have been seen to, or,
    if it is `over`, all that there are; `seen` counts their versions.

    `hidden` are current versions that got a delete marker, `removed` versions that are gone for good, `markers` delete
    markers that were all that was left of their objects, `uploads` those in parts that were given up. `kept` are
    versions that were due and may not be removed. `started_at`, and `at`, when this was noted, are the server's time.
    """

    bucket: str = ""
    key: str = ""
    over: bool = False
    seen: int = 0
    hidden: int = 0
    removed: int = 0
    markers: int = 0
    uploads: int = 0
    kept: int = 0
    seconds: float = 0.0
    started_at: datetime | None = None
    at: datetime | None = None

    @property
    def found_work(self) -> bool:
        return any((self.hidden, self.removed, self.markers, self.uploads, self.kept))


class Rounds:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._upkeep = database["upkeep"]

    async def last(self) -> Round | None:
        """The last round, as it was noted."""
        document = await self._upkeep.find_one({"_id": NAME}, fields={"round": 1})
        return Round(**document["round"]) if document and "round" in document else None

    async def note(self, done: Round) -> None:
        """Keep how far a round is; its times become the server's."""
        done.at = await self._database.now()
        done.started_at = done.started_at or done.at
        await self._upkeep.update_one({"_id": NAME}, {"$set": {"round": asdict(done)}}, upsert=True)
