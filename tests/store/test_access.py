"""Who a key speaks for, what it allows, and how soon a change of it is heeded."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.background import in_background
from app.errors import (
    BadRequest,
    ConfigError,
    DatabaseUnavailable,
    Forbidden,
    KeyDisabled,
    KeyExpired,
    NotFound,
    UnknownKey,
    WrongSecret,
)
from app.models.database import Database
from app.models.keys import Keys, Permission, Scope
from app.store import access as module
from app.store.access import ANONYMOUS, EVERYONE, LOCAL, PERMISSIONS, Access, Caller
from app.store.keyring import Keyring, Wanted
from app.store.sealing import Sealer
from tests.store.tools import ROOT, SEALER, access_to, make_key
from tests.support import eventually_async

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The worker's clock; it stands still unless it is moved. The database has its own."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, Any]]]:
    """What is compared in constant time."""
    pairs: list[tuple[Any, Any]] = []
    honest = hmac.compare_digest

    def noted(first: Any, second: Any) -> bool:
        pairs.append((first, second))
        return honest(first, second)

    monkeypatch.setattr(module.hmac, "compare_digest", noted)
    return pairs


# What a caller may


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_a_permission_allows_itself_only(permission: Permission) -> None:
    caller = Caller("alice", "K", frozenset({permission}))
    assert {other for other in PERMISSIONS if caller.may(other, "b", "k")} == {permission}
    for other in PERMISSIONS - {permission}:
        with pytest.raises(Forbidden, match=other):
            caller.require(other)


def test_scopes_are_of_a_bucket_and_begin_keys() -> None:
    caller = Caller(
        "alice", "K", frozenset({"read", "list"}), (Scope("photos", "a/"), Scope("music", ""), Scope("", "n"))
    )
    for bucket, key, allowed in (
        ("photos", "a/1", True),
        ("photos", "a/", True),
        ("photos", "a", False),
        ("photos", "", False),
        ("photos", "b/a/", False),
        ("photo", "a/1", False),
        ("photos2", "a/1", False),
        ("music", "", True),
        ("music", "x", True),
        ("", "name", True),
        ("", "", False),
        ("", "a/1", False),
    ):
        assert caller.may("read", bucket, key) is allowed, (bucket, key)
        assert caller.may("list", bucket, key) is allowed, (bucket, key)
        assert not caller.may("write", bucket, key)
    with pytest.raises(Forbidden, match="limited to other names"):
        caller.require("read", "photos", "b")
    assert [caller.prefixes_in(bucket) for bucket in ("photos", "", "other")] == [("a/",), ("n",), ()]


def test_nobody_may_nothing_and_everyone_all() -> None:
    for permission in PERMISSIONS:
        assert not ANONYMOUS.may(permission)
        assert EVERYONE.may(permission, "any", "thing")
    assert (EVERYONE.is_root, EVERYONE.owner, ANONYMOUS.is_root) == (True, LOCAL, False)
    assert not ANONYMOUS.sees(LOCAL)


def test_an_administrator_sees_what_others_own() -> None:
    assert Caller("alice", "K", frozenset({"admin"})).sees("bob")
    plain = Caller("alice", "K", PERMISSIONS - {"admin"})
    assert (plain.sees("bob"), plain.sees("alice")) == (False, True)


# Who a caller is


async def test_a_key_and_its_secret_are_a_caller(database: Database) -> None:
    scopes = (Scope("b", "p"),)
    new = await make_key(database, "read", "list", owner="bob", scopes=scopes)
    caller = await access_to(database).authenticate(new.entry.id, new.secret)
    assert caller == Caller("bob", new.entry.id, frozenset({"read", "list"}), scopes)
    assert not caller.is_root


async def test_the_root_key_needs_no_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_self: Any, _key: str) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Keys, "find", away)
    access = access_to(database)
    caller = await access.authenticate(ROOT.access_key, ROOT.secret)
    assert caller == Caller(LOCAL, ROOT.access_key, PERMISSIONS, is_root=True)
    with pytest.raises(WrongSecret):
        await access.authenticate(ROOT.access_key, ROOT.secret + "x")
    with pytest.raises(DatabaseUnavailable):
        await access.authenticate("A" * 20, "x")


@pytest.mark.parametrize("wrong", ["", "x", "{}x", "x{}", "é{}", "\x00"])
async def test_any_other_secret_is_refused(database: Database, wrong: str) -> None:
    new = await make_key(database)
    with pytest.raises(WrongSecret):
        await access_to(database).authenticate(new.entry.id, wrong.format(new.secret))
    with pytest.raises(WrongSecret):
        await access_to(database).authenticate(new.entry.id, new.secret[:-1])


async def test_secrets_are_compared_in_constant_time(database: Database, compared: list[tuple[Any, Any]]) -> None:
    new = await make_key(database)
    await Keyring(Keys(database)).rotate(new.entry.id, timedelta(hours=1), SEALER)
    access = access_to(database, root=None)
    current, old = (await access.credentials(new.entry.id)).secrets
    assert old == new.secret
    compared.clear()
    for given in (current, old):
        await access.authenticate(new.entry.id, given)
    with pytest.raises(WrongSecret):
        await access.authenticate(new.entry.id, "wrong")
    # Both are compared, also where the first is right.
    expected = [(secret, given) for given in (current, old, "wrong") for secret in (current, old)]
    assert compared == [(secret.encode(), given.encode()) for secret, given in expected]


@pytest.mark.parametrize("unknown", ["A" * 20, "", "a" * 20, "A" * 21, "é", "$ne", "A" * 20 + "\n"])
async def test_an_unknown_key_is_told_as_such(database: Database, unknown: str) -> None:
    with pytest.raises(UnknownKey):
        await access_to(database).authenticate(unknown, "secret")


async def test_garbage_is_not_looked_for_nor_remembered(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keys, "find", lambda *_: pytest.fail("a question to the database"))
    access = access_to(database)
    for garbage in ("x", "a" * 20, "A" * 10_000):
        with pytest.raises(UnknownKey):
            await access.credentials(garbage)
    assert not access._seen


async def test_memory_for_keys_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    access = access_to(database)
    for number in range(10):
        with pytest.raises(UnknownKey):
            await access.credentials(f"{number:020}")
    assert list(access._seen) == [f"{number:020}" for number in (7, 8, 9)]


# How soon changes are heeded


async def test_what_ends_a_key_does_so_within_two_seconds(database: Database, clock: Clock) -> None:
    ring, access = Keyring(Keys(database)), access_to(database)
    disabled, deleted, rotated = [await make_key(database) for _ in range(3)]
    made = (disabled, deleted, rotated)
    for key in made:
        await access.authenticate(key.entry.id, key.secret)
    await ring.disable(disabled.entry.id)
    await ring.delete(deleted.entry.id)
    secret = await ring.rotate(rotated.entry.id, timedelta(), SEALER)
    clock.now += 1.9
    for key in made:
        await access.authenticate(key.entry.id, key.secret)
    clock.now += 0.1
    for key, error in zip(made, (KeyDisabled, UnknownKey, WrongSecret), strict=True):
        with pytest.raises(error):
            await access.authenticate(key.entry.id, key.secret)
    await access.authenticate(rotated.entry.id, secret)
    await ring.enable(disabled.entry.id)
    clock.now += 2
    await access.authenticate(disabled.entry.id, disabled.secret)


async def test_a_slow_reading_is_not_believed_for_longer(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two seconds count from when it began: what it tells may have been so then only."""
    new = await make_key(database)
    access = access_to(database)
    find = Keys.find

    async def slow(self: Keys, key_id: str) -> Any:
        found = await find(self, key_id)
        await Keyring(self).disable(key_id)
        clock.now += 2
        return found

    monkeypatch.setattr(Keys, "find", slow)
    await access.authenticate(new.entry.id, new.secret)
    with pytest.raises(KeyDisabled):
        await access.authenticate(new.entry.id, new.secret)


