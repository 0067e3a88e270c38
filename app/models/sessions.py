"""Upload sessions: objects that are uploaded in parts, each part on its own.

    upload_sessions: {_id, bucket, key, owner, createdAt, at, touched, contentType, headers, metadata, tags, acl,
                      lock: {mode, until, hold}, sum: {kind, composite}, done: file id}
    upload_parts:    {_id, session, number, size, etag, sum, createdAt, pages: [{id, size, chunks}]}

Each part holds its pages as a file does. Whoever adds a part also sets `at`, the server's time of the session's
last progress, and counts that in `touched`, so that a session does not end under a part. Of one that is `done` there
are no parts any more: it stays for a while, so that a client which did not get the answer may ask again. One whose
bucket was removed has no `bucket`, and no progress for ages: nobody finds it, and the collector ends it soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from app.models.database import Database, Document, ObjectId, Session, object_id
from app.models.file import written_pairs
from app.models.object_lock import read_lock, written_lock
from app.models.objects import Position
from app.types import Entry, FileId, PageId, PageRef

SessionId = ObjectId

_IN_A_BUCKET: Document = {"bucket": {"$ne": None}}


@dataclass(frozen=True, slots=True)
class UploadSession:
    """`entry` is what the object is to be, but for what only its bytes tell; `checksum` is the kind of its
    checksum, or empty; `done` the file that it became."""

    id: SessionId
    entry: Entry
    content_type: str
    owner: str
    created_at: datetime
    checksum: str = ""
    composite: bool = False
    done: FileId | None = None

    @classmethod
    def read(cls, document: Document) -> UploadSession:
        entry = Entry(
            document["bucket"],
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
        )

    def written(self) -> Document:
        return {
            "_id": self.id,
            "bucket": self.entry.bucket,
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

    @property
    def held(self) -> set[PageId]:
        return {page.id for page in self.pages}


class UploadSessions:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["upload_sessions"]
        self._parts = database["upload_parts"]

    async def create_indexes(self) -> None:
        await self._sessions.create_index([("bucket", 1), ("key", 1), ("_id", 1)])
        await self._sessions.create_index([("at", 1)])
        await self._parts.create_index([("session", 1), ("number", 1)], unique=True)

    async def find(self, upload: str) -> UploadSession | None:
        """The session that bears this id, as text."""
        key = object_id(upload)
        document = await self._sessions.find_one({"_id": key, **_IN_A_BUCKET}) if key else None
        return UploadSession.read(document) if document else None

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
        change = {"$currentDate": {"at": True}, "$inc": {"touched": 1}}
        query = {"_id": upload, "done": None, **_IN_A_BUCKET}
        return bool(await self._sessions.update_one(query, change, session=session))

    async def put_part(self, part: Part, session: Session) -> Part | None:
        """Keep a part; the one that had its number until now."""
        query = {"session": part.session, "number": part.number}
        before = await self._parts.find_one_and_delete(query, session=session)
        await self._parts.insert_one(part.written(), session=session)
        return Part.read(before) if before else None

    async def take_parts(self, upload: SessionId, session: Session) -> list[Part]:
        """Remove all parts of a session; what they were."""
        parts = await self.parts(upload, session=session)
        await self._parts.delete_many({"session": upload}, session=session)
        return parts

    async def finish(self, upload: SessionId, file: FileId, session: Session) -> None:
        change = {"$set": {"done": ObjectId(file)}, "$currentDate": {"at": True}}
        await self._sessions.update_one({"_id": upload}, change, session=session)

    async def remove(self, upload: SessionId, session: Session, *, stale_since: datetime | None = None) -> bool:
        """Remove a session that is open, or one that is stale, also if it is done. False if it is not."""
        how: Document = {"at": {"$lte": stale_since}} if stale_since else {"done": None, **_IN_A_BUCKET}
        return bool(await self._sessions.delete_many({"_id": upload, **how}, session=session))


def holders(parts: Iterable[Part]) -> Counter[PageId]:
    """How many of the parts hold each page."""
    return Counter(page for part in parts for page in part.held)


def new_session_id() -> SessionId:
    return ObjectId()
