"""Upload sessions of the native API and of tus, as one caller sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.errors import (
    ChunksMissing,
    ContentUnknown,
    Forbidden,
    InvalidPart,
    MiniS3Error,
    NoSuchUpload,
    NotFound,
    OffsetMismatch,
    SizeMismatch,
    TooLarge,
)
from app.logs import get_logger
from app.models.files import Cursor, Files, Whose, new_file_id
from app.models.ledger import ChunksNotLive, Hold, SourceGone
from app.models.sessions import Gain, Kind, Part, UploadSession, UploadSessions, new_session_id, new_writer
from app.store.access import EVERYONE, Caller
from app.store.appending import Appender, Turn, open_appender
from app.store.merging import Merging
from app.store.negotiation import Drawn, Negotiation, Sizes
from app.store.sessions import SessionStore
from app.store.store import Store
from app.streams.ingest import Ingest, Stages, open_ingest
from app.types import ChunkRef, ContentId, Digest, Entry, File, FileId, PageRef

log = get_logger(__name__)

_TRIES = 3
"""Times that a file is made of parts some of which are replaced meanwhile."""

CONCAT = "upload-concat"
"""The header of a tus upload that says `partial` where it is to become no file by itself, and so needs no name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be uploaded; `headers` are given back as they are."""

    kind: Kind
    name: str
    content_type: str
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """The file that a session became, just now or before, and what the session brought."""

    file: File
    gain: Gain
    just_now: bool = True


@dataclass(frozen=True, slots=True)
class Engine:
    """What the sessions of all callers run on; `expiry` is how long one lasts without progress."""

    stages: Stages
    sessions: UploadSessions
    parts: SessionStore
    negotiation: Negotiation
    merging: Merging
    files: Files
    expiry: timedelta


class UploadStore:
    """`seen_by` says who calls: each sees his own sessions, and of these the ones whose names he may write.

    All calls raise DatabaseUnavailable; those with a session raise NoSuchUpload where it is not open any more.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store
        self._caller = EVERYONE

    def seen_by(self, caller: Caller) -> UploadStore:
        seen = copy(self)
        seen._caller, seen._store = caller, self._store.seen_by(caller)
        return seen

    @property
    def max_size(self) -> int:
        """Bytes that a file may have."""
        return self._engine.stages.max_file_size

    async def begin(self, plan: Plan) -> UploadSession:
        """Raises Forbidden where the caller may not write a file of this name, TooLarge."""
        self._may_write(plan.name, plan.headers)
        self._check_size(plan.size or 0)
        session = UploadSession(
            new_session_id(),
            Entry("", plan.name, "", plan.headers),
            plan.content_type,
            self._caller.owner,
            await self._engine.stages.ledger.now(),
            kind=plan.kind,
            size=plan.size,
        )
        await self._engine.parts.open(session)
        return session

    async def find(self, kind: Kind, upload: str) -> UploadSession:
        """The session that bears this id; it may be `done`. Raises NoSuchUpload also for those of others, and
        Forbidden."""
        session = await self._engine.sessions.find_within(upload, self._engine.expiry)
        if session is None or (session.kind, session.owner) != (kind, self._caller.owner):
            raise _none()
        self._may_write(session.entry.key, session.entry.headers)
        return session

    def _may_write(self, name: str, headers: Mapping[str, str]) -> None:
        if headers.get(CONCAT) != "partial":
            self._caller.require("write", key=name)

    async def find_open(self, kind: Kind, upload: str) -> UploadSession:
        """As `find`. Raises NoSuchUpload also for one that is done."""
        session = await self.find(kind, upload)
        if session.done:
            raise NoSuchUpload("The upload was completed already.")
        return session

    async def list(self, kind: Kind, limit: int, after: Cursor | None) -> tuple[Sequence[UploadSession], Cursor | None]:
        """Up to `limit` of the caller's open sessions, newest first, and where the next ones begin."""
        found = await self._engine.sessions.newest(self._caller.owner, kind, limit + 1, after)
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], Cursor(last.created_at, FileId(str(last.id))) if last else None

    async def parts(self, session: UploadSession) -> Sequence[Part]:
        """By number, or in the order in which they were appended."""
        return await self._engine.parts.parts(session)

    def expires_at(self, session: UploadSession) -> datetime:
        return session.expires_at(self._engine.expiry)

    async def abort(self, session: UploadSession) -> None:
        await self._engine.parts.abort(session)

    async def forget(self, session: UploadSession) -> None:
        """Also one that is done: the file stays."""
        await self._engine.parts.forget(session)

    # Bytes

    def upload(self, session: UploadSession) -> AbstractAsyncContextManager[Ingest]:
        """As `open_ingest`, to be committed as a part."""
        return self._engine.parts.upload(session)

    @asynccontextmanager
    async def upload_chunk(self, session: UploadSession, digest: Digest) -> AsyncIterator[Ingest]:
        """Takes the bytes of one chunk, which the session holds then. Raises DigestMismatch, before anything is
        kept."""
        async with open_ingest(self._engine.stages, session.owner, digest) as ingest:
            await ingest.begin_file(session.entry.key, session.content_type)
            yield ingest
            await ingest.end_file()
            await ingest.commit_bundle(session)
        await self._engine.merging.bundles(session.id)

    @asynccontextmanager
    async def append(
        self, session: UploadSession, offset: int, *, size: int | None = None, whole: bool = False
    ) -> AsyncIterator[Appender]:
        """As `open_appender`. From now on nobody else appends who has begun before. Raises OffsetMismatch where the
        bytes do not go on from where the others end; `size` announces how many they are to be."""
        writer = new_writer()
        if not await self._engine.sessions.begin_to_append(session.id, offset, size, writer):
            await self.find_open(session.kind, str(session.id))
            raise OffsetMismatch("The upload does not go on at this offset. Ask for the one where it does.")
        turn = Turn(session, writer, offset, whole)
        async with open_appender(self._engine.stages, turn, self._engine.merging.parts) as appender:
            yield appender

    async def missing(self, session: UploadSession, asked: Sizes) -> set[Digest]:
        """As `Negotiation.missing`: known are chunks of the account's files with names that the caller's key covers."""
        prefixes = self._caller.prefixes_in("")
        whose = Whose(self._caller.owner, prefixes, native=bool(self._caller.scopes))
        missing = await self._engine.negotiation.missing(session, asked, whose)
        await self._engine.merging.bundles(session.id)
        return missing

    # Files

    async def complete(self, session: UploadSession, numbers: Sequence[int] | None = None) -> Made:
        """Make the file of these parts, or of all. Raises InvalidPart where one is not there, SizeMismatch,
        TooLarge."""

        async def work() -> File:
            tries = _TRIES
            while True:
                parts = self._chosen(session, await self.parts(session), numbers)
                try:
                    return await self._engine.parts.complete(session, parts, None)
                except InvalidPart:
                    # Parts may be replaced, or merged, at any time.
                    tries -= 1
                    if not tries:
                        raise

        return await self._made_by(session, work)

    def _chosen(self, session: UploadSession, parts: Sequence[Part], numbers: Sequence[int] | None) -> Sequence[Part]:
        if numbers is not None:
            by_number = {part.number: part for part in parts}
            if absent := [number for number in numbers if number not in by_number]:
                raise InvalidPart(f"Part {absent[0]} was not uploaded.")
            parts = [by_number[number] for number in numbers]
        elif not parts and session.size != 0:
            raise InvalidPart("No part was uploaded. An empty file is announced with the size 0.")
        self._check_made(session, sum(part.size for part in parts))
        return parts

    async def complete_listed(self, session: UploadSession, lists: AsyncIterator[Sequence[ChunkRef]]) -> Made:
        """Make the file of these chunks. Raises ChunksMissing where the session does not hold all of them, of these
        sizes; SizeMismatch, TooLarge."""
        engine, drawn = self._engine, Drawn()

        async def work() -> File:
            await engine.negotiation.draw(session, lists, drawn)
            file = await self._file(session, drawn.pages, drawn.content.id)
            try:
                (made,) = await engine.stages.ledger.commit_files(drawn.hold, [file], drawn.tails, completes=session.id)
            except ChunksNotLive as gone:
                raise ChunksMissing(sorted(gone.digests)) from gone
            return made

        try:
            return await self._made_by(session, work)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._give_up(drawn)))
            raise

    async def _give_up(self, drawn: Drawn) -> None:
        try:
            await self._engine.stages.ledger.end_upload(drawn.hold)
        except MiniS3Error as error:
            log.warning("upload left for the collector", upload=str(drawn.hold.upload), error=error.message)

    async def complete_alike(self, session: UploadSession, content_id: str) -> Made:
        """Make a file of the same content as one that the caller may read. Raises ContentUnknown where there is none,
        SizeMismatch."""

        async def work() -> File:
            try:
                same = await self._store.content(content_id)
            except (NotFound, Forbidden) as error:
                raise _unknown() from error
            try:
                return await self._copied(session, same.pages, same.content_id)
            except SourceGone as error:
                raise _unknown() from error

        return await self._made_by(session, work)

    async def concatenate(self, session: UploadSession, parts: Sequence[Part]) -> Made:
        """Make the file of parts of other sessions, which keep them. Raises InvalidPart where some are gone,
        TooLarge."""

        async def work() -> File:
            pages = [page for part in parts for page in part.pages]
            try:
                return await self._copied(session, pages, await self._engine.parts.content_of(pages))
            except SourceGone as error:
                raise InvalidPart("An upload that was to be concatenated is gone.") from error

        return await self._made_by(session, work)

    async def _copied(self, session: UploadSession, pages: Sequence[PageRef], content: ContentId) -> File:
        file = await self._file(session, pages, content)
        (made,) = await self._engine.stages.ledger.commit_files(Hold(), [file], [], completes=session.id)
        return made

    async def _file(self, session: UploadSession, pages: Sequence[PageRef], content: ContentId) -> File:
        size = sum(page.size for page in pages)
        self._check_made(session, size)
        name, now = session.entry.key, await self._engine.stages.ledger.now()
        return File(new_file_id(), name, size, session.content_type, content, now, session.owner, tuple(pages))

    async def _made_by(self, session: UploadSession, work: Callable[[], Awaitable[File]]) -> Made:
        """The file that the work makes, or that another call which was faster has made."""
        if session.done:
            return await self._made(session)
        try:
            file = await work()
        except (NoSuchUpload, InvalidPart, ChunksMissing):
            now = await self.find(session.kind, str(session.id))
            if not now.done:
                raise
            return await self._made(now)
        return Made(file, session.gain)

    async def _made(self, session: UploadSession) -> Made:
        file = await self._engine.files.find(session.done or "")
        if file is None:
            raise NotFound("The upload was completed, and its file was deleted since.")
        return Made(file, session.gain, just_now=False)

    def _check_made(self, session: UploadSession, size: int) -> None:
        self._check_size(size)
        if session.size not in (None, size):
            raise SizeMismatch(f"The upload was announced as {session.size} bytes, and what came are {size}.")

    def _check_size(self, size: int) -> None:
        if size > self.max_size:
            raise TooLarge(f"The file is larger than the {self.max_size} bytes allowed here.")


def _unknown() -> ContentUnknown:
    return ContentUnknown("There is no file of this content that you may read.")


def _none() -> NoSuchUpload:
    return NoSuchUpload("There is no such upload: it was given up, or it expired.")