async def test_a_crowd_costs_few_questions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await make_key(database)
    asked = 0
    aggregate = type(database["keys"]).aggregate

    async def counted(self: Any, pipeline: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return await aggregate(self, pipeline, **options)

    monkeypatch.setattr(type(database["keys"]), "aggregate", counted)
    access = access_to(database)
    await asyncio.gather(*(access.authenticate(new.entry.id, new.secret) for _ in range(50)))
    assert asked <= 2
    for _ in range(50):
        await access.authenticate(new.entry.id, new.secret)
    assert asked <= 2


async def test_a_key_expires_by_the_clock_of_the_database_and_at_once(database: Database, clock: Clock) -> None:
    new = await make_key(database, expires=timedelta(hours=1))
    access = access_to(database)
    await access.authenticate(new.entry.id, new.secret)
    in_a_second = await access._keys.now() + timedelta(seconds=1)
    await database["keys"].update_one({"_id": new.entry.id}, {"$set": {"expiresAt": in_a_second}})
    clock.now += 2
    await access.authenticate(new.entry.id, new.secret)
    clock.now += 1
    with pytest.raises(KeyExpired):
        await access.authenticate(new.entry.id, new.secret)


async def test_a_rotated_secret_is_valid_for_its_grace(database: Database, clock: Clock) -> None:
    new = await make_key(database)
    ring, access = Keyring(Keys(database)), access_to(database)
    secret = await ring.rotate(new.entry.id, timedelta(seconds=60), SEALER)
    for known in (new.secret, secret):
        await access.authenticate(new.entry.id, known)
    await database["keys"].update_one(
        {"_id": new.entry.id}, {"$set": {"rotated.until": await access._keys.now() + timedelta(seconds=1)}}
    )
    clock.now += 2
    assert (await access.credentials(new.entry.id)).secrets == (secret, new.secret)
    clock.now += 1
    assert (await access.credentials(new.entry.id)).secrets == (secret,)
    with pytest.raises(WrongSecret):
        await access.authenticate(new.entry.id, new.secret)


async def test_secrets_are_not_shown_and_not_stored(database: Database) -> None:
    new = await make_key(database)
    access = access_to(database)
    known = await access.credentials(new.entry.id)
    assert known.secrets == (new.secret,)
    for shown in (known, new, *access._seen.values(), new.entry, access._root):
        assert new.secret not in repr(shown)
        assert ROOT.secret not in repr(shown)
    for document in await database["keys"].find({}):
        assert new.secret not in repr(document)


# Open or not


async def begun(access: Access) -> Access:
    await access.begin()
    return access


async def test_without_any_key_a_server_is_open_where_it_may(database: Database) -> None:
    assert (await begun(access_to(database, root=None, may_be_open=True))).is_open
    assert not (await begun(access_to(database, may_be_open=True))).is_open
    assert not (await begun(access_to(database))).is_open
    with pytest.raises(ConfigError, match=r"--auth yes .*--host 127\.0\.0\.1"):
        await begun(access_to(database, root=None))


async def test_any_key_closes_a_server(database: Database) -> None:
    new = await make_key(database)
    await Keyring(Keys(database)).disable(new.entry.id)
    for may_be_open in (True, False):
        assert not (await begun(access_to(database, root=None, may_be_open=may_be_open))).is_open


async def test_the_first_key_closes_an_open_server_and_nothing_opens_it_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.01)
    access = await begun(access_to(database, root=None, may_be_open=True))
    some, looks = access._keys.some, 0

    async def away_at_first() -> Any:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise DatabaseUnavailable("away")
        return await some()

    monkeypatch.setattr(access._keys, "some", away_at_first)

    async def closed() -> bool:
        return not access.is_open

    async with in_background(access.follow()):
        new = await make_key(database)
        await eventually_async(closed)
        await Keyring(Keys(database)).delete(new.entry.id)
        assert not access.is_open


