"""Do the documents agree with each other? Counting them anew, at one moment, in bounded memory.

The ids are cut into slices of a few hundred thousand; each slice is counted in a snapshot of its own,
so that a server that goes on working raises no false alarm, and a check may take as long as it likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set

from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database, Session
from app.models.files import Files
from app.models.pages import Pages, StoredPage
from app.models.sessions import UploadSessions
from app.models.tallies import Tallies, Tally
from app.models.uploads import Uploads
from app.types import Digest, File, Page, PageId, PageRef
from app.upkeep.findings import Finding, Kind, Report
from app.upkeep.pace import Progress

SLICE = 500_000
"""Documents counted at once: about 100 bytes of memory each."""


def slices(count: int) -> Iterator[tuple[int, int]]:
    """The first bytes of ids, from and to, of parts of at most about `SLICE` of `count` documents."""
    parts = min(256, count // SLICE + 1)
    for part in range(parts):
        yield 256 * part // parts, 256 * (part + 1) // parts - 1


class DocumentAudit:
    """All calls raise DatabaseUnavailable and SnapshotTooOld."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._files = Files(database)
        self._uploads = Uploads(database)
        self._sessions = UploadSessions(database)
        self._pages = Pages(database)
        self._chunks = Chunks(database)
        self._tallies = Tallies(database)

    async def run(self, report: Report, progress: Progress) -> None:
        """Add to the report what is wrong."""
        progress.stage("pages", await self._pages.count())
        for first, last in slices(await self._pages.count()):
            async with self._database.snapshot() as session:
                await self._audit_pages(first, last, session, report, progress)
        damaged = {finding.page for finding in report.findings if finding.page and finding.kind != "page-refs"}
        progress.stage("chunks", await self._chunks.count())
        for first, last in slices(await self._chunks.count()):
            async with self._database.snapshot() as session:
                await self._audit_chunks(first, last, damaged, session, report, progress)
        async with self._database.snapshot() as session:
            await self._audit_totals(session, report)

    async def touched(self, report: Report) -> list[File]:
        """The files that hold a page or a chunk that is missing or damaged."""
        pages = {finding.page for finding in report.findings if finding.page and finding.kind != "page-refs"}
        digests = {finding.digest for finding in report.findings if finding.digest and finding.kind != "chunk-refs"}
        if digests:
            async for some in self._pages.stream():
                pages |= {page.id for page in some if any(ref[0] in digests for ref in Page.entries(page.packed))}
        if not pages:
            return []
        return [
            file async for files in self._files.stream() for file in files if any(ref.id in pages for ref in file.pages)
        ]

    # Pages

    async def _audit_pages(self, first: int, last: int, session: Session, report: Report, progress: Progress) -> None:
        held: Counter[PageId] = Counter()
        told: dict[PageId, PageRef] = {}
        async for files in self._files.stream(session=session):
            for file in files:
                if not first:
                    _audit_file(file, report)
                refs = {ref.id: ref for ref in file.pages if first <= ref.id[0] <= last}
                held.update(refs.keys())
                told.update(refs)
        for pages in await self._uploads.held(session):
            held.update(page_id for page_id in pages if first <= page_id[0] <= last)
        async for parts in self._sessions.held(session):
            for pages in parts:
                held.update(page_id for page_id in pages if first <= page_id[0] <= last)
        async for some in self._pages.stream(first, last, session):
            for page in some:
                _audit_page(page, held.pop(page.id, 0), told.get(page.id), report)
            report.pages += len(some)
            progress.advance(len(some))
        report.findings += [Finding("page-missing", page=page_id) for page_id in held]

    # Chunks

    async def _audit_chunks(
        self,
        first: int,
        last: int,
        damaged: Set[PageId],
        session: Session,
        report: Report,
        progress: Progress,
    ) -> None:
        held: Counter[Digest] = Counter()
        sizes: dict[Digest, int] = {}
        async for pages in self._pages.stream(session=session):
            for page in pages:
                if not page.released and page.id not in damaged:
                    entries = {digest: size for digest, size in Page.entries(page.packed) if first <= digest[0] <= last}
                    held.update(entries.keys())
                    sizes.update(entries)
        async for chunks in self._chunks.stream(first, last, session):
            for chunk in chunks:
                expected = held.pop(chunk.digest, 0)
                report.findings += _audit_chunk(chunk, expected, sizes.get(chunk.digest, 0))
            report.chunks += len(chunks)
            progress.advance(len(chunks))
        report.findings += [
            Finding("chunk-missing", digest=digest, size=sizes[digest], expected=expected)
            for digest, expected in held.items()
        ]

    # Totals

    async def _audit_totals(self, session: Session, report: Report) -> None:
        true = await self._chunks.sum_referenced(session)
        true.files, true.logical = await self._files.sum(session)
        report.files = true.files
        drift = true.minus(await self._tallies.read(session))
        if drift != Tally():
            report.findings.append(Finding("totals", totals=drift))


def _audit_file(file: File, report: Report) -> None:
    if file.size != sum(page.size for page in file.pages):
        report.findings.append(Finding("file-size", file=file))


def _audit_chunk(chunk: Chunk, held: int, size: int) -> Iterator[Finding]:
    if chunk.refs != held:
        yield Finding("chunk-refs", digest=chunk.digest, size=chunk.size, drift=held - chunk.refs)
    kind: Kind | None = None
    if chunk.state == "dead":
        kind = "chunk-dead"
    elif chunk.state != "live" or len(chunk.blobs) < chunk.redundancy.needed:
        kind = "chunk-lost"
    elif chunk.size != size:
        kind = "chunk-size"
    elif chunk.lacking > 0:
        kind = "chunk-copies"
    if held and kind:
        yield Finding(kind, digest=chunk.digest, size=chunk.size)


def _audit_page(page: StoredPage, held: int, told: PageRef | None, report: Report) -> None:
    if page.refs != held:
        report.findings.append(Finding("page-refs", page=page.id, drift=held - page.refs))
    if page.released and not held:
        return
    if page.released:
        report.findings.append(Finding("page-released", page=page.id))
    try:
        content = page.unpack()
        good = not told or (content.size, len(content.chunks)) == (told.size, told.chunks)
    except ValueError:
        good = False
    if not good:
        report.findings.append(Finding("page-damaged", page=page.id))
