"""The files of a store: one document each, as `file` describes it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.errors import BadRequest
from app.gathering import Gathered
from app.models.database import Database, Document, ObjectId, Session, begins_with, object_id
from app.models.file import NO_MARKER, read_file, written_file
from app.types import File, FileId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TOGETHER = 64
"""Files found in one query for several callers."""


def new_file_id() -> FileId:
    return FileId(str(ObjectId()))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list of files, newest first."""

    created_at: datetime
    id: FileId

    def __str__(self) -> str:
        milliseconds = (self.created_at - _EPOCH) // _MILLISECOND
        return base64.urlsafe_b64encode(milliseconds.to_bytes(8, "big") + bytes.fromhex(self.id)).decode()

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises BadRequest where `text` is not what a listing gave out."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            if len(raw) != 20:
                raise ValueError
            created_at = _EPOCH + int.from_bytes(raw[:8], "big") * _MILLISECOND
        except (ValueError, OverflowError, binascii.Error) as error:
            raise BadRequest("The cursor is not one that a listing gave out; start again without it.") from error
        return cls(created_at, FileId(raw[8:].hex()))


@dataclass(frozen=True, slots=True)
class Whose:
    """Which files are meant: of one owner, or of all (None), with names that begin so; perhaps only `native` ones,
    which are in no other bucket."""

    owner: str | None = None
    prefixes: tuple[str, ...] = ("",)
    native: bool = False

    @property
    def condition(self) -> Document:
        condition: Document = {} if self.owner is None else {"owner": self.owner}
        if self.native:
            condition["bucket"] = ""
        if "" not in self.prefixes:
            condition["$or"] = [{"name": begins_with(prefix)} for prefix in self.prefixes]
        return condition


EVERYBODY = Whose()


class Files:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._files = database["files"]
        self._findings = Gathered(self._find_together, most=_TOGETHER)

    async def create_indexes(self) -> None:
        await self._files.create_index([("createdAt", -1), ("_id", -1)])
        await self._files.create_index([("name", 1), ("createdAt", -1), ("_id", -1)])
        await self._files.create_index([("owner", 1), ("createdAt", -1), ("_id", -1)])
        await self._files.create_index([("owner", 1), ("name", 1), ("createdAt", -1), ("_id", -1)])
        await self._files.create_index([("contentId", 1), ("owner", 1), ("name", 1)])
        await self._files.create_index([("pages.id", 1), ("owner", 1)])

    async def insert(self, files: Iterable[tuple[File, int]], session: Session) -> None:
        """Insert files; those that are objects are that version of it."""
        await self._files.insert_many([written_file(file, seq) for file, seq in files], session=session)

    async def find(self, file_id: str) -> File | None:
        key = object_id(file_id)
        return await self._findings(key) if key else None

    async def _find_together(self, keys: Sequence[ObjectId]) -> list[File | None]:
        documents = await self._files.find({"_id": {"$in": list(set(keys))}, **NO_MARKER})
        files = {document["_id"]: read_file(document) for document in documents}
        return [files.get(key) for key in keys]

    async def find_by_content(self, content_id: str, whose: Whose = EVERYBODY) -> File | None:
        document = await self._files.find_one({"contentId": content_id, **whose.condition})
        return read_file(document) if document else None

    async def newest(self, limit: int, after: Cursor | None, prefix: str, whose: Whose = EVERYBODY) -> list[File]:
        """Up to `limit` files without their pages, newest first, beginning behind `after`.

        With a prefix the server tries both indexes and keeps to the better: a rare prefix is found
        by name, a common one on the way down the dates. Without one there is only one that is good, and the
        server is not left the choice: for an owner whose files are all that is new, it would take the index of all.
        """
        query: Document = {**NO_MARKER, **whose.condition, **({"name": begins_with(prefix)} if prefix else {})}
        if after:
            query["$or"] = [
                {"createdAt": {"$lt": after.created_at}},
                {"createdAt": after.created_at, "_id": {"$lt": ObjectId(after.id)}},
            ]
            query["createdAt"] = {"$lte": after.created_at}
        order = [("createdAt", -1), ("_id", -1)]
        index = None if prefix else [*([("owner", 1)] if whose.owner is not None else []), *order]
        documents = await self._files.find(query, fields={"pages": 0}, sort=order, limit=limit, index=index)
        return [read_file(document) for document in documents]

    async def stream(self, prefix: str = "", session: Session | None = None) -> AsyncIterator[list[File]]:
        """All files whose names begin with `prefix`, in lists."""
        query: Document = {**NO_MARKER, **({"name": begins_with(prefix)} if prefix else {})}
        async for documents in self._files.stream(query, session=session):
            yield list(map(read_file, documents))

    async def count(self) -> int:
        """About how many files there are."""
        return await self._files.estimated_count()

    async def sum(self, session: Session) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        group = {"$group": {"_id": None, "files": {"$sum": 1}, "bytes": {"$sum": "$size"}}}
        sums = await self._files.aggregate([{"$match": NO_MARKER}, group], session=session)
        return (sums[0]["files"], sums[0]["bytes"]) if sums else (0, 0)
