"""Upload sessions: files that are uploaded in parts, each part on its own.

    upload_sessions: {_id, kind, bucket, key, owner, createdAt, at, touched, contentType, headers, metadata, tags, acl,
                      lock: {mode, until, hold}, sum: {kind, composite}, size, offset, writer,
                      gain: {received, stored, new}, done: file id}
    upload_parts:    {_id, session, number, size, etag, sum, createdAt, pages: [{id, size, chunks}]}

Each part holds its pages as a file does. Whoever adds a part also sets `at`, the server's time of the session's
last progress, and counts that in `touched`, so that a session does not end under a part. Of one that is `done` there
are no parts any more: it stays for a while, so that a client which did not get the answer may ask again.

Only sessions of objects, which have no `kind`, are in a bucket. One whose bucket was removed has no `bucket`, and no
progress for ages: nobody finds it, and the collector ends it soon. Of the others `key` is the name of the file. `size`
is what was announced. To those of the kind `tus` bytes are appended: the part that begins at an offset has the number
behind it, `offset` is where the next one begins, and `writer` is whoever may append it, which the latest one to begin
is. Numbers below 1 are bundles: chunks that the session holds so that a file may be made of them, in no order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from app.errors import NoSuchUpload, OffsetMismatch
from app.models.database import Database, Document, ObjectId, Session, object_id
from app.models.file import written_pairs
from app.models.files import Cursor
from app.models.object_lock import read_lock, written_lock
from app.models.objects import Position
from app.types import PAGE_CHUNKS, Entry, FileId, PageId, PageRef

SessionId = ObjectId
Writer = ObjectId
Kind = Literal["object", "file", "tus"]

_MILLISECOND = timedelta(milliseconds=1)
_LARGE = 1 << 56
"""The numbers of bundles that hold as many chunks as a page may, or more, are below its negative."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What requests brought: bytes of bodies, bytes of blobs that were written for them, chunks that were new."""

    received: int = 0
    stored: int = 0
    new: int = 0


_THERE: Document = {"$or": [{"bucket": {"$ne": None}}, {"kind": {"$ne": None}}]}
"""Not left behind by a bucket that was removed."""


@dataclass(frozen=True, slots=True)
class UploadSession:
    """`entry` is what the object is to be, but for what only its bytes tell; of another file its key is the name, and
    its headers are those that are given back. `checksum` is the kind of the object's checksum, or empty; `size` what
    was announced; `done` the file that it became; `at` the time of the last progress."""

    id: SessionId
    entry: Entry
    content_type: str
    owner: str
    created_at: datetime
    checksum: str = ""
    composite: bool = False
    done: FileId | None = None
    kind: Kind = "object"
    size: int | None = None
    offset: int = 0
    gain: Gain = Gain()
    at: datetime | None = field(default=None, compare=False)

    def expires_at(self, expiry: timedelta) -> datetime:
        """When it ends for want of progress, if there is none from now on."""
        return (self.at or self.created_at) + expiry

    @classmethod
    def read(cls, document: Document) -> UploadSession:
        entry = Entry(
            document.get("bucket", ""),
            document["key"],
            "",
            dict(document.get("headers", ())),
            dict(document.get("metadata", ())),
            dict(document.get("tags", ())),
            document.get("acl", "private"),
            lock=read_lock(document),
        )
        checksum, done = document.get("sum", {}), document.get("done")
        return cls(
            document["_id"],
            entry,
            document["contentType"],
            document["owner"],
            document["createdAt"],
            checksum.get("kind", ""),
            checksum.get("composite", False),
            FileId(str(done)) if done else None,
            document.get("kind", "object"),
            document.get("size"),
            document.get("offset", 0),
            Gain(**document.get("gain", {})),
            document["at"],
        )

    def written(self) -> Document:
        place = (
            {"bucket": self.entry.bucket}
            if self.kind == "object"
            else {"kind": self.kind, "size": self.size, "offset": 0}
        )
        return {
            "_id": self.id,
            **place,
            "key": self.entry.key,
            "owner": self.owner,
            "createdAt": self.created_at,
            "at": self.created_at,
            "contentType": self.content_type,
            "headers": written_pairs(self.entry.headers),
            "metadata": written_pairs(self.entry.metadata),
            "tags": written_pairs(self.entry.tags),
            "acl": self.entry.acl,
            "sum": {"kind": self.checksum, "composite": self.composite},
            **written_lock(self.entry.lock),
        }


