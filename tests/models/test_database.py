"""Opening a database, and its first words."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest

from app.embedded import mongod
from app.errors import ConfigError
from app.models.database import Database, object_id, open_database
from app.models.meta import prepare
from tests.support import Databases, running

pytestmark = pytest.mark.anyio


async def test_a_store_keeps_its_identity(database: Database) -> None:
    assert await prepare(database) == await prepare(database)


async def test_workers_that_prepare_an_empty_database_at_once_agree(databases: Databases) -> None:
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as opened:
            stores = set(await asyncio.gather(*(prepare(opened) for _ in range(10))))
    assert len(stores) == 1
    assert all(len(bytes.fromhex(store)) == 16 for store in stores)


async def test_stores_differ(databases: Databases, database: Database) -> None:
    with databases.fresh() as name:
        async with open_database(databases.mongo_url, name) as other:
            assert await prepare(other) != await prepare(database)


@pytest.mark.parametrize("version", [0, 4, "1"])
async def test_another_format_is_refused(database: Database, version: Any) -> None:
    await database["meta"].update_one({"_id": "store"}, {"$set": {"version": version}})
    before = await database["meta"].find({})
    with pytest.raises(ConfigError, match=f"format {version}"):
        await prepare(database)
    assert await database["meta"].find({}) == before


@pytest.mark.parametrize("text", ["", "x", "0" * 23, "0" * 25, "g" * 24, "aa " * 8, "\x00" * 24])
def test_what_is_no_id(text: str) -> None:
    assert object_id(text) is None


def test_an_id_is_read_as_it_is_spelled() -> None:
    assert str(object_id("65b8" * 6)) == "65b8" * 6


async def test_a_database_answers(database: Database) -> None:
    await database.ping()


async def test_a_server_without_a_replica_set_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ms3-") as sockets:
        program = mongod.program(mongod.find_binary(), tmp_path, Path(sockets), tmp_path / "log")
        words = list(program.command)
        del words[words.index("--replSet") : words.index("--replSet") + 2]
        with (
            running(dataclasses.replace(program, command=tuple(words))),
            pytest.raises(ConfigError, match=r"not a replica set.*rs\.initiate"),
        ):
            async with open_database(mongod.url(Path(sockets)), "x", patience=0):
                pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://x", "MINI_S3_MONGO_URL"),
        ("", "MINI_S3_MONGO_URL"),
        ("mongodb://h:port", "MINI_S3_MONGO_URL"),
        ("mongodb://%2Fnowhere%2Fs.sock/?directConnection=true", "does not answer"),
    ],
)
async def test_what_can_not_be_reached_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        async with open_database(url, "x", patience=0):
            pass
