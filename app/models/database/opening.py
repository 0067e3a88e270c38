"""Connecting, and waiting for a primary that takes writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError

from app.errors import ConfigError
from app.logs import get_logger
from app.models.database.transactions import Database

log = get_logger(__name__)

_TIMEOUTS: dict[str, Any] = {
    # A call fails within 5 s of losing the server: the monitor notices a server that hangs after
    # connect timeout + heartbeat and interrupts the calls under way, up to 0.5 s later; whatever is
    # tried next waits for a new server for the selection timeout, and a transaction does so twice:
    # when it is aborted and when it is tried again.
    "connectTimeoutMS": 1500,
    "heartbeatFrequencyMS": 500,
    "serverSelectionTimeoutMS": 1000,
    "socketTimeoutMS": 60_000,
}
_NOT_INITIALIZED = 94
_ALREADY_INITIALIZED = 23


@asynccontextmanager
async def open_database(url: str, name: str, *, initiate: str = "", patience: float = 30) -> AsyncIterator[Database]:
    """Connect, and wait up to `patience` seconds for a primary.

    `initiate` is the host under which a fresh, embedded mongod is made a one-member replica set.
    Raises ConfigError where the URL can't be used or the server is no replica set.
    """
    # The client that saw the server before it was initiated never learns that it has sessions now.
    with _client(url) as client:
        await _wait_for_primary(client, initiate, patience)
    with _client(url) as client:
        await _wait_for_primary(client, "", patience)
        database = Database(client, name)
        try:
            yield database
        finally:
            await database.close()


@contextmanager
def _client(url: str) -> Iterator[Any]:
    try:
        client: Any = AsyncIOMotorClient(url, tz_aware=True, tzinfo=UTC, appname="mini-s3", **_TIMEOUTS)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise ConfigError(f"MINI_S3_MONGO_URL can't be used: {error}") from error
    try:
        yield client
    finally:
        client.close()


async def _wait_for_primary(client: Any, initiate: str, patience: float) -> None:
    deadline = asyncio.get_running_loop().time() + patience
    told = ""
    while True:
        problem = await _primary_problem(client, initiate)
        if not problem:
            return
        if problem != told:
            log.info("waiting for mongodb", problem=problem, seconds=patience)
            told = problem
        if asyncio.get_running_loop().time() > deadline:
            raise ConfigError(f"MongoDB can't be used: {problem}")
        await asyncio.sleep(0.05)


async def _primary_problem(client: Any, initiate: str) -> str:
    """What keeps us from writing, in words; the empty string when nothing does."""
    try:
        hello: Mapping[str, Any] = await client.admin.command("hello")
        if hello.get("setName"):
            return "" if hello.get("isWritablePrimary") else "its replica set has no primary"
        if initiate:
            members = [{"_id": 0, "host": initiate}]
            await client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
            return "its replica set is only just initiated"
    except OperationFailure as error:
        if error.code in (_ALREADY_INITIALIZED, _NOT_INITIALIZED):
            return "its replica set is only just initiated"
        raise ConfigError(f"MongoDB refuses us: {error}") from error
    except PyMongoError as error:
        return f"it does not answer ({error})"[:300]
    return (
        "it is not a replica set, which transactions need. One member is enough: start mongod with --replSet rs0 "
        "and run rs.initiate() in it once"
    )
