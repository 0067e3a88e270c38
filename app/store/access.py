"""Who calls, and what his key allows.

A worker remembers what it read of a key for at most 2 s. So that is how long a key may still work after it was
disabled, deleted, or given another secret.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import get_args

from app.errors import ConfigError, DatabaseUnavailable, Forbidden, KeyDisabled, KeyExpired, UnknownKey, WrongSecret
from app.logs import get_logger
from app.models.keys import Found, KeyEntry, Keys, Permission, Scope
from app.store.credentials import RootKey
from app.store.sealing import Sealer

log = get_logger(__name__)

LOCAL = "local"
"""The account of the root key, and of everybody while a server is open."""

PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))

_FRESH = 2.0
"""Seconds for which what was read of a key is believed, counted from the moment when the reading began."""
_LOOK = 1.0
"""Seconds between two looks of an open server for the first key."""
_REMEMBERED = 4096
"""Keys that a worker remembers, unknown ones included."""
_ID = re.compile(r"[A-Z0-9]{20}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: an account, and the key that speaks for it. Without scopes he is limited to no bucket or prefix."""

    owner: str
    key_id: str
    permissions: frozenset[Permission]
    scopes: tuple[Scope, ...] = ()
    is_root: bool = False

    def may(self, permission: Permission, bucket: str = "", key: str = "") -> bool:
        """Whether his key allows this on a key in a bucket; to list, the key is the prefix of what is listed.

        A file of the native API is in the bucket "", and its key is its name.
        """
        if permission not in self.permissions:
            return False
        return not self.scopes or any(scope.covers(bucket, key) for scope in self.scopes)

    def require(self, permission: Permission, bucket: str = "", key: str = "") -> None:
        """Raises Forbidden where he may not."""
        self.require_some(permission)
        if not self.may(permission, bucket, key):
            raise Forbidden(f"The access key {self.key_id} is limited to other names than this.")

    def require_some(self, permission: Permission) -> None:
        """Raises Forbidden where he may do this nowhere."""
        if permission not in self.permissions:
            raise Forbidden(f"This needs an access key with the permission `{permission}`.")

    def prefixes_in(self, bucket: str) -> tuple[str, ...]:
        """How those keys in a bucket begin that he is not kept from: ("",) for all of them, () for none."""
        return tuple(scope.prefix for scope in self.scopes if scope.bucket == bucket) if self.scopes else ("",)

    @property
    def sees_all(self) -> bool:
        """Whether what others own is there for him."""
        return "admin" in self.permissions

    def sees(self, owner: str) -> bool:
        """Whether what this account owns is there for him."""
        return self.sees_all or owner == self.owner


ANONYMOUS = Caller("", "", frozenset())
"""Somebody without a key, where keys are asked for."""

EVERYONE = Caller(LOCAL, "", PERMISSIONS, is_root=True)
"""Anybody, on a server that is open."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets that are valid for a key, the newest first, and who it speaks for. While a rotated secret is in its
    time of grace there are two."""

    secrets: tuple[str, ...] = field(repr=False)
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a reading that began at `since`, by our clock, found of a key; None if there is no such key. `secrets` are
    that of the entry and that of its rotation, opened."""

    since: float
    found: Found | None
    secrets: tuple[str, ...] = field(repr=False)


class Access:
    """The keys of a store, as one worker knows them."""

    def __init__(self, keys: Keys, sealer: Sealer, root: RootKey | None, *, may_be_open: bool) -> None:
        """`may_be_open`: whether everybody may do everything as long as there is no key at all."""
        self._keys = keys
        self._sealer = sealer
        self._root = root
        self._is_open = may_be_open and root is None
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything. Once that has ended it stays so."""
        return self._is_open

    async def begin(self) -> None:
        """See what there is. Raises ConfigError where callers could not be told apart, DatabaseUnavailable."""
        entry = await self._keys.some()
        if entry:
            self._sealer.open(entry.id, entry.secret)
            self._is_open = False
        elif self._root is None and not self._is_open:
            raise ConfigError(
                "There are no access keys, and whoever reaches this address could read and write everything. Say "
                "--auth yes (or MINI_S3_AUTH=yes) to make a root key, set MINI_S3_ROOT_ACCESS_KEY and "
                "MINI_S3_ROOT_SECRET_KEY, or listen on this machine only: --host 127.0.0.1"
            )

    async def follow(self) -> None:
        """For as long as the server is open, look for the first key; then never return."""
        while self._is_open:
            await asyncio.sleep(_LOOK)
            try:
                if await self._keys.some():
                    self._is_open = False
                    log.info("access keys are asked for from now on")
            except DatabaseUnavailable:
                # Nothing of the store can be reached now either.
                continue
        await asyncio.Event().wait()

    async def credentials(self, access_key: str) -> Credentials:
        """Raises UnknownKey, KeyDisabled, KeyExpired, DatabaseUnavailable; ConfigError for a wrong master key."""
        if self._root and hmac.compare_digest(access_key.encode(), self._root.access_key.encode()):
            return Credentials((self._root.secret,), Caller(LOCAL, access_key, PERMISSIONS, is_root=True))
        seen = await self._look(access_key)
        if seen.found is None:
            raise UnknownKey("There is no such access key.")
        entry = seen.found.entry
        if entry.disabled:
            raise KeyDisabled(f"The access key {entry.id} is disabled.")
        now = seen.found.at + timedelta(seconds=monotonic() - seen.since)
        if entry.expires_at and entry.expires_at <= now:
            raise KeyExpired(f"The access key {entry.id} has expired.")
        valid = seen.secrets if entry.rotated and now < entry.rotated.until else seen.secrets[:1]
        return Credentials(valid, Caller(entry.owner, entry.id, entry.permissions, entry.scopes))

    async def authenticate(self, access_key: str, secret: str) -> Caller:
        """Who it is that knows this secret. Raises WrongSecret, and as `credentials`."""
        known = await self.credentials(access_key)
        if not _is_one_of(known.secrets, secret):
            raise WrongSecret("The secret is not that of this access key.")
        return known.caller

    async def _look(self, access_key: str) -> _Seen:
        since = monotonic()
        if not _ID.fullmatch(access_key):
            return _Seen(since, None, ())
        seen = self._seen.get(access_key)
        if seen is None or since - seen.since >= _FRESH:
            found = await self._keys.find(access_key)
            self._seen[access_key] = seen = _Seen(since, found, self._opened(found.entry) if found else ())
            self._seen.move_to_end(access_key)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return seen

    def _opened(self, entry: KeyEntry) -> tuple[str, ...]:
        sealed = (entry.secret, entry.rotated.secret) if entry.rotated else (entry.secret,)
        return tuple(self._sealer.open(entry.id, secret) for secret in sealed)


def _is_one_of(secrets: Sequence[str], given: str) -> bool:
    """In a time that tells nothing of the secrets: each of them is compared, and all of it."""
    return sum(hmac.compare_digest(secret.encode(), given.encode()) for secret in secrets) > 0