async def test_another_master_key_is_told_at_the_start_and_to_commands(database: Database) -> None:
    new = await make_key(database)
    other = Sealer(base64.b64encode(bytes(32)).decode())
    access = Access(Keys(database), other, ROOT, may_be_open=True)
    with pytest.raises(ConfigError, match="master key is not the one"):
        await access.begin()
    with pytest.raises(ConfigError, match="master key is not the one"):
        await access.credentials(new.entry.id)
    ring = Keyring(Keys(database))
    with pytest.raises(ConfigError):
        await ring.create(Wanted("bob", frozenset({"read"})), other)
    with pytest.raises(ConfigError):
        await ring.rotate(new.entry.id, timedelta(), other)
    assert await ring.entries() == [new.entry]


# Making keys


@pytest.mark.parametrize(
    ("owner", "permissions", "scopes"),
    [
        ("", {"read"}, ()),
        ("a b", {"read"}, ()),
        ("-a", {"read"}, ()),
        ("a" * 65, {"read"}, ()),
        ("alice", set(), ()),
        ("alice", {"read", "admin"}, (Scope("b", ""),)),
    ],
)
def test_keys_that_can_not_be_are_refused(owner: str, permissions: set[Permission], scopes: tuple[Scope, ...]) -> None:
    with pytest.raises(BadRequest):
        Wanted(owner, frozenset(permissions), scopes)


async def test_a_key_that_would_be_expired_is_refused(database: Database) -> None:
    ring = Keyring(Keys(database))
    for expires in (timedelta(), await Keys(database).now()):
        with pytest.raises(BadRequest, match="would have expired"):
            await ring.create(Wanted("alice", frozenset({"read"}), (), expires), SEALER)
    assert await ring.entries() == []


async def test_the_first_key_is_told_from_others(database: Database) -> None:
    assert [(await make_key(database)).is_first for _ in range(2)] == [True, False]


async def test_a_key_that_is_not_there_can_not_be_changed(database: Database) -> None:
    ring = Keyring(Keys(database))
    for done in (ring.disable("X"), ring.enable("X"), ring.delete("X"), ring.rotate("X", timedelta(), SEALER)):
        with pytest.raises(NotFound, match="mini-s3 key list"):
            await done
