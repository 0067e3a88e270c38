"""Buckets, and that of the files which came by the native API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.errors import BucketExists, BucketNotEmpty, NoSuchBucket, WrongBucketState
from app.models.buckets import Bucket, Buckets, Versioning
from app.models.object_lock import DefaultRetention

NATIVE = ""
"""The name, inside the store, of the bucket in which the files of the native API are."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What the bucket of the native API's files is called, and whose it is."""

    native: str
    owner: str


class BucketStore:
    """All calls raise DatabaseUnavailable; those with a name raise NoSuchBucket."""

    def __init__(self, buckets: Buckets, naming: Naming) -> None:
        self._buckets = buckets
        self._naming = naming

    async def find(self, name: str) -> Bucket:
        """The bucket; its `name` is the one inside the store (see `NATIVE`)."""
        if name == self._naming.native:
            return self._native
        bucket = await self._buckets.find(name) if name else None
        if bucket is None:
            raise _none(name)
        return bucket

    @property
    def _native(self) -> Bucket:
        return Bucket(NATIVE, self._naming.owner, datetime.fromtimestamp(0, UTC))

    async def create(self, name: str, owner: str, settings: Mapping[str, Any], *, lockable: bool = False) -> Bucket:
        """Raises BucketExists; its `owner` is that of the bucket that there is."""
        made = None
        if name != self._naming.native:
            made = await self._buckets.create(name, owner, settings, lockable=lockable)
        if made is None:
            raise BucketExists(f"There is a bucket {name} already.", (await self.find(name)).owner)
        return made

    async def delete(self, name: str) -> None:
        """Its uploads in parts end with it. Raises BucketNotEmpty where it holds a version of an object."""
        bucket = await self.find(name)
        if bucket.name == NATIVE:
            raise BucketNotEmpty(f"The bucket {name} is that of the native API. It stays.")
        if not await self._buckets.remove(name):
            raise BucketNotEmpty(f"The bucket {name} holds objects, or versions of them. Delete these first.")

    async def list(self, owner: str | None, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Bucket]]:
        """Up to `limit` buckets by name, with the names that they are known by; all, or those of an owner."""
        found = [(bucket.name, bucket) for bucket in await self._buckets.page(owner, prefix, after, limit)]
        native = self._naming.native
        if owner in (None, self._naming.owner) and native.startswith(prefix) and native > after:
            found.append((native, self._native))
        return sorted(found, key=lambda pair: pair[0])[:limit]

    async def set_versioning(self, name: str, versioning: Versioning) -> None:
        """Raises WrongBucketState where object lock needs the versions."""
        if not await self._buckets.set_versioning(name, versioning):
            await self.find(name)
            raise WrongBucketState(
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            )

    async def set_lock(self, name: str, retention: DefaultRetention | None) -> None:
        """Let it have object lock, for good, and this default retention. Raises WrongBucketState where it keeps no
        versions."""
        if not await self._buckets.set_lock(name, retention):
            await self.find(name)
            raise WrongBucketState("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")

    async def set(self, name: str, setting: str, value: Any) -> None:
        """Keep a setting; None takes it away."""
        if not await self._buckets.set(name, setting, value):
            raise _none(name)


def _none(name: str) -> NoSuchBucket:
    return NoSuchBucket(f"There is no bucket {name}.")