@dataclass(frozen=True, slots=True)
class PartSums:
    """`etag` is the part's MD5 in hexadecimal, `checksum` its checksum in base64, or empty."""

    etag: str
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """`id` changes when the part is uploaded again."""

    session: SessionId
    number: int
    size: int
    sums: PartSums
    created_at: datetime
    pages: tuple[PageRef, ...]
    id: ObjectId = field(default_factory=ObjectId)

    @classmethod
    def read(cls, document: Document) -> Part:
        return cls(
            document["session"],
            document["number"],
            document["size"],
            PartSums(document["etag"], document["sum"]),
            document["createdAt"],
            tuple(PageRef(PageId(page["id"]), page["size"], page["chunks"]) for page in document["pages"]),
            document["_id"],
        )

    def written(self) -> Document:
        return {
            "_id": self.id,
            "session": self.session,
            "number": self.number,
            "size": self.size,
            "etag": self.sums.etag,
            "sum": self.sums.checksum,
            "createdAt": self.created_at,
            "pages": [{"id": page.id, "size": page.size, "chunks": page.chunks} for page in self.pages],
        }

    @classmethod
    def bundle(cls, session: SessionId, pages: tuple[PageRef, ...], now: datetime) -> Part:
        """Pages of chunks that a session is to hold. The same page is the same bundle, however often it comes."""
        number = -int.from_bytes(pages[0].id[:7], "big")
        large = sum(page.chunks for page in pages) >= PAGE_CHUNKS
        size = sum(page.size for page in pages)
        return cls(session, number - _LARGE if large else number, size, PartSums(""), now, pages)

    @property
    def held(self) -> set[PageId]:
        return {page.id for page in self.pages}

    @property
    def chunks(self) -> int:
        return sum(page.chunks for page in self.pages)


@dataclass(frozen=True, slots=True)
class Progress:
    """A part that a session gets: what it cost, who appends it where only one may, and the parts that it stands for
    from now on."""

    part: Part
    gain: Gain = Gain()
    writer: Writer | None = None
    instead_of: Sequence[Part] = ()


