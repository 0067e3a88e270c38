"""Connecting, and waiting for a primary that takes writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
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
    client = await _connected(url, initiate, patience)
    database = Database(client, name)
    try:
        yield database
    finally:
        await database.close()
        client.close()


async def _connected(url: str, initiate: str, patience: float) -> Any:
    """A client of a primary. One that saw the server before it was initiated would never learn that it has
    sessions now: each look is that of a new one."""
    deadline = asyncio.get_running_loop().time() + patience
    told = ""
    while True:
        with ExitStack() as stack:
            client = _client(url)
            stack.callback(client.close)
            problem = await _primary_problem(client, initiate)
            if not problem:
                stack.pop_all()
                return client
        if problem != told:
            log.info("waiting for mongodb", problem=problem, seconds=patience)
            told = problem
        if asyncio.get_running_loop().time() > deadline:
            raise ConfigError(f"MongoDB can't be used: {problem}")
        await asyncio.sleep(0.05)


def _client(url: str) -> Any:
    try:
        return AsyncIOMotorClient(url, tz_aware=True, tzinfo=UTC, appname="mini-s3", **_TIMEOUTS)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise ConfigError(f"MINI_S3_MONGO_URL can't be used: {error}") from error


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
