"""Upload sessions: objects in parts, which arrive in any order, at the same time, and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from app.errors import InvalidPart, NoSuchKey, NoSuchUpload
from app.models.buckets import Bucket
from app.models.catalog import Catalog
from app.models.files import new_file_id
from app.models.ledger import Hold, SourceGone
from app.models.objects import ANYHOW, Condition, Position
from app.models.pages import Pages
from app.models.sessions import Part, PartSums, Progress, UploadSession, UploadSessions, new_session_id
from app.store.listing import Listing, Query, list_folded
from app.store.objects import Wish, name_of
from app.streams.ingest import Ingest, Stages, open_ingest
from app.types import ContentId, ContentName, Entry, File, PageRef

_PAGES = 32
"""Pages read at a time."""


class SessionStore:
    """All calls raise DatabaseUnavailable; those with a session raise NoSuchUpload where it was completed, given up,
    or expired meanwhile."""

    def __init__(self, stages: Stages, sessions: UploadSessions, pages: Pages, catalog: Catalog) -> None:
        self._stages = stages
        self._sessions = sessions
        self._pages = pages
        self._catalog = catalog

    async def begin(self, wish: Wish, checksum: str = "", *, composite: bool = False) -> UploadSession:
        """Begin an upload in parts of an object; `checksum` is the kind of checksum that it is to have, or empty."""
        now = await self._stages.ledger.now()
        session = UploadSession(new_session_id(), wish.entry, wish.content_type, wish.owner, now, checksum, composite)
        await self._sessions.create(session)
        return session

    async def find(self, bucket: Bucket, key: str, upload: str) -> UploadSession:
        """The session that bears this id, for that object; it may be `done`."""
        session = await self._sessions.find(upload)
        place = (session.kind, session.entry.bucket, session.entry.key) if session else None
        if session is None or place != ("object", bucket.name, key):
            raise NoSuchUpload("There is no such upload: it was completed, given up, or it expired.")
        return session

    def upload(self, session: UploadSession) -> AbstractAsyncContextManager[Ingest]:
        """As `open_ingest`, to be committed as a part."""
        return open_ingest(self._stages, session.owner)

    async def copy_part(self, session: UploadSession, number: int, source: File, sums: PartSums) -> Part:
        """Make a part of the same bytes as those of a file, none of which is moved. Raises NoSuchKey where the file is
        deleted meanwhile."""
        ledger = self._stages.ledger
        part = Part(session.id, number, source.size, sums, await ledger.now(), source.pages)
        try:
            await ledger.commit_part(Hold(), Progress(part), [])
        except SourceGone as error:
            raise NoSuchKey(f"The source of part {number} is not there any more.") from error
        return part

    async def parts(self, session: UploadSession, after: int = 0, limit: int = 0) -> Sequence[Part]:
        """The parts with numbers over `after`, by number; up to `limit`, or all where that is 0."""
        return await self._sessions.parts(session.id, after=after, limit=limit)

    async def list(self, bucket: Bucket, query: Query, after: Position) -> Listing[UploadSession]:
        """Open sessions by key and id."""

        async def fetch(position: Position, limit: int) -> Sequence[UploadSession]:
            return await self._sessions.page(bucket.name, query.prefix, position, limit)

        return await list_folded(query, after, fetch, lambda one: Position(one.entry.key, upload=one.id))

    async def complete(
        self, session: UploadSession, parts: Sequence[Part], entry: Entry | None, condition: Condition = ANYHOW
    ) -> File:
        """Make the object, or without `entry` a file of the native API, out of these parts, none of whose bytes are
        moved; all other parts go. Raises InvalidPart where one of them is replaced meanwhile, NoSuchBucket, and what
        the condition raises."""
        pages = tuple(page for part in parts for page in part.pages)
        file = File(
            new_file_id(),
            name_of(entry.key) if entry else session.entry.key,
            sum(part.size for part in parts),
            session.content_type,
            await self.content_of(pages),
            await self._stages.ledger.now(),
            session.owner,
            pages,
            entry,
        )
        return await self._catalog.complete(session, file, parts, condition)

    async def content_of(self, refs: Sequence[PageRef]) -> ContentId:
        """Raises InvalidPart where a page is gone."""
        content = ContentName()
        for start in range(0, len(refs), _PAGES):
            some = refs[start : start + _PAGES]
            for page in await asyncio.gather(*(self._pages.read(ref.id) for ref in some)):
                if page is None:
                    raise InvalidPart("A part was uploaded again, or given up, meanwhile.")
                for chunk in page.chunks:
                    content.add(chunk.digest)
        return content.id

    async def abort(self, session: UploadSession) -> None:
        if not await self._catalog.end_session(session.id):
            raise NoSuchUpload("There is no such upload: it was completed, given up, or it expired.")

    async def forget(self, session: UploadSession) -> None:
        """Give up a session that is open; of one that is done only the file is left."""
        await self._catalog.end_session(session.id, await self._stages.ledger.now())
