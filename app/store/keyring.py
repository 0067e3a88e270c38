"""Making access keys, and changing them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.errors import BadRequest, NotFound
from app.models.keys import KeyEntry, Keys, Permission, Scope
from app.store.credentials import new_access_key, new_secret
from app.store.sealing import Sealer

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key is to be. `expires` is a moment, or a time from now; None for never.

    Raises BadRequest where there can be no such key.
    """

    owner: str
    permissions: frozenset[Permission]
    scopes: tuple[Scope, ...] = ()
    expires: datetime | timedelta | None = None

    def __post_init__(self) -> None:
        if not _OWNER.fullmatch(self.owner):
            raise BadRequest("An owner is named with up to 64 letters, digits and ._@-, the first a letter or digit.")
        if not self.permissions:
            raise BadRequest("A key must allow something: read, write, list, delete or admin.")
        if self.scopes and "admin" in self.permissions:
            raise BadRequest("What a key with `admin` may do is about the whole store: it has no buckets or prefixes.")


@dataclass(frozen=True, slots=True)
class NewKey:
    """`secret` is told this once. `is_first`: there was no key in the store before."""

    entry: KeyEntry
    secret: str = field(repr=False)
    is_first: bool


class Keyring:
    """All methods raise DatabaseUnavailable; those with an access key raise NotFound."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def create(self, wanted: Wanted, sealer: Sealer) -> NewKey:
        """Raises BadRequest if it would be expired, ConfigError if other keys were sealed with another master key."""
        other = await self._keys.some()
        if other:
            sealer.open(other.id, other.secret)
        now, expires = await self._keys.now(), wanted.expires
        expires_at = now + expires if isinstance(expires, timedelta) else expires
        if expires_at is not None and expires_at <= now:
            raise BadRequest(f"The key would have expired: it is {now:%Y-%m-%d %H:%M} UTC.")
        access_key, secret = new_access_key(), new_secret()
        sealed = sealer.seal(access_key, secret)
        entry = KeyEntry(access_key, sealed, wanted.owner, wanted.permissions, wanted.scopes, now, expires_at)
        await self._keys.create(entry)
        return NewKey(entry, secret, other is None)

    async def entries(self) -> list[KeyEntry]:
        """All keys, by owner and age."""
        return await self._keys.entries()

    async def disable(self, access_key: str) -> None:
        _known(access_key, there=await self._keys.disable(access_key))

    async def enable(self, access_key: str) -> None:
        _known(access_key, there=await self._keys.enable(access_key))

    async def rotate(self, access_key: str, grace: timedelta, sealer: Sealer) -> str:
        """Another secret for the key. The one that it has stays valid for `grace`, one from before ends at once.

        Raises ConfigError if the key was sealed with another master key.
        """
        if found := await self._keys.find(access_key):
            sealer.open(found.entry.id, found.entry.secret)
        secret = new_secret()
        _known(access_key, there=await self._keys.rotate(access_key, sealer.seal(access_key, secret), grace))
        return secret

    async def delete(self, access_key: str) -> None:
        _known(access_key, there=await self._keys.delete(access_key))


def _known(access_key: str, *, there: bool) -> None:
    if not there:
        raise NotFound(f"There is no access key {access_key}. `mini-s3 key list` shows those that there are.")
