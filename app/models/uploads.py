"""Open uploads: which pages an upload holds before its files are committed.

    {_id, pages: [page id], at}

An upload has a document only from its second page on; until then there is nothing to hold. `at` is
the server's time of its last progress.
"""

from __future__ import annotations

from app.models.database import Database, ObjectId, Session
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

    async def end(self, upload: UploadId, session: Session) -> set[PageId] | None:
        """Remove the upload; return the pages that it held, or None if there is no such upload."""
        document = await self._uploads.find_one_and_delete({"_id": upload}, session=session)
        return set(map(PageId, document["pages"])) if document else None
