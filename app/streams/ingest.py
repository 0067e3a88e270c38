"""An upload, from the first body byte to the commit.

Body pieces are cut into chunks (`chunker`) in pooled memory (`buffers`); sixteen full chunks are a
batch, which is hashed in one call (`hasher`) and linked or written (`dedupe`) while the next ones
fill; its digests join the current page, and a full page is committed. The last pages of an
upload's files go into the same transaction as the files themselves, so that an upload appears
whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from app.errors import DigestMismatch, MiniS3Error, TooLarge, UploadInterrupted
from app.logs import get_logger
from app.metrics import BYTES_SAVED, BYTES_STORED, CHUNKS_LINKED, CHUNKS_NEW
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.files import new_file_id
from app.models.ledger import ChunksNotLive, Hold, Ledger
from app.models.objects import ANYHOW, Condition
from app.models.sessions import Gain, Part, PartSums, Progress, UploadSession, Writer
from app.streams.buffers import BufferPool
from app.streams.chunker import Filling, room_at
from app.streams.dedupe import Deduper
from app.streams.drafts import Batch, Draft
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader
from app.types import PAGE_CHUNKS, ChunkRef, Digest, Entry, File, Page, PageRef

log = get_logger(__name__)

T = TypeVar("T")

BATCH = 16
"""Chunks hashed, looked up and written together."""

_AT_ONCE = 2
"""Batches on their way at a time: while one waits for the database the other is at the disks."""

MOST_BUFFERS = (_AT_ONCE + 1) * BATCH
"""What one upload may hold: a batch that fills and those on their way. The last one that was stored is
kept, for a commit that finds some of it reclaimed, for as long as its memory is not asked for."""

_PAGE_AGE = 600.0
"""Seconds after which a page is committed although it is not full, so that the first chunks of a
slow upload do not wait for its last ones longer than the grace period."""

_COMMITS = 5
"""Times that a commit is tried whose chunks are reclaimed under it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The parts that every upload passes through; one set a process."""

    pool: BufferPool
    hasher: Hasher
    deduper: Deduper
    chunks: Chunks
    reader: ChunkReader
    ledger: Ledger
    max_file_size: int


@dataclass(slots=True)
class Counts:
    """What an upload cost: chunks by position, bytes of bodies and of blobs written."""

    chunks: int = 0
    new: int = 0
    received: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    files: tuple[File, ...]
    counts: Counts


class Ingest:
    """One upload: any number of files, one after the other, committed together.

    Begin a file, write its bytes, end it; `commit` in the end, or `abort`. Any call may raise
    DatabaseUnavailable, NodesUnavailable, NoSpace, UploadInterrupted; after an error only `abort`
    is left. Calls are made one at a time.
    """

    def __init__(self, stages: Stages, owner: str, expected: Digest | None = None) -> None:
        """`expected` is the digest of the only chunk; it is stored only if it is that one: `write` or `end_file`
        raises DigestMismatch where it is not."""
        self._stages = stages
        self._owner = owner
        self._expected = expected
        self._share = stages.pool.open_share()
        self._hold = Hold()
        self._drafts: list[Draft] = []
        self._tails: list[Page] = []
        self._filling: Filling | None = None
        self._filled: list[Filling] = []
        self._under_way: deque[asyncio.Task[Batch]] = deque()
        self._step: asyncio.Future[Any] | None = None
        self._kept: Batch | None = None
        self._page: list[ChunkRef] = []
        self._page_since: float | None = None
        self.counts = Counts()

    async def begin_file(self, name: str, content_type: str, offset: int = 0) -> None:
        """`offset` is where these bytes begin in the file that they are to be in: it is cut where it would be as a
        whole."""
        await self._hold_tails()
        self._drafts.append(Draft(name, content_type, room_at(offset)))

    async def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the current file; returns when there is room for more.

        Raises TooLarge as soon as the file exceeds the maximum.
        """
        draft = self._drafts[-1]
        draft.size += len(data)
        self.counts.received += len(data)
        if draft.size > self._stages.max_file_size:
            raise TooLarge(f"The file is larger than the {self._stages.max_file_size} bytes allowed here.")
        rest = memoryview(data)
        while rest:
            if self._filling is None:
                self._filling, draft.room = Filling(await self._buffer(), draft.room), 0
            rest = self._filling.fill(rest)
            if self._filling.full:
                await self._cut()
        if self._share.owes:
            # This client may be too slow to need a buffer, and so to give others back, for a long time.
            await self._submit()
            await self._collect_all()
            self._let_go()
        if self._page_since is not None and monotonic() - self._page_since > _PAGE_AGE:
            await self._collect_all()
            if self._page:
                await self._hold_page()

    async def end_file(self) -> None:
        if self._filling:
            await self._cut()
        await self._submit()
        await self._collect_all()
        if self._page:
            self._tails.append(self._close_page())

    async def commit(self, entry: Entry | None = None, condition: Condition = ANYHOW) -> Receipt:
        """Make the files visible, all of them or none; with `entry`, the only one as that object, if the condition
        holds. Raises what `Ledger.commit_files` does."""
        created_at = await self._stages.ledger.now()
        files = [
            File(
                new_file_id(),
                draft.name,
                draft.size,
                draft.content_type,
                draft.content.id,
                created_at,
                self._owner,
                tuple(draft.pages),
                entry,
            )
            for draft in self._drafts
        ]
        ledger = self._stages.ledger
        committed = await self._commit(lambda: ledger.commit_files(self._hold, files, self._tails, condition))
        return Receipt(tuple(committed), self.counts)

    async def commit_part(
        self, upload: UploadSession, number: int, sums: PartSums, writer: Writer | None = None
    ) -> Part:
        """Make the only file a part of an upload session instead. Raises NoSuchUpload, and OffsetMismatch where the
        part is to be appended and this is not the writer any more who may."""
        (draft,) = self._drafts
        now = await self._stages.ledger.now()
        return await self._put(Part(upload.id, number, draft.size, sums, now, tuple(draft.pages)), writer)

    async def commit_bundle(self, upload: UploadSession) -> Part:
        """Let an upload session hold the chunks of the only file instead. Raises NoSuchUpload."""
        (draft,) = self._drafts
        return await self._put(Part.bundle(upload.id, tuple(draft.pages), await self._stages.ledger.now()))

    async def _put(self, part: Part, writer: Writer | None = None) -> Part:
        gain = Gain(self.counts.received, self.counts.stored, self.counts.new)
        ledger, progress = self._stages.ledger, Progress(part, gain, writer)
        await self._commit(lambda: ledger.commit_part(self._hold, progress, self._tails))
        return part

    async def _commit(self, work: Callable[[], Awaitable[T]]) -> T:
        for _ in range(_COMMITS):
            try:
                outcome = await self._to_its_end(work())
                break
            except ChunksNotLive as gone:
                await self._store_again(gone.digests)
        else:
            raise _reclaimed()
        self._close()
        self._count()
        return outcome

    async def abort(self) -> None:
        """Give the upload up: no file appears, buffers are freed, held pages are released.

        Never raises; what can't be released now is left to the collector. A commit that was cancelled
        in the middle may have been done: then the files stay.
        """
        self._give_back([self._filling] if self._filling else [])
        self._give_back(self._filled)
        self._filling, self._filled = None, []
        if self._step:
            await asyncio.gather(self._step, return_exceptions=True)
        for outcome in await asyncio.gather(*self._under_way, return_exceptions=True):
            if isinstance(outcome, Batch):
                self._give_back(outcome.fillings)
        self._under_way.clear()
        self._close()
        try:
            await self._stages.ledger.end_upload(self._hold)
        except MiniS3Error as error:
            log.warning("upload left for the collector", upload=str(self._hold.upload), error=error.message)

    # From bytes to batches

    async def _buffer(self) -> memoryview:
        """Memory for the next chunk. Whoever waits for it holds none that could be freed first."""
        while (buffer := self._share.take_nowait()) is None:
            self._let_go()
            if self._filled:
                await self._submit()
            elif self._under_way:
                await self._collect()
            else:
                return await self._share.take()
        return buffer

    async def _cut(self) -> None:
        if self._filling:
            self._filled.append(self._filling)
            self._filling = None
        if len(self._filled) == BATCH:
            await self._submit()

    async def _submit(self) -> None:
        """Send the full chunks on their way, as soon as not too many are."""
        if self._filled:
            while len(self._under_way) >= _AT_ONCE:
                await self._collect()
            if self._page_since is None:
                self._page_since = monotonic()
            batch, self._filled = self._filled, []
            self._under_way.append(asyncio.create_task(self._store(batch)))

    async def _store(self, fillings: Sequence[Filling]) -> Batch:
        """Hash and store a batch. It is never cancelled, for threads read the buffers."""
        try:
            bodies = [filling.chunk for filling in fillings]
            digests = await self._stages.hasher.digests(bodies)
            if self._expected and digests != [self._expected]:
                raise DigestMismatch("The bytes are not those of the chunk with this digest.")
            chunks = dict(zip(digests, bodies, strict=True))
            written = await self._stages.deduper.store(chunks)
        except BaseException:
            self._give_back(fillings)
            raise
        refs = [ChunkRef(digest, len(body)) for digest, body in zip(digests, bodies, strict=True)]
        return Batch(fillings, refs, chunks, written)

    async def _collect_all(self) -> None:
        while self._under_way:
            await self._collect()

    async def _collect(self) -> None:
        """Take the oldest batch that is under way into the page; a full page is committed."""
        batch = await asyncio.shield(self._under_way[0])
        self._under_way.popleft()
        self._let_go()
        self._kept = batch
        self.counts.chunks += len(batch.refs)
        self.counts.new += len(batch.written)
        self.counts.stored += sum(len(batch.chunks[digest]) for digest in batch.written)
        for ref in batch.refs:
            if self._page_since is None:
                self._page_since = monotonic()
            self._page.append(ref)
            self._drafts[-1].content.add(ref.digest)
            if len(self._page) == PAGE_CHUNKS:
                await self._hold_page()

    # From pages to the commit

    async def _hold_page(self) -> None:
        await self._hold_stored(self._close_page())

    def _close_page(self) -> Page:
        page = Page.of(self._page)
        self._drafts[-1].pages.append(PageRef(page.id, page.size, len(page.chunks)))
        self._page, self._page_since = [], None
        return page

    async def _hold_tails(self) -> None:
        """Another file follows: the last pages of the earlier ones can't wait for it."""
        for page in self._tails:
            await self._hold_stored(page)
        self._tails = []

    async def _hold_stored(self, page: Page) -> None:
        for _ in range(_COMMITS):
            try:
                return await self._to_its_end(self._stages.ledger.hold_page(self._hold, page))
            except ChunksNotLive as gone:
                await self._store_again(gone.digests)
        raise _reclaimed()

    async def _store_again(self, digests: set[Digest]) -> None:
        """Rule R4: a chunk that was not live at the commit is stored again, from the bytes that are
        still at hand or from its dying blob. Raises UploadInterrupted where neither is left."""
        log.info("chunks reclaimed before the commit", chunks=len(digests))
        kept = self._kept.chunks if self._kept else {}
        lost = digests - kept.keys()
        found = await self._stages.chunks.find(lost)
        for digest in lost:
            data = await self._salvage(found.get(digest))
            if data is None:
                raise _reclaimed()
            await self._to_its_end(self._stages.deduper.store_again({digest: data}))
        await self._to_its_end(self._stages.deduper.store_again({digest: kept[digest] for digest in digests - lost}))

    async def _salvage(self, chunk: Chunk | None) -> memoryview | None:
        """The bytes of a chunk that is being removed, if a blob of it can still be read."""
        return (await self._stages.reader.inspect(chunk)).data if chunk else None

    def _count(self) -> None:
        CHUNKS_NEW.inc(self.counts.new)
        CHUNKS_LINKED.inc(self.counts.chunks - self.counts.new)
        BYTES_STORED.inc(self.counts.stored)
        BYTES_SAVED.inc(self.counts.received - self.counts.stored)

    async def _to_its_end(self, work: Awaitable[T]) -> T:
        """Await what must not be cancelled with the upload: a transaction that holds pages, or a write
        whose threads read buffers. `abort` waits for it."""
        self._step = asyncio.ensure_future(work)
        return await asyncio.shield(self._step)

    # Memory

    def _give_back(self, fillings: Sequence[Filling]) -> None:
        self._share.give_back([filling.buffer for filling in fillings])

    def _let_go(self) -> None:
        """The last batch need not be kept any longer."""
        if self._kept:
            self._give_back(self._kept.fillings)
            self._kept = None

    def _close(self) -> None:
        self._let_go()
        self._share.close()


@asynccontextmanager
async def open_ingest(stages: Stages, owner: str, expected: Digest | None = None) -> AsyncIterator[Ingest]:
    """An upload to write into; left by an exception, it is given up. `expected` as `Ingest` has it."""
    ingest = Ingest(stages, owner, expected)
    try:
        yield ingest
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(ingest.abort()))
        raise


def _reclaimed() -> UploadInterrupted:
    return UploadInterrupted("Chunks of this upload were reclaimed before it ended. Send it again.")
