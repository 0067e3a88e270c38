"""Access keys.

    keys: {_id: access key, secret, owner, permissions, scopes: [{bucket, prefix}], createdAt, expiresAt, disabled,
           rotated: {secret, until}}

Secrets are here as they were sealed: bytes of which this module knows nothing (see `app.store.sealing`).
`expiresAt` is null for a key that does not expire; `rotated` is the secret before the last change, if it stays
valid for a time. All times are the database's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from app.gathering import Gathered
from app.models.database import Database, Document

Permission = Literal["read", "write", "list", "delete", "admin"]

_TOGETHER = 256
"""Keys found in one query for several callers."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key is limited to: keys that begin so, in this bucket. Files of the native API are in no bucket: ""."""

    bucket: str
    prefix: str

    def covers(self, bucket: str, key: str) -> bool:
        return bucket == self.bucket and key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Rotated:
    """The secret before the last change, and until when it is valid beside the new one."""

    secret: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One access key. Without scopes it is limited to nothing. `secret` is sealed."""

    id: str
    secret: bytes = field(repr=False)
    owner: str
    permissions: frozenset[Permission]
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    disabled: bool = False
    rotated: Rotated | None = None

    @classmethod
    def read(cls, document: Document) -> KeyEntry:
        rotated = document.get("rotated")
        return cls(
            document["_id"],
            document["secret"],
            document["owner"],
            frozenset(document["permissions"]),
            tuple(Scope(scope["bucket"], scope["prefix"]) for scope in document["scopes"]),
            document["createdAt"],
            document["expiresAt"],
            document["disabled"],
            Rotated(rotated["secret"], rotated["until"]) if rotated else None,
        )

    def written(self) -> Document:
        """The document of a key that was never rotated."""
        return {
            "_id": self.id,
            "secret": self.secret,
            "owner": self.owner,
            "permissions": sorted(self.permissions),
            "scopes": [{"bucket": scope.bucket, "prefix": scope.prefix} for scope in self.scopes],
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "disabled": self.disabled,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """A key, and what time it was when the database looked for it."""

    entry: KeyEntry
    at: datetime


class Keys:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = database["keys"]
        self._findings = Gathered(self._find_together, most=_TOGETHER)

    async def now(self) -> datetime:
        """The time by the database's clock."""
        return await self._database.now()

    async def create(self, entry: KeyEntry) -> None:
        await self._keys.insert_one(entry.written())

    async def find(self, key_id: str) -> Found | None:
        """Callers that ask at the same time share a query."""
        return await self._findings(key_id)

    async def _find_together(self, key_ids: Sequence[str]) -> list[Found | None]:
        look: list[Document] = [{"$match": {"_id": {"$in": list(set(key_ids))}}}, {"$set": {"now": "$$NOW"}}]
        documents = await self._keys.aggregate(look)
        found = {document["_id"]: Found(KeyEntry.read(document), document["now"]) for document in documents}
        return [found.get(key_id) for key_id in key_ids]

    async def entries(self) -> list[KeyEntry]:
        """All keys, by owner and age."""
        documents = await self._keys.find({}, sort=[("owner", 1), ("createdAt", 1), ("_id", 1)])
        return list(map(KeyEntry.read, documents))

    async def some(self) -> KeyEntry | None:
        """Any of them; None if there is none."""
        document = await self._keys.find_one({})
        return KeyEntry.read(document) if document else None

    # Each of the following is False if there is no such key.

    async def disable(self, key_id: str) -> bool:
        return bool(await self._keys.update_one({"_id": key_id}, {"$set": {"disabled": True}}))

    async def enable(self, key_id: str) -> bool:
        return bool(await self._keys.update_one({"_id": key_id}, {"$set": {"disabled": False}}))

    async def rotate(self, key_id: str, secret: bytes, grace: timedelta) -> bool:
        """Give the key another secret. The one that it has stays valid for `grace`; the one before ends at once."""
        new: Document = {"$set": {"secret": secret}}
        if not grace:
            return bool(await self._keys.update_one({"_id": key_id}, {**new, "$unset": {"rotated": ""}}))
        until = {"$add": ["$$NOW", grace // timedelta(milliseconds=1)]}
        # Of one stage, so that the secret that is kept is the one from before.
        change = [{"$set": {"rotated": {"secret": "$secret", "until": until}, "secret": secret}}]
        return bool(await self._keys.update_one({"_id": key_id}, change))

    async def delete(self, key_id: str) -> bool:
        return bool(await self._keys.delete_many({"_id": key_id}))
