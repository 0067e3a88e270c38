"""Which files hold a chunk: pages are found by the beginnings of their chunks' digests, files by their pages."""

from __future__ import annotations

from contextlib import suppress

from app.models.database import Database, Document
from app.models.files import Whose
from app.models.pages import prefix_of
from app.types import Digest, Page, PageId

_LOOKED_AT = 16
"""Pages that are looked at for one chunk: others may have it in any number of theirs."""


class Holdings:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._pages = database["pages"]

    async def page_with(self, digest: Digest, whose: Whose) -> Page | None:
        """A page that lists the chunk, and that such a file holds; None where there is none among the oldest few that
        list it. One call, whose cost does not grow with the number of files or pages."""
        held: Document = {
            "from": "files",
            "localField": "_id",
            "foreignField": "pages.id",
            "pipeline": [{"$match": whose.condition}, {"$limit": 1}, {"$project": {"_id": 1}}],
            "as": "files",
        }
        found = await self._pages.aggregate(
            [
                {"$match": {"prefixes": prefix_of(digest), "released": None}},
                {"$limit": _LOOKED_AT},
                {"$project": {"packed": 1}},
                {"$lookup": held},
                {"$match": {"files": {"$ne": []}}},
                {"$limit": 1},
            ]
        )
        for document in found:
            with suppress(ValueError):
                page = Page.unpack(PageId(document["_id"]), document["packed"])
                # Two digests may begin alike.
                return page if any(ref.digest == digest for ref in page.chunks) else None
        return None
