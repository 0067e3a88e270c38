"""Opening a database, and its first words."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pytest

from app.embedded import mongod
from app.errors import ConfigError
from app.models.database import Database, open_database
from app.models.meta import prepare
from tests.support import running

pytestmark = pytest.mark.anyio


async def test_a_store_keeps_its_identity(database: Database) -> None:
    assert await prepare(database) == await prepare(database)


async def test_another_format_is_refused(database: Database) -> None:
    await database["meta"].update_one({"_id": "store"}, {"$set": {"version": 2}})
    with pytest.raises(ConfigError, match="format 2"):
        await prepare(database)


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
        ("mongodb://%2Fnowhere%2Fs.sock/?directConnection=true", "does not answer"),
    ],
)
async def test_what_can_not_be_reached_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        async with open_database(url, "x", patience=0):
            pass