class UploadSessions:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["upload_sessions"]
        self._parts = database["upload_parts"]

    async def create_indexes(self) -> None:
        await self._sessions.create_index([("bucket", 1), ("key", 1), ("_id", 1)])
        await self._sessions.create_index([("at", 1)])
        await self._sessions.create_index([("owner", 1), ("kind", 1), ("createdAt", -1), ("_id", -1)])
        await self._parts.create_index([("session", 1), ("number", 1)], unique=True)

    async def find(self, upload: str, session: Session | None = None) -> UploadSession | None:
        """The session that bears this id, as text."""
        key = object_id(upload)
        document = await self._sessions.find_one({"_id": key, **_THERE}, session=session) if key else None
        return UploadSession.read(document) if document else None

    async def find_within(self, upload: str, age: timedelta) -> UploadSession | None:
        """As `find`, if its last progress is not longer ago than that."""
        key = object_id(upload)
        fresh = {"$expr": {"$gt": ["$at", {"$subtract": ["$$NOW", age // _MILLISECOND]}]}}
        document = await self._sessions.find_one({"_id": key, **fresh}) if key else None
        return UploadSession.read(document) if document else None

    async def newest(self, owner: str, kind: Kind, limit: int, after: Cursor | None) -> list[UploadSession]:
        """Up to `limit` open sessions of a kind and an owner, newest first, beginning behind `after`."""
        query: Document = {"owner": owner, "kind": kind, "done": None}
        if after:
            query["createdAt"] = {"$lte": after.created_at}
            query["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": ObjectId(after.id)}}]
        order = [("createdAt", -1), ("_id", -1)]
        index = [("owner", 1), ("kind", 1), *order]
        return list(map(UploadSession.read, await self._sessions.find(query, sort=order, limit=limit, index=index)))

    async def begin_to_append(self, upload: SessionId, offset: int, size: int | None, writer: Writer) -> bool:
        """From now on only this writer appends, and the announced size, where one is given, stands. False if the
        session does not end at that offset, has another size, is done or not there any more."""
        query: Document = {"_id": upload, "done": None, "offset": offset}
        change: Document = {"$set": {"writer": writer}, "$currentDate": {"at": True}}
        if size is not None:
            query["size"] = {"$in": [size, None]}
            change["$set"]["size"] = size
        return bool(await self._sessions.update_one(query, change))

    async def page(self, bucket: str, prefix: str, after: Position, limit: int) -> list[UploadSession]:
        """Up to `limit` open sessions of a bucket, by key and id, whose keys begin with `prefix`."""
        found: list[Document] = []
        order = [("bucket", 1), ("key", 1), ("_id", 1)]
        if after.upload:
            query: Document = {"bucket": bucket, "key": after.key, "_id": {"$gt": after.upload}, "done": None}
            found = await self._sessions.find(query, sort=order, limit=limit)
        if len(found) < limit:
            query = {"bucket": bucket, "done": None, "key": after.condition(prefix)}
            found += await self._sessions.find(query, sort=order, limit=limit - len(found))
        return list(map(UploadSession.read, found))

    async def parts(
        self, upload: SessionId, *, after: int = 0, limit: int = 0, session: Session | None = None
    ) -> list[Part]:
        """The parts with numbers over `after`, by number; up to `limit`, or all where that is 0."""
        query = {"session": upload, "number": {"$gt": after}}
        documents = await self._parts.find(query, sort=[("number", 1)], limit=limit, session=session)
        return list(map(Part.read, documents))

    async def last_parts(self, upload: SessionId, limit: int) -> list[Part]:
        """Up to so many parts, from the last one on backwards."""
        query = {"session": upload, "number": {"$gt": 0}}
        return list(map(Part.read, await self._parts.find(query, sort=[("number", -1)], limit=limit)))

    async def holding(self, upload: SessionId) -> list[Part]:
        """All that holds chunks for the session: parts, and bundles."""
        return list(map(Part.read, await self._parts.find({"session": upload})))

    async def small_bundles(self, upload: SessionId, limit: int) -> list[Part]:
        """Up to so many that hold fewer chunks than a page may."""
        return list(map(Part.read, await self._parts.find(_small_bundles(upload), limit=limit)))

    async def count_small_bundles(self, upload: SessionId) -> int:
        return await self._parts.count(_small_bundles(upload))

    async def stale(self, before: datetime, limit: int) -> list[SessionId]:
        """Sessions without progress after `before`."""
        documents = await self._sessions.find({"at": {"$lte": before}}, fields={"_id": 1}, limit=limit)
        return [document["_id"] for document in documents]

    async def count_stale(self, before: datetime) -> int:
        return await self._sessions.count({"at": {"$lte": before}})

    async def held(self, session: Session) -> AsyncIterator[list[set[PageId]]]:
        """The pages that each part holds, in lists."""
        async for documents in self._parts.stream({}, session=session):
            yield [Part.read(document).held for document in documents]

    # Inside a transaction of the ledger

    async def create(self, upload: UploadSession, session: Session) -> None:
        await self._sessions.insert_one(upload.written(), session=session)

    async def touch(self, upload: SessionId, session: Session) -> bool:
        """Note progress; False if the session is not there any more, or done."""
        return bool(await self._sessions.update_one(*_touched(upload), session=session))

    async def advance(self, progress: Progress, session: Session) -> None:
        """Note the progress that a part is. Raises NoSuchUpload if the session is not there any more, or done;
        OffsetMismatch if somebody else has appended to it, or begun to; and where parts that it is to stand for are
        gone."""
        part, gain = progress.part, progress.gain
        query, change = _touched(part.session)
        change["$inc"] |= {"gain.received": gain.received, "gain.stored": gain.stored, "gain.new": gain.new}
        if progress.writer:
            query |= {"writer": progress.writer, "offset": part.number - 1}
            change["$inc"]["offset"] = part.size
        if progress.instead_of:
            there = await self._parts.find(
                {"_id": {"$in": _ids(progress.instead_of)}}, fields={"_id": 1}, session=session
            )
            if len(there) != len(progress.instead_of):
                raise OffsetMismatch("Other parts have taken the place of these.")
        if not await self._sessions.update_one(query, change, session=session):
            if progress.writer and await self.find(str(part.session), session):
                raise OffsetMismatch(
                    "Another request goes on with this upload. Ask for its offset, and go on from there."
                )
            raise NoSuchUpload("There is no such upload any more: it was completed, given up, or it expired.")

    async def put_part(self, progress: Progress, session: Session) -> list[Part]:
        """Keep a part; the ones whose place it takes, because they had its number until now or are named."""
        part = progress.part
        queries: list[Document] = [{"session": part.session, "number": part.number}]
        if progress.instead_of:
            queries.append({"_id": {"$in": _ids(progress.instead_of)}})
        query = queries[0] if len(queries) == 1 else {"$or": queries}
        before = await self._parts.find(query, session=session)
        if before:
            await self._parts.delete_many({"_id": {"$in": [one["_id"] for one in before]}}, session=session)
        await self._parts.insert_one(part.written(), session=session)
        return list(map(Part.read, before))

    async def take_parts(self, upload: SessionId, session: Session) -> list[Part]:
        """Remove all parts of a session, and its bundles; what they were."""
        documents = await self._parts.find({"session": upload}, session=session)
        await self._parts.delete_many({"session": upload}, session=session)
        return list(map(Part.read, documents))

    async def finish(self, upload: SessionId, file: FileId, session: Session) -> bool:
        """Note the file that a session became; False if it is not there any more, or done already."""
        change = {"$set": {"done": ObjectId(file)}, "$currentDate": {"at": True}}
        return bool(await self._sessions.update_one({"_id": upload, "done": None}, change, session=session))

    async def remove(self, upload: SessionId, session: Session, *, stale_since: datetime | None = None) -> bool:
        """Remove a session that is open, or one that is stale, also if it is done. False if it is not."""
        how: Document = {"at": {"$lte": stale_since}} if stale_since else {"done": None, **_THERE}
        return bool(await self._sessions.delete_many({"_id": upload, **how}, session=session))


def _touched(upload: SessionId) -> tuple[Document, Document]:
    """The query for a session that is open, and the change that notes progress."""
    return {"_id": upload, "done": None, **_THERE}, {"$currentDate": {"at": True}, "$inc": {"touched": 1}}


def _small_bundles(upload: SessionId) -> Document:
    return {"session": upload, "number": {"$gt": -_LARGE, "$lt": 1}}


def _ids(parts: Iterable[Part]) -> list[ObjectId]:
    return [part.id for part in parts]


def holders(parts: Iterable[Part]) -> Counter[PageId]:
    """How many of the parts hold each page."""
    return Counter(page for part in parts for page in part.held)


def new_session_id() -> SessionId:
    return ObjectId()


def new_writer() -> Writer:
    return ObjectId()
