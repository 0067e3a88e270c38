"""Keys for the tests of who may do what."""

from __future__ import annotations

import base64
from datetime import timedelta

from app.models.database import Database
from app.models.keys import Keys, Permission, Scope
from app.store.access import Access
from app.store.credentials import RootKey
from app.store.keyring import Keyring, NewKey, Wanted
from app.store.sealing import Sealer

MASTER = base64.b64encode(bytes(range(32))).decode()
SEALER = Sealer(MASTER)
ROOT = RootKey("the-root", "the root's secret")


async def make_key(
    database: Database,
    *permissions: Permission,
    owner: str = "alice",
    scopes: tuple[Scope, ...] = (),
    expires: timedelta | None = None,
) -> NewKey:
    wanted = Wanted(owner, frozenset(permissions or ("read",)), scopes, expires)
    return await Keyring(Keys(database)).create(wanted, SEALER)


def access_to(database: Database, root: RootKey | None = ROOT, *, may_be_open: bool = False) -> Access:
    return Access(Keys(database), SEALER, root, may_be_open=may_be_open)
