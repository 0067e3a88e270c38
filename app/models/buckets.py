"""Buckets: what objects are in, and the settings that hold for all of them.

    buckets:        {_id: name, owner, createdAt, versioning, lock: {mode, days, years}, settings: {name: value}}
    bucket_stripes: {_id: name/number, holds}

`settings` are documents that the S3 API gives back as they were put: each has one value here. A bucket with `lock`
has object lock, for good, and always keeps versions; without `mode` there it has no default retention.

A bucket is removed only when it holds nothing. Whoever puts something into it adds one to the `holds`
of one of its stripes, in the same transaction, and the removal deletes all of these: so one of the two
is told to try again. With several stripes, those who put things do not get into each other's way.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from app.gathering import Gathered
from app.models.database import Database, Document, DuplicateKey, Session, UpdateOne, begins_with
from app.models.object_lock import DefaultRetention

Versioning = Literal["off", "enabled", "suspended"]

_STRIPES = 16
_AGES_AGO = datetime.fromtimestamp(0, UTC)
_TOGETHER = 64
"""Buckets found in one query for several callers."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`created_at` is UTC, to the millisecond. Versions in one that is `lockable` may be locked, and are for the time
    of `retention` where nothing else is said."""

    name: str
    owner: str
    created_at: datetime
    versioning: Versioning = "off"
    settings: Mapping[str, Any] = field(default_factory=dict)
    lockable: bool = False
    retention: DefaultRetention | None = None

    @classmethod
    def read(cls, document: Document) -> Bucket:
        lock = document.get("lock")
        return cls(
            document["_id"],
            document["owner"],
            document["createdAt"],
            document.get("versioning", "off"),
            document.get("settings", {}),
            lock is not None,
            DefaultRetention.read(lock) if lock else None,
        )


class Buckets:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buckets = database["buckets"]
        self._stripes = database["bucket_stripes"]
        self._files = database["files"]
        self._uploads = database["upload_sessions"]
        self._stripe = random.randrange(_STRIPES)  # noqa: S311 - no secret
        self._findings = Gathered(self._find_together, most=_TOGETHER)

    async def create_indexes(self) -> None:
        await self._buckets.create_index([("owner", 1), ("_id", 1)])
        await self._stripes.create_index([("_id", 1)])

    async def create(
        self, name: str, owner: str, settings: Mapping[str, Any], *, lockable: bool = False
    ) -> Bucket | None:
        """Make a bucket; None if there is one of this name."""
        document: Document = {
            "_id": name,
            "owner": owner,
            "createdAt": await self._database.now(),
            "settings": dict(settings),
            **({"versioning": "enabled", "lock": {}} if lockable else {}),
        }

        async def work(session: Session) -> None:
            await self._buckets.insert_one(document, session=session)
            stripes: list[Document] = [{"_id": f"{name}/{number}", "holds": 0} for number in range(_STRIPES)]
            await self._stripes.insert_many(stripes, session=session)

        try:
            await self._database.transaction(work)
        except DuplicateKey:
            return None
        return Bucket.read(document)

    async def find(self, name: str) -> Bucket | None:
        return await self._findings(name)

    async def _find_together(self, names: Collection[str]) -> list[Bucket | None]:
        found = await self._find(set(names))
        return [found.get(name) for name in names]

    async def _find(self, names: Collection[str], session: Session | None = None) -> dict[str, Bucket]:
        documents = await self._buckets.find({"_id": {"$in": sorted(names)}}, session=session)
        return {document["_id"]: Bucket.read(document) for document in documents}

    async def page(self, owner: str | None, prefix: str, after: str, limit: int) -> list[Bucket]:
        """Up to `limit` buckets whose names begin with `prefix` and come behind `after`, by name; all, or
        those of an owner."""
        query: Document = {"_id": {"$gt": after, **(begins_with(prefix) if prefix else {})}}
        if owner is not None:
            query["owner"] = owner
        return list(map(Bucket.read, await self._buckets.find(query, sort=[("_id", 1)], limit=limit)))

    async def first_with(self, setting: str, start: str) -> Bucket | None:
        """The first bucket that has this setting, by name, from the name `start` on."""
        query: Document = {"_id": {"$gte": start}, f"settings.{setting}": {"$exists": True}}
        documents = await self._buckets.find(query, sort=[("_id", 1)], limit=1)
        return Bucket.read(documents[0]) if documents else None

    async def set_versioning(self, name: str, versioning: Versioning) -> bool:
        """False if there is no such bucket, or if it has object lock and would keep versions no longer."""
        only: Document = {} if versioning == "enabled" else {"lock": None}
        return await self._change(name, {"$set": {"versioning": versioning}}, only)

    async def set_lock(self, name: str, retention: DefaultRetention | None) -> bool:
        """Let a bucket have object lock, for good, and this default retention. False if there is no such bucket, or
        if it keeps no versions."""
        change: Document = {"$set": {"lock": retention.written() if retention else {}}}
        return await self._change(name, change, {"versioning": "enabled"})

    async def set(self, name: str, setting: str, value: Any) -> bool:
        """Keep a setting; None takes it away. False if there is no such bucket."""
        field_name = f"settings.{setting}"
        return await self._change(
            name, {"$unset": {field_name: ""}} if value is None else {"$set": {field_name: value}}, {}
        )

    async def _change(self, name: str, change: Document, only: Document) -> bool:
        """Change the bucket if it is like that. What is put at the same time is put before this, or sees it."""

        async def work(session: Session) -> bool:
            if not await self._buckets.update_one({"_id": name, **only}, change, session=session):
                return False
            await self._stripes.update_many(_all_of(name), {"$inc": {"holds": 1}}, session=session)
            return True

        return await self._database.transaction(work)

    async def remove(self, name: str) -> bool:
        """Remove a bucket that holds no version of any object, and let its upload sessions end (see `sessions`).
        False if it holds one."""

        async def work(session: Session) -> bool:
            await self._stripes.delete_many(_all_of(name), session=session)
            if await self._files.find_one({"bucket": name, "seq": {"$gte": 0}}, fields={"_id": 1}, session=session):
                raise _Full
            await self._buckets.delete_many({"_id": name}, session=session)
            ended = {"$unset": {"bucket": ""}, "$set": {"at": _AGES_AGO}}
            await self._uploads.update_many({"bucket": name}, ended, session=session)
            return True

        try:
            return await self._database.transaction(work)
        except _Full:
            return False

    # Inside a transaction of the ledger

    async def hold(self, names: Collection[str], session: Session) -> dict[str, Bucket]:
        """Those of the buckets that there are: none of them is removed, or set otherwise, before what this
        transaction puts into it is there."""
        if not names:
            return {}
        found = await self._find(names, session)
        stripes = [UpdateOne({"_id": f"{name}/{self._stripe}"}, {"$inc": {"holds": 1}}) for name in sorted(found)]
        if await self._stripes.bulk_update(stripes, session=session) != len(found):
            raise RuntimeError("a bucket is there, and its stripes are not")
        return found


class _Full(Exception):
    """Makes a removal be given up."""


def _all_of(name: str) -> Document:
    # "0" is the character behind "/".
    return {"_id": {"$gt": f"{name}/", "$lt": f"{name}0"}}
