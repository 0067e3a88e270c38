"""Objects: files, and delete markers, by bucket and key (see `file` for their documents).

A key has at most one document that is `listed`, and at most one for each `seq`: two that are put at the same time
are put one after the other. In a bucket that never had versions each object has one document.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.errors import NoSuchBucket, NoSuchKey, NotLockable, ObjectLocked, PreconditionFailed
from app.gathering import Gathered
from app.models.buckets import Bucket
from app.models.database import Database, Document, ObjectId, Session, begins_with, object_id
from app.models.file import read_file
from app.models.files import new_file_id
from app.models.object_lock import may_become, may_go
from app.types import UNLOCKED, Entry, File, FileId, Lock, Retention

_TOGETHER = 64
"""Objects found in one query for several callers."""

_BRIEF: Document = {"pages": 0, "parts": 0}
"""What a listing leaves out."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be true of the object that has the key: that there is none (`absent`), or that there is one with
    this ETag, or with any where that is `*`."""

    absent: bool = False
    etag: str = ""

    def check(self, key: str, now: Version | None) -> None:
        """Raises PreconditionFailed, and NoSuchKey where there is no object that could have the ETag."""
        there = now is not None and now.file is not None
        if self.absent and there:
            raise PreconditionFailed(f"There is an object with the key {key} already.", "If-None-Match")
        if self.etag and not there:
            raise NoSuchKey(f"There is no object with the key {key}.")
        if self.etag not in ("", "*", now.etag if now else ""):
            raise PreconditionFailed(f"The object with the key {key} has another ETag.", "If-Match")


ANYHOW = Condition()
"""It holds always."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an object; without `file`, a delete marker. `name` is its version id. `seq` is -1 for what
    came by the native API."""

    bucket: str
    key: str
    id: FileId
    name: str
    seq: int
    listed: bool
    owner: str
    created_at: datetime
    file: File | None

    @classmethod
    def read(cls, document: Document) -> Version:
        file_id = FileId(str(document["_id"]))
        return cls(
            document["bucket"],
            document["key"],
            file_id,
            file_id if document.get("versioned") else "null",
            document.get("seq", -1),
            document.get("listed", False),
            document["owner"],
            document["createdAt"],
            None if document.get("marker") else read_file(document),
        )

    @property
    def tags(self) -> Mapping[str, str]:
        return self.file.entry.tags if self.file and self.file.entry else {}

    @property
    def etag(self) -> str:
        """Without quotes. One that is no MD5 has a dash in it."""
        if self.file is None:
            return ""
        return self.file.entry.etag if self.file.entry else f"{self.file.content_id[:32]}-1"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is to be inserted as version `seq` of its object, and the versions whose place it has taken."""

    file: File
    seq: int = 0
    gone: Sequence[Version] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list by key: behind `key`, or `past` all keys that begin with it. Where a key has several
    entries, it is behind the version `seq`, or the upload session `upload`, of the key."""

    key: str = ""
    seq: int | None = None
    past: bool = False
    upload: ObjectId | None = None

    def condition(self, prefix: str) -> Document:
        """On keys behind it that begin with `prefix`."""
        bounds = begins_with(prefix) if prefix else {}
        if self.key < prefix and not (self.past and prefix.startswith(self.key)):
            return bounds
        bounds.pop("$gte", None)
        if not self.past:
            return bounds | {"$gt": self.key}
        following = begins_with(self.key).get("$lt")
        return bounds | ({"$gte": following} if following else {"$in": []})


@dataclass(frozen=True, slots=True)
class Removed:
    """What a deletion did: `gone` are the versions that there are no more, `marker` the delete marker that was
    put, or was the one to go."""

    gone: Sequence[Version] = ()
    marker: Version | None = None


class Objects:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._files = database["files"]
        self._findings = Gathered(self._find_together, most=_TOGETHER)

    async def create_indexes(self) -> None:
        listed = {"partialFilterExpression": {"listed": True}, "name": "listed objects", "unique": True}
        await self._files.create_index([("bucket", 1), ("key", 1)], **listed)
        versions = {"partialFilterExpression": {"seq": {"$gte": 0}}, "name": "versions", "unique": True}
        await self._files.create_index([("bucket", 1), ("key", 1), ("seq", -1)], **versions)

    async def find(self, bucket: str, key: str) -> Version | None:
        """The newest version; None where that is a delete marker."""
        return await self._findings((bucket, key))

    async def _find_together(self, places: Sequence[tuple[str, str]]) -> list[Version | None]:
        found = await self._listed(places)
        return [found.get(place) for place in places]

    async def _listed(
        self, places: Iterable[tuple[str, str]], session: Session | None = None
    ) -> dict[tuple[str, str], Version]:
        asked: dict[str, list[str]] = {}
        for bucket, key in sorted(set(places)):
            asked.setdefault(bucket, []).append(key)
        found: dict[tuple[str, str], Version] = {}
        for bucket, keys in asked.items():
            query: Document = {"bucket": bucket, "key": {"$in": keys}, "listed": True}
            for document in await self._files.find(query, session=session):
                found[bucket, document["key"]] = Version.read(document)
        return found

    async def newest(self, bucket: str, key: str, session: Session | None = None) -> Version | None:
        """The newest version, which may be a delete marker, of an object that was put in a bucket."""
        query = {"bucket": bucket, "key": key, "seq": {"$gte": 0}}
        documents = await self._files.find(query, sort=[("seq", -1)], limit=1, session=session)
        return Version.read(documents[0]) if documents else None

    async def version(self, bucket: str, key: str, name: str, session: Session | None = None) -> Version | None:
        """The version with this version id."""
        query: Document = {"bucket": bucket, "key": key}
        if name == "null":
            query |= {"versioned": {"$ne": True}, **({"seq": {"$gte": 0}} if bucket else {"listed": True})}
        elif (file_id := object_id(name)) is None:
            return None
        else:
            query |= {"_id": file_id, "versioned": True}
        document = await self._files.find_one(query, session=session)
        return Version.read(document) if document else None

    async def by_id(self, file_id: str, session: Session) -> Version | None:
        """The version, of whichever object, that has this file's id."""
        key = object_id(file_id)
        document = await self._files.find_one({"_id": key}, session=session) if key else None
        return Version.read(document) if document else None

    async def by_ids(self, file_ids: Collection[FileId], session: Session) -> dict[FileId, Version]:
        """Those of these versions that there are."""
        documents = await self._files.find(_among(file_ids), session=session)
        return {version.id: version for version in map(Version.read, documents)}

    async def hold(self, file_ids: Collection[FileId], session: Session) -> set[FileId]:
        """Which of these versions there are: none of them is removed before this transaction is over."""
        if not file_ids:
            return set()
        await self._files.update_many(_among(file_ids), {"$inc": {"relied": 1}}, session=session)
        documents = await self._files.find(_among(file_ids), fields={"_id": 1}, session=session)
        return {FileId(str(document["_id"])) for document in documents}

    async def is_alone(self, version: Version, session: Session) -> bool:
        """Whether its object has no other version."""
        query = {"bucket": version.bucket, "key": version.key, "seq": {"$gte": 0}}
        return len(await self._files.find(query, fields={"_id": 1}, limit=2, session=session)) == 1

    async def page(self, bucket: str, prefix: str, after: Position, limit: int) -> list[Version]:
        """Up to `limit` listed objects whose keys begin with `prefix`, by key, without their pages and parts."""
        query = {"bucket": bucket, "listed": True, "key": after.condition(prefix)}
        return await self._page(query, [("bucket", 1), ("key", 1)], limit)

    async def versions(self, bucket: str, prefix: str, after: Position, limit: int) -> list[Version]:
        """Up to `limit` versions and markers by key, the newest of each key first, without their pages and parts;
        of the key of the position also those with a smaller `seq` than it has."""
        order = [("bucket", 1), ("key", 1), ("seq", -1)]
        found: list[Version] = []
        if after.seq is not None:
            older = {"bucket": bucket, "key": after.key, "seq": {"$gte": 0, "$lt": after.seq}}
            found = await self._page(older, order, limit)
        if len(found) < limit:
            query = {"bucket": bucket, "key": after.condition(prefix), "seq": {"$gte": 0}}
            found += await self._page(query, order, limit - len(found))
        return found

    async def _page(self, query: Document, order: Sequence[tuple[str, int]], limit: int) -> list[Version]:
        return list(map(Version.read, await self._files.find(query, fields=_BRIEF, sort=order, limit=limit)))

    async def change(self, version: Version, changes: Mapping[str, Any]) -> bool:
        """Set fields of the version's document, or take away those that are None. False if it is gone."""
        change: Document = {
            "$set": {name: value for name, value in changes.items() if value is not None},
            "$unset": {name: "" for name, value in changes.items() if value is None},
        }
        change = {name: value for name, value in change.items() if value}
        return bool(await self._files.update_one({"_id": ObjectId(version.id), "marker": None}, change))

    async def retain(self, version: Version, retention: Retention | None, *, bypass: bool) -> bool:
        """Let a version have this retention, or none; False if it is gone. Raises ObjectLocked where the one that it
        has may not become that, though a retention of GOVERNANCE may be changed at will with `bypass`."""
        values = {"lock.mode": retention.mode, "lock.until": retention.until} if retention else {}
        change: Document = {"$set": values} if values else {"$unset": {"lock.mode": "", "lock.until": ""}}
        query: Document = {"_id": ObjectId(version.id), "marker": None}
        if await self._files.update_one({**query, **may_become(retention, bypass=bypass)}, change):
            return True
        if await self._files.find_one(query, fields={"_id": 1}):
            raise ObjectLocked
        return False

    # Inside a transaction of the ledger

    async def present(
        self, places: Collection[tuple[str, str]], buckets: Mapping[str, Bucket], session: Session
    ) -> dict[tuple[str, str], Version]:
        """The newest version, or marker, of each key that has one."""
        plain = [place for place in places if place[0] not in buckets or buckets[place[0]].versioning == "off"]
        found = await self._listed(plain, session) if plain else {}
        for bucket, key in set(places) - set(plain):
            newest = await self.newest(bucket, key, session)
            if newest:
                found[bucket, key] = newest
        return found

    async def make_way(
        self, file: File, entry: Entry, now: Version | None, bucket: Bucket | None, session: Session
    ) -> Arrival:
        """See that a file can be inserted as the newest version of its object, where `now` is the newest one. Raises
        ObjectLocked."""
        versioned = bucket is not None and bucket.versioning == "enabled"
        lock = _lock_in(bucket, entry.lock, file.created_at)
        gone = await self._displace(entry.bucket, entry.key, now, session, keep=versioned)
        put = replace(file, entry=replace(entry, versioned=versioned, lock=lock))
        return Arrival(put, now.seq + 1 if now else 0, gone)

    async def put_marker(self, bucket: Bucket, key: str, owner: str, at: datetime, session: Session) -> Removed:
        """Put a delete marker on an object, which there may not be. Raises ObjectLocked where it would take the place
        of a version."""
        now = await self.newest(bucket.name, key, session)
        versioned = bucket.versioning == "enabled"
        gone = await self._displace(bucket.name, key, now, session, keep=versioned)
        marker: Document = {
            "_id": ObjectId(new_file_id()),
            "bucket": bucket.name,
            "key": key,
            "seq": now.seq + 1 if now else 0,
            "owner": owner,
            "createdAt": at,
            "marker": True,
            "versioned": versioned,
        }
        await self._files.insert_one(marker, session=session)
        return Removed(gone, Version.read(marker))

    async def _displace(
        self, bucket: str, key: str, now: Version | None, session: Session, *, keep: bool
    ) -> list[Version]:
        """Another version becomes the newest one; without `keep`, what has the version id `null` goes."""
        gone: list[Version] = []
        if not keep and now:
            null = now if now.name == "null" else await self.version(bucket, key, "null", session)
            if null:
                await self._take_out(null, session)
                gone.append(null)
        if now and now not in gone:
            await self._rely_on(now, session, listed=False)
        return gone

    async def _rely_on(self, newest: Version, session: Session, *, listed: bool) -> None:
        """List the newest version, or do not. Its document changes in any case: another transaction that relies on
        it too, or removes it, is in conflict with this one, also where both leave `listed` as it is."""
        change: Document = {"$set": {"listed": True}} if listed else {"$unset": {"listed": ""}}
        await self._files.update_one({"_id": ObjectId(newest.id)}, {**change, "$inc": {"relied": 1}}, session=session)

    async def remove(self, version: Version, session: Session, *, bypass: bool = False) -> Removed:
        """Remove a version for good; the one before it becomes the newest one if it was that. Raises ObjectLocked,
        before anything was done; with `bypass`, not for a retention of GOVERNANCE."""
        await self._take_out(version, session, bypass=bypass)
        if version.seq >= 0 and (version.listed or version.file is None):
            newest = await self.newest(version.bucket, version.key, session)
            if newest:
                await self._rely_on(newest, session, listed=newest.file is not None)
        return Removed([version], version if version.file is None else None)

    async def _take_out(self, version: Version, session: Session, *, bypass: bool = False) -> None:
        """The one place where documents of versions are removed. Raises ObjectLocked."""
        query: Document = {"_id": ObjectId(version.id), **may_go(bypass=bypass)}
        if not await self._files.delete_many(query, session=session):
            raise ObjectLocked


def _among(file_ids: Collection[FileId]) -> Document:
    return {"_id": {"$in": [ObjectId(file_id) for file_id in sorted(file_ids)]}}


def bucket_of(name: str, buckets: Mapping[str, Bucket]) -> Bucket | None:
    """None for the bucket of what came by the native API. Raises NoSuchBucket."""
    if name and name not in buckets:
        raise NoSuchBucket(f"There is no bucket {name}.")
    return buckets.get(name)


def bucket_for(entry: Entry, buckets: Mapping[str, Bucket]) -> Bucket | None:
    """That into which an object is put. Raises NoSuchBucket, NotLockable."""
    bucket = bucket_of(entry.bucket, buckets)
    if entry.lock != UNLOCKED and not (bucket and bucket.lockable):
        raise NotLockable
    return bucket


def _lock_in(bucket: Bucket | None, wanted: Lock, at: datetime) -> Lock:
    """The lock of a version that is put into a bucket then."""
    if wanted.retention is None and bucket and bucket.retention:
        return replace(wanted, retention=bucket.retention.begin(at))
    return wanted
