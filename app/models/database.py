"""The one module that knows the MongoDB driver (motor, on pymongo).

It offers the few calls that the models use, so that the driver can be exchanged here, and turns
the driver's errors into ours. Only calls that PyMongo's own asynchronous client has too are used.
All writes are `w: majority, j: true` (rule R6); all dates are UTC.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from random import uniform
from time import monotonic
from typing import Any, TypeVar, cast

# Motor runs every call on a pool of threads that it sizes at import; its default of five a core
# lets a few uploads that wait for the journal hold up every lookup, and when the server is away the
# requests of a crowd would wait for that one after the other. Threads are started as they are needed.
os.environ.setdefault("MOTOR_MAX_WORKERS", "128")

from bson import ObjectId
from bson.errors import InvalidId
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from pymongo import InsertOne, UpdateOne, WriteConcern
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from app.errors import ConfigError, DatabaseUnavailable, MiniS3Error
from app.logs import get_logger

__all__ = [
    "Collection",
    "Database",
    "Document",
    "DuplicateKey",
    "InsertOne",
    "ObjectId",
    "Session",
    "UpdateOne",
    "object_id",
    "open_database",
]

log = get_logger(__name__)

Document = dict[str, Any]
Session = AsyncIOMotorClientSession
T = TypeVar("T")

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
_CONTENTION = 90.0
"""Seconds for which a transaction that others get in the way of is tried again: longer than a server
keeps the transaction of a client that died in the middle of it (60 s if not set otherwise)."""
_PAUSE = 0.02
"""Seconds at the most between two tries; of random length, so that those in conflict part ways."""
_DUPLICATES = 4
"""Times that it is tried again because of a duplicate key, which may also be there to stay."""
_DUPLICATE_KEY = 11000
_NOT_INITIALIZED = 94
_ALREADY_INITIALIZED = 23
_TRANSIENT = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")


class DuplicateKey(MiniS3Error):
    """A document with this id exists; models catch it, it never leaves them."""

    code = "duplicate-key"


def object_id(text: str) -> ObjectId | None:
    """The id that `text` spells, or None where it spells none."""
    try:
        return ObjectId(text)
    except InvalidId:
        return None


@contextmanager
def _translated(session: Session | None = None) -> Iterator[None]:
    """Inside a transaction the driver must see its own errors, so that it can run it again."""
    try:
        yield
    except PyMongoError as error:
        if session is not None:
            raise
        raise _translate(error) from error


def _translate(error: PyMongoError) -> Exception:
    if isinstance(error, DuplicateKeyError):
        return DuplicateKey(str(error))
    if isinstance(error, ConnectionFailure) or error.timeout or any(map(error.has_error_label, _TRANSIENT)):
        log.warning("database unavailable", error=str(error)[:300])
        return DatabaseUnavailable("The database does not answer. Try again in a few seconds.")
    return error


class Collection:
    """The calls that the models use. Each raises DatabaseUnavailable, and DuplicateKey on inserts."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def find_one(
        self, query: Document, *, fields: Document | None = None, session: Session | None = None
    ) -> Document | None:
        with _translated(session):
            return cast("Document | None", await self._collection.find_one(query, fields, session=session))

    async def find(
        self,
        query: Document,
        *,
        fields: Document | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        session: Session | None = None,
    ) -> list[Document]:
        with _translated(session):
            cursor = self._collection.find(query, fields, sort=sort, limit=limit, session=session)
            return cast("list[Document]", await cursor.to_list(None))

    async def aggregate(self, pipeline: Sequence[Document], *, session: Session | None = None) -> list[Document]:
        with _translated(session):
            cursor = self._collection.aggregate(pipeline, session=session)
            return cast("list[Document]", await cursor.to_list(None))

    async def estimated_count(self) -> int:
        with _translated():
            return cast("int", await self._collection.estimated_document_count())

    async def insert_one(self, document: Document, *, session: Session | None = None) -> None:
        with _translated(session):
            await self._collection.insert_one(document, session=session)

    async def insert_many(self, documents: Sequence[Document], *, session: Session | None = None) -> None:
        with _translated(session):
            await self._collection.insert_many(documents, session=session)

    async def update_one(
        self,
        query: Document,
        change: Document,
        *,
        upsert: bool = False,
        session: Session | None = None,
    ) -> int:
        """How many documents matched: 0 or 1."""
        with _translated(session):
            result = await self._collection.update_one(query, change, upsert=upsert, session=session)
            return cast("int", result.matched_count)

    async def update_many(self, query: Document, change: Document, *, session: Session | None = None) -> int:
        """How many documents matched."""
        with _translated(session):
            return cast("int", (await self._collection.update_many(query, change, session=session)).matched_count)

    async def delete_many(self, query: Document, *, session: Session | None = None) -> int:
        """How many documents were deleted."""
        with _translated(session):
            return cast("int", (await self._collection.delete_many(query, session=session)).deleted_count)

    async def find_one_and_delete(self, query: Document, *, session: Session | None = None) -> Document | None:
        with _translated(session):
            return cast("Document | None", await self._collection.find_one_and_delete(query, session=session))

    async def bulk_update(self, operations: Sequence[UpdateOne], *, session: Session | None = None) -> int:
        """Run all operations, in no order; return how many upserted or matched a document.

        An upsert that meets an existing document of the same id counts as not matched.
        """
        with _translated(session):
            try:
                result = await self._collection.bulk_write(operations, ordered=False, session=session)
            except BulkWriteError as error:
                details = error.details or {}
                duplicates = all(problem["code"] == _DUPLICATE_KEY for problem in details.get("writeErrors", []))
                if not duplicates or details.get("writeConcernErrors"):
                    raise
                return cast("int", details["nUpserted"] + details["nMatched"])
            return cast("int", result.upserted_count + result.matched_count)

    async def create_index(self, keys: Sequence[tuple[str, int]], **options: Any) -> None:
        with _translated():
            await self._collection.create_index(keys, **options)


