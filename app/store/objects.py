"""Objects: files in buckets, by key. What is asked of buckets by name takes the name inside the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.errors import MiniS3Error, NoSuchKey, NoSuchVersion
from app.models.buckets import Bucket
from app.models.catalog import Catalog, Deletion, Wanted
from app.models.file import written_pairs
from app.models.files import new_file_id
from app.models.ledger import Hold, SourceGone
from app.models.objects import ANYHOW, Condition, Objects, Position, Removed, Version
from app.store.buckets import NATIVE
from app.store.listing import Listing, Query, list_folded
from app.streams.egress import Egress
from app.streams.ingest import Ingest, Stages, open_ingest
from app.types import Entry, File, Retention

_AT_ONCE = 100
"""Objects deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an object is to be, and when; `owner` is whose it is, `content_type` what its bytes are."""

    entry: Entry
    content_type: str
    owner: str
    condition: Condition = ANYHOW


class ObjectStore:
    """All calls raise DatabaseUnavailable."""

    def __init__(self, stages: Stages, egress: Egress, objects: Objects, catalog: Catalog) -> None:
        self._stages = stages
        self._egress = egress
        self._objects = objects
        self._catalog = catalog

    @property
    def max_size(self) -> int:
        """Bytes that an object may have."""
        return self._stages.max_file_size

    async def now(self) -> datetime:
        """The time by the database's clock."""
        return await self._stages.ledger.now()

    def upload(self, owner: str) -> AbstractAsyncContextManager[Ingest]:
        """As `open_ingest`, to be committed as an object."""
        return open_ingest(self._stages, owner)

    async def find(self, bucket: Bucket, key: str, version: str = "") -> Version:
        """The newest version of an object, or the one with this version id, which may be a delete marker. Raises
        NoSuchKey, with the delete marker that is in its place if there is one, and NoSuchVersion."""
        if version:
            found = await self._objects.version(bucket.name, key, version)
            if found is None:
                raise NoSuchVersion(f"The object with the key {key} has no version {version}.")
            return found
        found = await self._objects.find(bucket.name, key)
        if found is None:
            marker = await self._objects.newest(bucket.name, key) if bucket.versioning != "off" else None
            raise NoSuchKey(f"There is no object with the key {key}.", marker.name if marker else "")
        return found

    def read(self, file: File, start: int, stop: int) -> AsyncGenerator[memoryview, None]:
        """As `Egress.read`."""
        return self._egress.read(file, start, stop)

    async def copy(self, source: Version, wish: Wish) -> File:
        """Make another object of the same bytes, none of which is moved. Raises NoSuchKey where the source is
        deleted meanwhile, NoSuchBucket, NotLockable, ObjectLocked, and what the condition raises."""
        assert source.file is not None  # noqa: S101 - delete markers are refused before this
        now = await self.now()
        copied = replace(
            source.file,
            id=new_file_id(),
            name=name_of(wish.entry.key),
            content_type=wish.content_type,
            owner=wish.owner,
            created_at=now,
            entry=wish.entry,
        )
        try:
            (file,) = await self._stages.ledger.commit_files(Hold(), [copied], [], wish.condition)
        except SourceGone as error:
            raise NoSuchKey(f"There is no object with the key {source.key} any more.") from error
        return file

    async def delete(self, bucket: Bucket, wanted: Sequence[Wanted], deletion: Deletion) -> list[Removed | MiniS3Error]:
        """As `Catalog.delete`, for any number of them, in several transactions."""
        outcomes: list[Removed | MiniS3Error] = []
        for start in range(0, len(wanted), _AT_ONCE):
            outcomes += await self._catalog.delete(bucket.name, wanted[start : start + _AT_ONCE], deletion)
        return outcomes

    async def list(self, bucket: Bucket, query: Query, after: Position) -> Listing[Version]:
        """Objects by key, without their pages and parts."""

        async def fetch(position: Position, limit: int) -> Sequence[Version]:
            return await self._objects.page(bucket.name, query.prefix, position, limit)

        return await list_folded(query, after, fetch, lambda version: Position(version.key))

    async def list_versions(self, bucket: Bucket, query: Query, after: Position) -> Listing[Version]:
        """Versions and delete markers by key, the newest of each first, without their pages and parts."""
        if bucket.name == NATIVE:
            return await self.list(bucket, query, after)

        async def fetch(position: Position, limit: int) -> Sequence[Version]:
            return await self._objects.versions(bucket.name, query.prefix, position, limit)

        return await list_folded(query, after, fetch, lambda version: Position(version.key, version.seq))

    async def set_tags(self, version: Version, tags: Mapping[str, str]) -> None:
        """Raises NoSuchKey where the version is gone, as all that follow."""
        await self._change(version, {"tags": written_pairs(tags) or None})

    async def set_acl(self, version: Version, acl: str) -> None:
        await self._change(version, {"acl": acl})

    async def set_hold(self, version: Version, *, hold: bool) -> None:
        """Put a legal hold on a version, or end it."""
        await self._change(version, {"lock.hold": hold})

    async def set_retention(self, version: Version, retention: Retention | None, *, bypass: bool = False) -> None:
        """Raises ObjectLocked where its retention may not become this: one that binds may only become longer, but
        with `bypass` one of GOVERNANCE may become any, or end."""
        if not await self._objects.retain(version, retention, bypass=bypass):
            raise _gone(version)

    async def _change(self, version: Version, changes: Mapping[str, Any]) -> None:
        if not await self._objects.change(version, changes):
            raise _gone(version)


def _gone(version: Version) -> NoSuchKey:
    return NoSuchKey(f"There is no object with the key {version.key} any more.")


def name_of(key: str) -> str:
    """What a file is called that is an object: the end of its key."""
    return key.rstrip("/").rpartition("/")[2] or key
