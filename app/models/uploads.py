"""Open uploads: which pages an upload holds before its files are committed.

    {_id, pages: [page id], at}

An upload has a document only from its second page on; until then there is nothing to hold. `at` is
the server's time of its last progress.
"""

from __future__ import annotations

from datetime import datetime

from app.models.database import Database, Document, ObjectId, Session
from app.types import PageId

UploadId = ObjectId


def new_upload_id() -> UploadId:
    return ObjectId()


class Uploads:
    def __init__(self, database: Database) -> None:
        self._uploads = database["uploads"]

    async def create_indexes(self) -> None:
        await self._uploads.create_index([("at", 1)])

    async def hold(self, upload: UploadId, page: PageId, *, first: bool, session: Session) -> bool:
        """Note that the upload holds the page. False if the upload was ended meanwhile."""
        change = {"$addToSet": {"pages": page}, "$currentDate": {"at": True}}
        return bool(await self._uploads.update_one({"_id": upload}, change, upsert=first, session=session)) or first

    async def is_open(self, upload: UploadId, session: Session) -> bool:
        return await self._uploads.find_one({"_id": upload}, fields={"_id": 1}, session=session) is not None

    async def stale(self, before: datetime, limit: int) -> list[UploadId]:
        """Uploads without progress after `before`."""
        documents = await self._uploads.find({"at": {"$lte": before}}, fields={"_id": 1}, limit=limit)
        return [document["_id"] for document in documents]

    async def count_stale(self, before: datetime) -> int:
        return await self._uploads.count({"at": {"$lte": before}})

    async def held(self, session: Session) -> list[set[PageId]]:
        """The pages of each open upload."""
        return [set(map(PageId, document["pages"])) for document in await self._uploads.find({}, session=session)]

    async def end(
        self, upload: UploadId, session: Session, *, stale_since: datetime | None = None
    ) -> set[PageId] | None:
        """Remove the upload, if it is stale or whatever it is; return the pages that it held, or None
        if there is no such upload."""
        query: Document = {"_id": upload}
        if stale_since:
            query["at"] = {"$lte": stale_since}
        document = await self._uploads.find_one_and_delete(query, session=session)
        return set(map(PageId, document["pages"])) if document else None
