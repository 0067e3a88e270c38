"""A database, its transactions, and readings of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from random import uniform
from time import monotonic
from typing import Any, TypeVar, cast

from pymongo import WriteConcern
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from app.errors import DatabaseUnavailable
from app.gathering import Gathered
from app.models.database.collection import Collection, Session
from app.models.database.errors import translated

T = TypeVar("T")

_CONTENTION = 90.0
"""Seconds for which a transaction that others get in the way of is tried again: longer than a server
keeps the transaction of a client that died in the middle of it (60 s if not set otherwise)."""
_PAUSE = 0.02
"""Seconds at the most between two tries; of random length, so that those in conflict part ways."""
_DUPLICATES = 4
"""Times that it is tried again because of a duplicate key, which may also be there to stay."""
_LIFETIME = 60.0
"""Seconds after which a server ends an open transaction by itself, if not set otherwise."""
_ASKERS = 1000
"""Those who may share one reading of the server's clock."""
_KNOCK = 0.5
"""Seconds between two tries to reach a server that was away."""


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
        self._endings: set[asyncio.Task[None]] = set()
        self._clock = Gathered(self._read_clock, most=_ASKERS)

    def __getitem__(self, name: str) -> Collection:
        return Collection(self._database[name])

    async def ping(self) -> None:
        """Raises DatabaseUnavailable unless a primary that takes writes answers."""
        with translated():
            answer = await self._client.admin.command("hello")
            if not answer.get("isWritablePrimary"):
                raise DatabaseUnavailable("The database has no primary just now.")

    async def now(self) -> datetime:
        """The time by the server's clock, the only one that ages are measured with."""
        return await self._clock(None)

    async def _read_clock(self, askers: Sequence[None]) -> list[datetime]:
        with translated():
            answer = await self._client.admin.command("hello")
            # Answers to commands come without the client's time zone.
            return [cast("datetime", answer["localTime"]).replace(tzinfo=UTC)] * len(askers)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """A session whose reads all see one moment. The server keeps that moment for some minutes
        (`minSnapshotHistoryWindowInSeconds`, 300 if not set); afterwards reads raise SnapshotTooOld."""
        async with await self._client.start_session(snapshot=True) as session:
            yield session

    async def transaction(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again if the driver says that may help, and commit it.

        `work` passes its session to every call and keeps no effect besides them, for it may run
        several times. Raises what `work` raises, and DatabaseUnavailable.
        """
        with translated():
            session = await self._client.start_session()
            broken = False
            try:
                return await self._attempts(session, work)
            except ConnectionFailure:
                broken = True
                raise
            finally:
                if broken:
                    self._end_later(session)
                else:
                    await session.end_session()

    async def _attempts(self, session: Session, work: Callable[[Session], Awaitable[T]]) -> T:
        deadline = monotonic() + _CONTENTION
        duplicates = 0
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

    def _end_later(self, session: Session) -> None:
        """Have the server end what a broken connection left open there, as soon as it can be reached.
        Whoever wants the same documents would wait for the end of its lifetime otherwise."""
        task = asyncio.create_task(self._kill(session))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _kill(self, session: Session) -> None:
        deadline = monotonic() + _LIFETIME
        try:
            while monotonic() < deadline:
                with suppress(PyMongoError):
                    await self._client.admin.command("killSessions", [session.session_id])
                    return
                await asyncio.sleep(_KNOCK)
        finally:
            # Not before: the driver may give its id to somebody else.
            await session.end_session()

    async def close(self) -> None:
        """Nothing of it runs on in the background. The connections are their opener's."""
        for task in self._endings:
            task.cancel()
        await asyncio.gather(*self._endings, return_exceptions=True)


def _may_pass(label: str, error: PyMongoError, deadline: float) -> bool:
    """Whether the driver says by this label that another try may help, and a server was there to try on."""
    away = isinstance(error, ServerSelectionTimeoutError)
    return error.has_error_label(label) and not away and monotonic() < deadline
