"""Page documents: ordered runs of chunks, shared by the files that hold the same run.

    {_id: page id, packed, refs, at}

`refs` counts the files and open uploads that hold the page, each once. A page is never changed,
so that reading one needs no session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.models.database import Database, Session
from app.types import Page, PageId


class Pages:
    """All methods raise DatabaseUnavailable outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._pages = database["pages"]

    async def read(self, page_id: PageId) -> Page | None:
        """The page, or None where there is none or it does not hold what its id says."""
        document = await self._pages.find_one({"_id": page_id}, fields={"packed": 1})
        if document is None:
            return None
        try:
            return Page.unpack(page_id, document["packed"])
        except ValueError:
            return None

    async def refs(self, page_ids: Iterable[PageId]) -> dict[PageId, int]:
        documents = await self._pages.find({"_id": {"$in": sorted(page_ids)}}, fields={"refs": 1})
        return {PageId(document["_id"]): document["refs"] for document in documents}

    async def insert(self, page: Page, refs: int, session: Session) -> None:
        await self._pages.update_one(
            {"_id": page.id, "refs": None},
            {"$set": {"packed": page.pack(), "refs": refs}, "$currentDate": {"at": True}},
            upsert=True,
            session=session,
        )

    async def refer(self, changes: Mapping[PageId, int], session: Session) -> set[PageId]:
        """Add to the references of each page; return the pages that are not stored."""
        missing = set()
        for page_id in sorted(changes):
            change = {"$inc": {"refs": changes[page_id]}, "$currentDate": {"at": True}}
            if not await self._pages.update_one({"_id": page_id}, change, session=session):
                missing.add(page_id)
        return missing

    async def release(self, page_ids: Iterable[PageId], session: Session) -> None:
        """Take one reference from each of these pages."""
        change = {"$inc": {"refs": -1}, "$currentDate": {"at": True}}
        await self._pages.update_many({"_id": {"$in": sorted(page_ids)}}, change, session=session)
