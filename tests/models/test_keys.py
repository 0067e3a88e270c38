"""Access keys as documents: read as written, found together, changed by intent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.models.database import Database
from app.models.keys import KeyEntry, Keys, Rotated, Scope
from tests.support import Databases

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENTRY = KeyEntry(
    "A" * 20,
    b"$ealed",
    "alice",
    frozenset({"read", "list"}),
    (Scope("photos", "2026/"), Scope("", "a")),
    NOON,
    NOON + timedelta(days=1),
)
PLAIN = KeyEntry("B" * 20, b"other", "bob", frozenset({"admin"}), (), NOON)


async def test_a_key_is_read_as_it_was_written(database: Database) -> None:
    keys = Keys(database)
    assert (await keys.find(ENTRY.id), await keys.some(), await keys.entries()) == (None, None, [])
    for entry in (PLAIN, ENTRY):
        await keys.create(entry)
    assert await keys.entries() == [ENTRY, PLAIN]
    assert await keys.some() in (ENTRY, PLAIN)
    found = await keys.find(ENTRY.id)
    assert found is not None
    assert found.entry == ENTRY
    assert abs(found.at - await keys.now()) < timedelta(minutes=1)
    assert await keys.find(ENTRY.id.lower()) is None


async def test_each_change_says_whether_there_is_such_a_key(database: Database) -> None:
    keys = Keys(database)
    await keys.create(ENTRY)
    assert await keys.disable(ENTRY.id)
    assert await keys.entries() == [replace(ENTRY, disabled=True)]
    assert await keys.enable(ENTRY.id)
    assert await keys.entries() == [ENTRY]
    assert await keys.delete(ENTRY.id)
    hour = timedelta(hours=1)
    for done in (
        keys.disable(ENTRY.id),
        keys.enable(ENTRY.id),
        keys.delete(ENTRY.id),
        keys.rotate(ENTRY.id, b"x", hour),
    ):
        assert not await done
    assert await keys.entries() == []


async def test_a_rotation_keeps_the_last_secret_for_as_long_as_is_said(database: Database) -> None:
    keys = Keys(database)
    await keys.create(ENTRY)
    began = await keys.now()
    for secret, old in ((b"$second", ENTRY.secret), (b"third", b"$second")):
        assert await keys.rotate(ENTRY.id, secret, timedelta(hours=1))
        (entry,) = await keys.entries()
        assert entry.rotated is not None
        until = entry.rotated.until
        assert entry == replace(ENTRY, secret=secret, rotated=Rotated(old, until))
        assert began <= until - timedelta(hours=1) <= await keys.now()
    assert await keys.rotate(ENTRY.id, b"fourth", timedelta())
    assert await keys.entries() == [replace(ENTRY, secret=b"fourth")]


async def test_keys_are_found_together_by_their_ids(
    database: Database, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(database)
    for entry in (PLAIN, ENTRY):
        await keys.create(entry)
    asked: list[Any] = []
    aggregate = type(keys._keys).aggregate

    async def noted(self: Any, pipeline: Any, **options: Any) -> Any:
        asked.append(pipeline)
        return await aggregate(self, pipeline, **options)

    monkeypatch.setattr(type(keys._keys), "aggregate", noted)
    wanted = [ENTRY.id, PLAIN.id, "C" * 20] * 20
    found = await asyncio.gather(*map(keys.find, wanted))
    assert [one.entry if one else None for one in found] == [ENTRY, PLAIN, None] * 20
    assert len(asked) <= 2


def test_secrets_are_not_shown() -> None:
    rotated = replace(ENTRY, rotated=Rotated(b"older", NOON))
    for secret in ("$ealed", "older"):
        assert secret not in repr(rotated)
