"""Page documents: ordered runs of chunks, shared by the files that hold the same run.

    {_id: page id, packed, prefixes, refs, released, at}

`refs` counts the files and open uploads that hold the page, each once. A page that nobody holds is
released: its references to chunks are taken back, and `released` says so. It still stands for a
while, so that whoever is reading a deleted file gets to its end. `packed` never changes, so that
reading it needs no session. `prefixes` are the beginnings of its chunks' digests, by which it is found (see
`holdings`).
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from app.gathering import Gathered
from app.models.database import Database, Document, Session, UpdateOne, between
from app.types import Digest, Page, PageId

_TOGETHER = 32
"""Pages read in one query for several callers: up to 36 KiB each."""

_PREFIX = struct.Struct(">q28x")
"""Of a packed entry, the first eight bytes as a number: what stands in the index for the digest."""


def prefix_of(digest: Digest) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)


def prefixes_in(packed: bytes) -> list[int]:
    """Those of the entries that a page packs."""
    return sorted({prefix for (prefix,) in _PREFIX.iter_unpack(packed)})


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page's document as it is. `packed` may be damaged."""

    id: PageId
    packed: bytes
    refs: int
    released: bool

    @classmethod
    def read(cls, document: Document) -> StoredPage:
        return cls(PageId(document["_id"]), document["packed"], document["refs"], document.get("released") is not None)

    def unpack(self) -> Page:
        """Raises ValueError where the document does not hold what its id says."""
        return Page.unpack(self.id, self.packed)


class Pages:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._pages = database["pages"]
        self._readings = Gathered(self._read_together, most=_TOGETHER)

    async def create_indexes(self) -> None:
        nobody = {"partialFilterExpression": {"refs": 0}, "name": "held by nobody"}
        await self._pages.create_index([("released", 1), ("at", 1)], **nobody)
        await self._pages.create_index([("prefixes", 1)])

    async def read(self, page_id: PageId) -> Page | None:
        """The page, or None where there is none or it does not hold what its id says."""
        return await self._readings(page_id)

    async def _read_together(self, page_ids: Sequence[PageId]) -> list[Page | None]:
        documents = await self._pages.find({"_id": {"$in": sorted(set(page_ids))}}, fields={"packed": 1})
        pages: dict[PageId, Page] = {}
        for document in documents:
            page_id = PageId(document["_id"])
            with suppress(ValueError):
                pages[page_id] = Page.unpack(page_id, document["packed"])
        return [pages.get(page_id) for page_id in page_ids]

    async def packed(self, page_ids: Iterable[PageId], session: Session) -> dict[PageId, bytes]:
        """What the pages that there are pack, not verified."""
        documents = await self._pages.find({"_id": {"$in": sorted(page_ids)}}, fields={"packed": 1}, session=session)
        return {PageId(document["_id"]): document["packed"] for document in documents}

    async def refs(self, page_ids: Iterable[PageId]) -> dict[PageId, int]:
        documents = await self._pages.find({"_id": {"$in": sorted(page_ids)}}, fields={"refs": 1})
        return {PageId(document["_id"]): document["refs"] for document in documents}

    async def stream(
        self, first: int = 0, last: int = 255, session: Session | None = None
    ) -> AsyncIterator[list[StoredPage]]:
        """All pages whose ids begin with the bytes `first` to `last`, in lists, by id."""
        query: Document = {"_id": between(first, last)}
        async for documents in self._pages.stream(query, sort=[("_id", 1)], batch=100, session=session):
            yield list(map(StoredPage.read, documents))

    async def count(self) -> int:
        """About how many documents there are."""
        return await self._pages.estimated_count()

    async def add_prefixes(self) -> None:
        """To pages that an earlier version wrote. What a damaged one would be found by is left out."""
        async for documents in self._pages.stream({"prefixes": None}, fields={"packed": 1}, batch=100):
            await self._pages.bulk_update(
                [
                    UpdateOne({"_id": one["_id"]}, {"$set": {"prefixes": prefixes_in(_whole(one["packed"]))}})
                    for one in documents
                ]
            )

    # Inside a transaction of the ledger

    async def stored(self, page_ids: Iterable[PageId], session: Session) -> set[PageId]:
        """Those of the pages that are stored and hold their chunks."""
        query = {"_id": {"$in": sorted(page_ids)}, "released": None}
        documents = await self._pages.find(query, fields={"_id": 1}, session=session)
        return {PageId(document["_id"]) for document in documents}

    async def insert(self, pages: Iterable[tuple[Page, int]], session: Session) -> None:
        """Store pages that are not there, or take back to use those that were released; each with
        so many references."""
        await self._pages.bulk_update(
            [
                UpdateOne(
                    {"_id": page.id, "$or": [{"refs": None}, {"released": True}]},
                    {
                        "$set": {"packed": (packed := page.pack()), "prefixes": prefixes_in(packed), "refs": refs},
                        "$unset": {"released": ""},
                        "$currentDate": {"at": True},
                    },
                    upsert=True,
                )
                for page, refs in pages
            ],
            session=session,
        )

    async def refer(self, changes: Mapping[PageId, int], session: Session) -> int:
        """Add to the references of each page that is stored; return how many were."""
        return await self._pages.bulk_update(
            [
                UpdateOne({"_id": page_id, "released": None}, {"$inc": {"refs": refs}, "$currentDate": {"at": True}})
                for page_id, refs in changes.items()
            ],
            session=session,
        )

    async def release(self, page_ids: Iterable[PageId], session: Session) -> None:
        """Take one reference from each of these pages."""
        change = {"$inc": {"refs": -1}, "$currentDate": {"at": True}}
        await self._pages.update_many({"_id": {"$in": sorted(page_ids)}}, change, session=session)

    async def mark_released(self, page_ids: Iterable[PageId], session: Session) -> set[PageId]:
        """Release pages; return those of them that nobody held, and that were not released before."""
        query = {"_id": {"$in": sorted(page_ids)}, "refs": 0, "released": None}
        free = {
            PageId(document["_id"]) for document in await self._pages.find(query, fields={"_id": 1}, session=session)
        }
        change = {"$set": {"released": True}, "$currentDate": {"at": True}}
        await self._pages.update_many({"_id": {"$in": sorted(free)}}, change, session=session)
        return free

    async def adjust(self, page_id: PageId, refs: int, session: Session) -> bool:
        """Add to the count of references, to mend it. False if the page is released, or not there."""
        query = {"_id": page_id, "released": None}
        return bool(await self._pages.update_one(query, {"$inc": {"refs": refs}}, session=session))

    # The collector

    async def unreleased(self) -> AsyncIterator[list[StoredPage]]:
        """Pages that nobody holds, but that still hold chunks, in lists."""
        async for documents in self._pages.stream({"refs": 0, "released": None}):
            yield list(map(StoredPage.read, documents))

    async def count_unreleased(self) -> int:
        return await self._pages.count({"refs": 0, "released": None})

    async def remove_released(self, before: datetime, limit: int) -> int:
        """Remove up to `limit` pages that were released by that moment; return how many."""
        query = {"refs": 0, "released": True, "at": {"$lte": before}}
        documents = await self._pages.find(query, fields={"_id": 1}, limit=limit)
        query["_id"] = {"$in": [document["_id"] for document in documents]}
        return await self._pages.delete_many(query) if documents else 0


def _whole(packed: bytes) -> bytes:
    """Without an entry that is incomplete."""
    return packed[: len(packed) // Page.ENTRY * Page.ENTRY]