class Database:
    """An open connection pool and one database in it."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._database = client.get_database(
            name,
            write_concern=WriteConcern("majority", j=True, wtimeout=30_000),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )

    def __getitem__(self, name: str) -> Collection:
        return Collection(self._database[name])

    async def ping(self) -> None:
        """Raises DatabaseUnavailable unless a primary that takes writes answers."""
        with _translated():
            answer = await self._client.admin.command("hello")
            if not answer.get("isWritablePrimary"):
                raise DatabaseUnavailable("The database has no primary just now.")

    async def transaction(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again if the driver says that may help, and commit it.

        `work` passes its session to every call and keeps no effect besides them, for it may run
        several times. Raises what `work` raises, and DatabaseUnavailable.
        """
        deadline = monotonic() + _CONTENTION
        duplicates = 0
        with _translated():
            async with await self._client.start_session() as session:
                while True:
                    try:
                        return await self._attempt(session, work, deadline)
                    except DuplicateKeyError:
                        # Another transaction inserted the same document a moment earlier; the next attempt
                        # finds it. The server calls some of these conflicts transient, but not all.
                        duplicates += 1
                        if duplicates > _DUPLICATES:
                            raise
                    except PyMongoError as error:
                        if not _may_pass("TransientTransactionError", error, deadline):
                            raise
                    await asyncio.sleep(uniform(0, _PAUSE))  # noqa: S311 - no secret

    @staticmethod
    async def _attempt(session: Session, work: Callable[[Session], Awaitable[T]], deadline: float) -> T:
        # Motor's `with_transaction` is not used: it never repeats a commit, and for two minutes it
        # goes on trying to reach a server that is away.
        session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority", j=True, wtimeout=30_000),
            read_preference=ReadPreference.PRIMARY,
        )
        try:
            result = await work(session)
        except BaseException:
            await session.abort_transaction()
            raise
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                # The commit may have been done: only the commit may be repeated, not the work.
                if not _may_pass("UnknownTransactionCommitResult", error, deadline):
                    raise
            else:
                return result


def _may_pass(label: str, error: PyMongoError, deadline: float) -> bool:
    """Whether the driver says by this label that another try may help, and a server was there to try on."""
    away = isinstance(error, ServerSelectionTimeoutError)
    return error.has_error_label(label) and not away and monotonic() < deadline


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
        yield Database(client, name)


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
