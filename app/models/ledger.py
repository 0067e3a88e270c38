"""The transactions of the store, each a few statements long: who holds which page and chunk.

They keep two sums exact (rule R4): `chunk.refs` is the number of pages that hold the chunk, and
`page.refs` the number of files and open uploads that hold the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.errors import MiniS3Error, UploadInterrupted
from app.faults import passed, pause
from app.models.chunks import Chunks, nodes_of
from app.models.database import Database, Session
from app.models.files import Files
from app.models.pages import Pages
from app.models.tallies import Tallies, Tally
from app.models.uploads import UploadId, Uploads, new_upload_id
from app.types import Digest, File, Page, PageId


class ChunksNotLive(MiniS3Error):
    """A commit was refused because these chunks are not live; they must be stored again."""

    code = "chunks-not-live"

    def __init__(self, digests: set[Digest]) -> None:
        super().__init__(f"{len(digests)} chunks are not live")
        self.digests = digests


@dataclass(slots=True)
class Hold:
    """The pages that one open upload holds in the database so far."""

    upload: UploadId = field(default_factory=new_upload_id)
    pages: set[PageId] = field(default_factory=set)


class Ledger:
    """All methods raise DatabaseUnavailable; those that commit pages raise ChunksNotLive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunks = Chunks(database)
        self._pages = Pages(database)
        self._files = Files(database)
        self._uploads = Uploads(database)
        self._tallies = Tallies(database)

    async def now(self) -> datetime:
        """The time by the database's clock, to the millisecond: the same for all gateways."""
        return await self._database.now()

    async def hold_page(self, hold: Hold, page: Page) -> None:
        """Commit a page of an upload that goes on. Raises UploadInterrupted if the upload was ended."""
        if page.id in hold.pages:
            return

        async def work(session: Session) -> None:
            tally = Tally()
            await self._refer({page.id: 1}, {page.id: page}, tally, session)
            if not await self._uploads.hold(hold.upload, page.id, first=not hold.pages, session=session):
                raise _ended()
            await self._tallies.record(tally, session)

        await self._database.transaction(work)
        hold.pages.add(page.id)

    async def commit_files(self, hold: Hold, files: Sequence[File], tails: Sequence[Page]) -> None:
        """Commit files with their last pages, all or none, and end the upload that held the others.

        `tails` are the pages that the upload does not hold yet. Raises UploadInterrupted if the
        upload was ended meanwhile.
        """
        held_by = Counter(page for file in files for page in {ref.id for ref in file.pages})
        held_by.subtract(hold.pages)
        stored = {page.id: page for page in tails}

        await pause("commit-begun")

        async def work(session: Session) -> None:
            tally = Tally(files=len(files), logical=sum(file.size for file in files))
            if hold.pages and await self._uploads.end(hold.upload, session) is None:
                raise _ended()
            await self._refer({page: refs for page, refs in held_by.items() if refs}, stored, tally, session)
            passed("commit-half-done")
            await self._files.insert(files, session)
            await self._tallies.record(tally, session)

        await self._database.transaction(work)
        await pause("committed")

    async def end_upload(self, hold: Hold) -> None:
        """Give up an upload: what it held is released at once."""

        async def work(session: Session) -> None:
            pages = await self._uploads.end(hold.upload, session)
            if pages:
                await self._pages.release(pages, session)

        if hold.pages:
            await self._database.transaction(work)

    async def end_stale_upload(self, upload: UploadId, since: datetime) -> bool:
        """End an upload that made no progress since then; False if it did meanwhile, or ended."""

        async def work(session: Session) -> bool:
            pages = await self._uploads.end(upload, session, stale_since=since)
            if pages:
                await self._pages.release(pages, session)
            return pages is not None

        return await self._database.transaction(work)

    async def delete_file(self, file_id: str) -> File | None:
        """Remove a file and release its pages; None if there is no such file."""

        async def work(session: Session) -> File | None:
            file = await self._files.remove(file_id, session)
            if file:
                await self._pages.release({page.id for page in file.pages}, session)
                await self._tallies.record(Tally(files=-1, logical=-file.size), session)
            return file

        return await self._database.transaction(work)

    async def release_pages(self, pages: Sequence[Page]) -> int:
        """Take back the references to chunks of those pages that nobody holds; return how many there were."""

        async def work(session: Session) -> int:
            free = await self._pages.mark_released((page.id for page in pages), session)
            if not free:
                return 0
            held: Counter[Digest] = Counter()
            for page in pages:
                if page.id in free:
                    held.update({chunk.digest for chunk in page.chunks})
            await self._chunks.release(held, session)
            passed("page-half-released")
            tally = Tally()
            for chunk in (await self._chunks.find(held, session)).values():
                if not chunk.refs:
                    tally.count_chunk(chunk.size, nodes_of(chunk), -1)
            await self._tallies.record(tally, session)
            return len(free)

        return await self._database.transaction(work)

    async def _refer(
        self, changes: Mapping[PageId, int], new: Mapping[PageId, Page], tally: Tally, session: Session
    ) -> None:
        for page_id in sorted(await self._pages.refer(changes, session)):
            await self._link_chunks(new[page_id], tally, session)
            await self._pages.insert(new[page_id], changes[page_id], session)

    async def _link_chunks(self, page: Page, tally: Tally, session: Session) -> None:
        digests = {chunk.digest for chunk in page.chunks}
        found = await self._chunks.find(digests, session)
        live = {digest for digest, chunk in found.items() if chunk.state == "live"}
        if await self._chunks.refer(digests, session) != len(digests):
            raise ChunksNotLive(digests - live)
        for chunk in found.values():
            if not chunk.refs:
                tally.count_chunk(chunk.size, nodes_of(chunk))


def _ended() -> UploadInterrupted:
    return UploadInterrupted("The upload was given up meanwhile, for want of progress. Send it again.")
