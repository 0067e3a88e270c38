"""The calls on a collection that the models use."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from app.models.database.errors import translated

Document = dict[str, Any]
Session = AsyncIOMotorClientSession

_DUPLICATE_KEY = 11000


def between(first: int, last: int) -> Document:
    """A condition on a SHA-256: its first byte is `first` to `last`.

    The bounds have 32 bytes, for BSON orders binary data by length before it looks at the bytes.
    """
    return {"$gte": bytes([first]).ljust(32, b"\0"), "$lte": bytes([last]).ljust(32, b"\xff")}


def begins_with(prefix: str) -> Document:
    """A condition on a string: it begins with `prefix`. Exact bounds in an index, and any character goes."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following <= sys.maxunicode:
            # Surrogates are no characters and stand in no name.
            following = 0xE000 if following == 0xD800 else following
            return {"$gte": prefix, "$lt": prefix[:at] + chr(following)}
    return {"$gte": prefix, "$type": "string"}


def _plan(query: Document) -> Document:
    """Documents that are asked for by their ids are found by these, whatever else they must be. Left to
    itself, the server may go through an index that fits the other conditions, and all of it each time."""
    return {"hint": [("_id", 1)]} if "_id" in query and len(query) > 1 else {}


class Collection:
    """The calls that the models use. Each raises DatabaseUnavailable, and DuplicateKey on inserts."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def find_one(
        self, query: Document, *, fields: Document | None = None, session: Session | None = None
    ) -> Document | None:
        with translated(session):
            return cast("Document | None", await self._collection.find_one(query, fields, session=session))

    async def find(
        self,
        query: Document,
        *,
        fields: Document | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        index: Sequence[tuple[str, int]] | None = None,
        session: Session | None = None,
    ) -> list[Document]:
        """`index` is the one to go by; without it the server chooses."""
        plan = _plan(query) if index is None else {"hint": index}
        with translated(session):
            cursor = self._collection.find(query, fields, sort=sort, limit=limit, session=session, **plan)
            return cast("list[Document]", await cursor.to_list(None))

    async def stream(
        self,
        query: Document,
        *,
        fields: Document | None = None,
        sort: Sequence[tuple[str, int]] | None = None,
        batch: int = 1000,
        session: Session | None = None,
    ) -> AsyncIterator[list[Document]]:
        """The documents in lists of at most `batch`, read as they are asked for."""
        cursor = self._collection.find(query, fields, sort=sort, batch_size=batch, session=session, **_plan(query))
        try:
            while True:
                with translated():
                    documents = await cursor.to_list(batch)
                if not documents:
                    return
                yield documents
        finally:
            await cursor.close()

    async def aggregate(self, pipeline: Sequence[Document], *, session: Session | None = None) -> list[Document]:
        with translated(session):
            cursor = self._collection.aggregate(pipeline, session=session)
            return cast("list[Document]", await cursor.to_list(None))

    async def estimated_count(self) -> int:
        with translated():
            return cast("int", await self._collection.estimated_document_count())

    async def count(self, query: Document) -> int:
        with translated():
            return cast("int", await self._collection.count_documents(query))

    async def insert_one(self, document: Document, *, session: Session | None = None) -> None:
        with translated(session):
            await self._collection.insert_one(document, session=session)

    async def insert_many(self, documents: Sequence[Document], *, session: Session | None = None) -> None:
        with translated(session):
            await self._collection.insert_many(documents, session=session)

    async def update_one(
        self,
        query: Document,
        change: Document | Sequence[Document],
        *,
        upsert: bool = False,
        session: Session | None = None,
    ) -> int:
        """How many documents matched: 0 or 1."""
        with translated(session):
            result = await self._collection.update_one(query, change, upsert=upsert, session=session)
            return cast("int", result.matched_count)

    async def update_many(self, query: Document, change: Document, *, session: Session | None = None) -> int:
        """How many documents matched."""
        with translated(session):
            result = await self._collection.update_many(query, change, session=session, **_plan(query))
            return cast("int", result.matched_count)

    async def delete_many(self, query: Document, *, session: Session | None = None) -> int:
        """How many documents were deleted."""
        with translated(session):
            result = await self._collection.delete_many(query, session=session, **_plan(query))
            return cast("int", result.deleted_count)

    async def find_one_and_delete(self, query: Document, *, session: Session | None = None) -> Document | None:
        with translated(session):
            return cast("Document | None", await self._collection.find_one_and_delete(query, session=session))

    async def find_one_and_update(
        self, query: Document, change: Document, *, session: Session | None = None
    ) -> Document | None:
        """The document as it was before the change."""
        with translated(session):
            return cast("Document | None", await self._collection.find_one_and_update(query, change, session=session))

    async def bulk_update(self, operations: Sequence[UpdateOne], *, session: Session | None = None) -> int:
        """Run all operations, in no order; return how many upserted or matched a document.

        An upsert that meets an existing document of the same id counts as not matched. In a
        transaction it makes all of it be tried again.
        """
        if not operations:
            return 0
        with translated(session):
            try:
                result = await self._collection.bulk_write(operations, ordered=False, session=session)
            except BulkWriteError as error:
                details = error.details or {}
                duplicates = all(problem["code"] == _DUPLICATE_KEY for problem in details.get("writeErrors", []))
                if not duplicates or details.get("writeConcernErrors"):
                    raise
                if session is not None:
                    raise DuplicateKeyError(str(error), _DUPLICATE_KEY, details) from error
                return cast("int", details["nUpserted"] + details["nMatched"])
            return cast("int", result.upserted_count + result.matched_count)

    async def create_index(self, keys: Sequence[tuple[str, int]], **options: Any) -> None:
        with translated():
            await self._collection.create_index(keys, **options)
