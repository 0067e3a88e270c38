"""Giving back what no file holds any more (rules R2, R5, R7).

    file deleted ── page released ──── grace ──── chunk claimed ── blobs unlinked ── document removed
                    (at once)                     (dead)

Every step may be the last one before a crash: the next run takes up what it finds. Several
collectors at once do no harm, and writers are never stopped: a chunk that was claimed is named anew
by whoever uploads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from time import monotonic

from app.faults import pause
from app.logs import get_logger
from app.models.catalog import Catalog
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.ledger import Ledger
from app.models.pages import Pages, StoredPage
from app.models.runs import Collected
from app.models.sessions import UploadSessions
from app.models.uploads import Uploads
from app.nodes.base import FOLDERS, Stored
from app.nodes.cluster import Cluster
from app.types import PAGE_CHUNKS, Page
from app.upkeep.pace import Pace, Progress
from app.upkeep.sweeper import Sweeper

log = get_logger(__name__)

_BATCH = 500
"""Documents read, claimed or removed in one call."""


class Collector:
    """`grace` and `upload_expiry` are seconds by the database's clock. Calls raise DatabaseUnavailable."""

    def __init__(self, database: Database, cluster: Cluster, grace: float, upload_expiry: float) -> None:
        self._database = database
        self._chunks = Chunks(database)
        self._pages = Pages(database)
        self._uploads = Uploads(database)
        self._sessions = UploadSessions(database)
        self._ledger = Ledger(database)
        self._catalog = Catalog(database)
        self._cluster = cluster
        self._sweeper = Sweeper(database, cluster)
        self._grace = timedelta(seconds=grace)
        self._upload_expiry = timedelta(seconds=upload_expiry)

    async def run(self, pace: Pace, progress: Progress, *, sweep: bool) -> Collected:
        """Collect everything that may be collected now; with `sweep`, also look for blobs that no
        document names, which costs a listing of every node."""
        done = Collected(swept=sweep)
        begun = monotonic()
        await self._end_uploads(done, pace)
        done.pages = await self.release_pages(pace)
        before = await self._before(self._grace)
        await self._remove_pages(before, pace)
        await self._drop_copies(before, done, pace)
        progress.stage("chunks", await self._chunks.count_unreferenced(before))
        async for dead in self._chunks.dead():
            await self._reclaim(dead, done, pace, progress)
        async for digests in self._chunks.unreferenced(before, _BATCH):
            await pause("unreferenced-seen")
            claimed = await self._chunks.claim(digests, before)
            await pause("claimed")
            await self._reclaim(claimed, done, pace, progress)
        if sweep:
            progress.stage("unnamed blobs", FOLDERS)
            for first_byte in range(FOLDERS):
                _count(await self._sweeper.sweep(first_byte), done)
                progress.advance(1)
                await pace.rest()
        done.seconds = monotonic() - begun
        return done

    async def foresee(self, progress: Progress) -> Collected:
        """What `run` would find to do, without doing it. Chunks of pages that are not released yet,
        or that abandoned uploads hold, are not counted."""
        done = Collected(swept=True)
        begun = monotonic()
        before = await self._before(self._upload_expiry)
        done.uploads = await self._uploads.count_stale(before) + await self._sessions.count_stale(before)
        done.pages = await self._pages.count_unreleased()
        done.chunks, done.bytes = await self._chunks.sum_unreferenced(await self._before(self._grace))
        progress.stage("unnamed blobs", FOLDERS)
        for first_byte in range(FOLDERS):
            _count(await self._sweeper.unnamed(first_byte), done)
            progress.advance(1)
        done.seconds = monotonic() - begun
        return done

    async def release_pages(self, pace: Pace) -> int:
        """Take back the references of all pages that nobody holds; return how many there were."""
        released = 0
        async for pages in self._pages.unreleased():
            for bundle in _bundles(_sound(pages)):
                released += await self._ledger.release_pages(bundle)
                await pause("page-released")
                await pace.rest()
        return released

    async def _before(self, age: timedelta) -> datetime:
        return await self._database.now() - age

    async def _end_uploads(self, done: Collected, pace: Pace) -> None:
        before = await self._before(self._upload_expiry)
        while sessions := await self._sessions.stale(before, _BATCH):
            for session in sessions:
                done.uploads += await self._catalog.end_session(session, before)
                await pause("upload-ended")
                await pace.rest()
        while stale := await self._uploads.stale(before, _BATCH):
            for upload in stale:
                done.uploads += await self._ledger.end_stale_upload(upload, before)
                await pause("upload-ended")
                await pace.rest()

    async def _remove_pages(self, before: datetime, pace: Pace) -> None:
        while await self._pages.remove_released(before, _BATCH):
            await pace.rest()

    async def _drop_copies(self, before: datetime, done: Collected, pace: Pace) -> None:
        async for chunks in self._chunks.abandoned(before):
            for chunk in chunks:
                if await self._chunks.drop_added(chunk.adding):
                    await pause("copy-dropped")
                    await self._cluster.unlink(chunk.adding)
                    done.copies += len(chunk.adding)
            await pace.rest()

    async def _reclaim(self, dead: Sequence[Chunk], done: Collected, pace: Pace, progress: Progress) -> None:
        """Unlink what dead chunks name, then remove those documents that still name it (rule R2)."""
        left = {blob.digest for blob in await self._cluster.unlink(blob for chunk in dead for blob in chunk.named)}
        await pause("blobs-unlinked")
        gone = [chunk for chunk in dead if chunk.digest not in left]
        done.chunks += await self._chunks.remove(gone)
        done.bytes += sum(chunk.size for chunk in gone if chunk.blobs)
        done.left += len(left)
        await pause("removed")
        progress.advance(len(dead))
        await pace.rest()


def _sound(pages: Iterable[StoredPage]) -> Iterator[Page]:
    """What the pages hold, but of those that are damaged: what they referred to is unknown."""
    for page in pages:
        try:
            yield page.unpack()
        except ValueError as error:
            log.error("damage found", kind="page", page=page.id.hex(), error=str(error))


def _bundles(pages: Iterable[Page]) -> Iterator[list[Page]]:
    """Pages that are released in one transaction: one full one, or many small ones."""
    bundle: list[Page] = []
    chunks = 0
    for page in pages:
        if bundle and chunks + len(page.chunks) > PAGE_CHUNKS:
            yield bundle
            bundle, chunks = [], 0
        bundle.append(page)
        chunks += len(page.chunks)
    if bundle:
        yield bundle


def _count(unnamed: Sequence[Stored], done: Collected) -> None:
    done.unnamed += len(unnamed)
    done.bytes += sum(stored.size for stored in unnamed)
