"""What callers see of each other's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.api.app import Parts
from app.errors import Forbidden, NotFound
from app.models.keys import Permission, Scope
from app.store.access import EVERYONE, LOCAL, PERMISSIONS, Caller
from app.types import File
from tests.conftest import OpenStore

pytestmark = pytest.mark.anyio

ALL: frozenset[Permission] = PERMISSIONS - {"admin"}
ALICE = Caller("alice", "A", ALL)
BOB = Caller("bob", "B", ALL)
AUDITOR = Caller("carol", "C", frozenset({"admin", "read", "list"}))
SCOPED = Caller("alice", "D", ALL, (Scope("", "a/"), Scope("photos", "")))
ELSEWHERE = Caller("alice", "E", ALL, (Scope("photos", ""),))


@dataclass
class House:
    parts: Parts

    async def put(self, caller: Caller, name: str, content: bytes = b"same") -> File:
        async with self.parts.store.seen_by(caller).upload() as upload:
            await upload.begin_file(name, "x/y")
            await upload.write(content)
            await upload.end_file()
            return (await upload.commit()).files[0]

    async def listed(self, caller: Caller, prefix: str = "") -> list[str]:
        return [file.name for file in (await self.parts.store.seen_by(caller).list_files(10, None, prefix)).files]


@pytest.fixture
async def house(open_store: OpenStore) -> AsyncIterator[House]:
    async with open_store() as parts:
        yield House(parts)


async def test_a_file_belongs_to_who_uploads_it(house: House) -> None:
    assert (await house.put(ALICE, "a")).owner == "alice"
    assert (await house.put(EVERYONE, "a")).owner == LOCAL == "local"


async def test_files_of_others_are_not_there(house: House) -> None:
    file = await house.put(ALICE, "a/1")
    alice, bob = house.parts.store.seen_by(ALICE), house.parts.store.seen_by(BOB)
    for ask in (bob.file, bob.info, bob.delete, lambda id_: bob.manifest(id_, 0, 10)):
        with pytest.raises(NotFound, match="There is no file with this id"):
            await ask(file.id)
    with pytest.raises(NotFound):
        await bob.content(file.content_id)
    assert await house.listed(BOB) == []
    assert await alice.file(file.id) == file
    assert await alice.content(file.content_id) == file
    assert (await alice.info(file.id)).file == file
    assert (await alice.manifest(file.id, 0, 10)).file == file
    assert await house.listed(ALICE) == ["a/1"]
    await alice.delete(file.id)
    assert await house.listed(EVERYONE) == []


async def test_the_same_content_is_found_among_ones_own(house: House) -> None:
    for caller, name in ((BOB, "b"), (ALICE, "a"), (BOB, "c")):
        await house.put(caller, name)
    content_id = (await house.put(ALICE, "z")).content_id
    assert (await house.parts.store.seen_by(ALICE).content(content_id)).owner == "alice"
    assert (await house.parts.store.seen_by(BOB).content(content_id)).owner == "bob"


async def test_an_administrator_sees_all_and_may_what_his_key_allows(house: House) -> None:
    file = await house.put(ALICE, "a")
    store = house.parts.store.seen_by(AUDITOR)
    assert await store.file(file.id) == file
    assert await house.listed(AUDITOR) == ["a"]
    with pytest.raises(Forbidden, match="delete"):
        await store.delete(file.id)
    with pytest.raises(Forbidden):
        store.may_name("x")
    assert await house.listed(ALICE) == ["a"]


async def test_a_scope_holds_for_every_call(house: House) -> None:
    inside, outside = await house.put(ALICE, "a/1"), await house.put(ALICE, "b/1", b"other")
    also = await house.put(ALICE, "c/1", b"same")
    store = house.parts.store.seen_by(SCOPED)
    assert await store.file(inside.id) == inside
    for ask in (store.file, store.info, store.delete, lambda id_: store.manifest(id_, 0, 10)):
        for file in (outside, also):
            with pytest.raises(Forbidden, match="limited to other names"):
                await ask(file.id)
    assert await store.content(inside.content_id) == inside
    with pytest.raises(NotFound):
        await store.content(outside.content_id)
    assert await house.listed(SCOPED, "a/") == ["a/1"]
    for prefix in ("", "a", "b/"):
        with pytest.raises(Forbidden):
            await house.listed(SCOPED, prefix)
    store.may_name("a/2")
    for name in ("", "a", "b/2", "../a/"):
        with pytest.raises(Forbidden):
            store.may_name(name)
    await store.delete(inside.id)
    assert await house.listed(ALICE) == ["c/1", "b/1"]


async def test_who_is_limited_to_a_bucket_has_no_files_outside(house: House) -> None:
    file = await house.put(ALICE, "a/1")
    store = house.parts.store.seen_by(ELSEWHERE)
    with pytest.raises(Forbidden):
        await store.file(file.id)
    with pytest.raises(NotFound):
        await store.content(file.content_id)
    with pytest.raises(Forbidden):
        await store.list_files(1, None, "")
