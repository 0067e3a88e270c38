"""The transactions of the store, each a few statements long: who holds which page and chunk.

They keep two sums exact (rule R4): `chunk.refs` is the number of pages that hold the chunk, and
`page.refs` the number of files and open uploads that hold the page. And no chunk comes to be held that
has a blob on a node which was removed, or is about to be (see `nodes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from app.errors import Conflict, MiniS3Error, NoSuchUpload, UploadInterrupted
from app.faults import passed, pause
from app.gathering import Gathered
from app.models.buckets import Bucket, Buckets
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database, Session
from app.models.files import Files
from app.models.nodes import Nodes, Use
from app.models.objects import ANYHOW, Arrival, Condition, Objects, Version, bucket_for
from app.models.pages import Pages
from app.models.sessions import Progress, SessionId, UploadSessions, holders
from app.models.tallies import Tallies, Tally
from app.models.uploads import UploadId, Uploads, new_upload_id
from app.types import Digest, Entry, File, NodeId, Page, PageId


class ChunksNotLive(MiniS3Error):
    """A commit was refused because these chunks are not live, or not safe where they are; they must be
    stored again."""

    code = "chunks-not-live"

    def __init__(self, digests: set[Digest]) -> None:
        super().__init__(f"{len(digests)} chunks are not live")
        self.digests = digests


@dataclass(slots=True)
class Hold:
    """The pages that one open upload holds in the database so far."""

    upload: UploadId = field(default_factory=new_upload_id)
    pages: set[PageId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Commit:
    """What one upload wants to be committed; `completes` is the session that becomes its only file."""

    hold: Hold
    files: Sequence[File]
    tails: Sequence[Page]
    condition: Condition = ANYHOW
    progress: Progress | None = None
    completes: SessionId | None = None

    @property
    def changes(self) -> Counter[PageId]:
        """What is added to the references of each page: one for each file, or part, less what the upload held."""
        changes = Counter(page for file in self.files for page in {ref.id for ref in file.pages})
        changes.update(self._of_part)
        changes.subtract(self.hold.pages)
        return changes

    @property
    def borrowed(self) -> set[PageId]:
        """Pages that the upload brings not, but takes from another file."""
        used = {ref.id for file in self.files for ref in file.pages} | self._of_part
        return used - self.hold.pages - {page.id for page in self.tails}

    @property
    def _of_part(self) -> set[PageId]:
        return self.progress.part.held if self.progress else set()

    @property
    def entries(self) -> list[Entry]:
        """Of its files, those that are objects."""
        return [file.entry for file in self.files if file.entry]

    @property
    def places(self) -> list[tuple[str, str]]:
        """Where its objects are to be."""
        return [(entry.bucket, entry.key) for entry in self.entries]

    @property
    def weight(self) -> int:
        """Documents that it concerns, about."""
        return len(self.files) + sum(len(page.chunks) for page in self.tails)


@dataclass(frozen=True, slots=True)
class _Links:
    """Pages that are not stored yet, or hold no chunks any more, the chunks in them that there are, and
    those of their nodes that the store has."""

    new: Mapping[PageId, Page]
    found: Mapping[Digest, Chunk]
    nodes: Mapping[NodeId, Use]

    def refusal(self, commit: _Commit) -> MiniS3Error | None:
        lacking = self.not_live(commit.tails)
        return ChunksNotLive(lacking) if lacking else None

    def not_live(self, pages: Iterable[Page]) -> set[Digest]:
        """The chunks that these pages can't be linked to."""
        wanted = {ref.digest for page in pages if page.id in self.new for ref in page.chunks}
        return {digest for digest in wanted if not self._may_link(self.found.get(digest))}

    def _may_link(self, chunk: Chunk | None) -> bool:
        """One that nobody holds yet must be on nodes that stay: nobody looks for it there any more. Of one
        that is held a node may have been lost; it is stored again when too little is left of it."""
        if chunk is None or chunk.state != "live":
            return False
        if chunk.refs:
            return sum(node in self.nodes for node in chunk.nodes) >= chunk.redundancy.needed
        return all(self.nodes.get(node, "removing") != "removing" for node in chunk.nodes)


class SourceGone(MiniS3Error):
    """What was to be copied is not there any more."""

    code = "source-gone"


class _Crossed(MiniS3Error):
    """Another commit of the same transaction puts the same object: this one comes after it."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What objects are put into: the buckets that there are, the newest version of each object, and those of the
    borrowed pages that are stored."""

    buckets: Mapping[str, Bucket]
    present: Mapping[tuple[str, str], Version]
    borrowed: Set[PageId]
    _taken: set[tuple[str, str]] = field(default_factory=set)

    def refusal(self, commit: _Commit) -> MiniS3Error | None:
        """Why an upload can't be committed; if it can, its places are taken."""
        try:
            for entry in commit.entries:
                bucket_for(entry, self.buckets)
                commit.condition.check(entry.key, self.present.get((entry.bucket, entry.key)))
        except MiniS3Error as error:
            return error
        if not commit.borrowed <= self.borrowed:
            return SourceGone("What was to be copied was deleted meanwhile.")
        if not self._taken.isdisjoint(commit.places):
            return _Crossed("The object is being put by another one.")
        self._taken.update(commit.places)
        return None


_TOGETHER = 1024
"""Documents that the commits of one transaction concern, unless a single one concerns more."""


class Ledger:
    """All methods raise DatabaseUnavailable; those that commit pages raise ChunksNotLive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunks = Chunks(database)
        self._pages = Pages(database)
        self._files = Files(database)
        self._uploads = Uploads(database)
        self._objects = Objects(database)
        self._buckets = Buckets(database)
        self._sessions = UploadSessions(database)
        self._nodes = Nodes(database)
        self._tallies = Tallies(database)
        self._commits = Gathered(self._commit_together, most=_TOGETHER, weigh=lambda commit: commit.weight)

    async def now(self) -> datetime:
        """The time by the database's clock, to the millisecond: the same for all gateways."""
        return await self._database.now()

    async def hold_page(self, hold: Hold, page: Page) -> None:
        """Commit a page of an upload that goes on. Raises UploadInterrupted if the upload was ended."""
        if page.id in hold.pages:
            return

        async def work(session: Session) -> None:
            tally = Tally()
            links = await self._look([page], session)
            if lacking := links.not_live([page]):
                raise ChunksNotLive(lacking)
            await self._refer({page.id: 1}, links, tally, session)
            if not await self._uploads.hold(hold.upload, page.id, first=not hold.pages, session=session):
                raise _ended()
            await self._tallies.record(tally, session)

        await self._database.transaction(work)
        hold.pages.add(page.id)

    async def commit_files(
        self,
        hold: Hold,
        files: Sequence[File],
        tails: Sequence[Page],
        condition: Condition = ANYHOW,
        completes: SessionId | None = None,
    ) -> Sequence[File]:
        """Commit files with their last pages, all or none, and end the upload that held the others; the files as
        they are then.

        `tails` are the pages that the upload does not hold yet. Uploads that are committed at the same
        time go into one transaction, each as if it were alone. Raises UploadInterrupted if the upload
        was ended meanwhile; for objects NoSuchBucket, what the condition raises, ObjectLocked, NotLockable, and
        SourceGone where pages are of a file that was deleted. An upload session that it completes gives up all its
        parts; raises NoSuchUpload where it is not open any more.
        """
        await pause("commit-begun")
        committed = await self._committed(_Commit(hold, files, tails, condition, completes=completes))
        await pause("committed")
        return committed

    async def commit_part(self, hold: Hold, progress: Progress, tails: Sequence[Page]) -> None:
        """As `commit_files`, for a part of an upload session. Raises NoSuchUpload, SourceGone, and OffsetMismatch where
        somebody else appends to it."""
        await pause("part-begun")
        await self._committed(_Commit(hold, (), tails, progress=progress))
        await pause("part-committed")

    async def merge_parts(self, progress: Progress, pages: Sequence[Page]) -> bool:
        """Let a part stand for several, with other pages of the same chunks. False where that can't be done, for they
        have changed meanwhile: in a transaction of its own, so that nothing else can have come between."""
        commit = _Commit(Hold(), (), pages, progress=progress)
        (outcome,) = await self._database.transaction(lambda session: self._commit([commit], session))
        return not isinstance(outcome, MiniS3Error)

    async def _committed(self, commit: _Commit) -> Sequence[File]:
        while True:
            with suppress(_Crossed):
                return await self._commits(commit)

    async def _commit_together(self, commits: Sequence[_Commit]) -> list[Sequence[File] | MiniS3Error]:
        return await self._database.transaction(lambda session: self._commit(commits, session))

    async def _commit(self, commits: Sequence[_Commit], session: Session) -> list[Sequence[File] | MiniS3Error]:
        """Commit all that can be; say of each of the others why not."""
        links = await self._look(chain.from_iterable(commit.tails for commit in commits), session)
        scene = await self._scene(commits, session)
        outcomes: list[Sequence[File] | MiniS3Error] = []
        accepted: list[_Commit] = []
        arrivals: list[Arrival] = []
        for commit in commits:
            refusal = links.refusal(commit) or scene.refusal(commit) or await self._ended(commit, session)
            if refusal:
                outcomes.append(refusal)
                continue
            arriving = [await self._arrival(file, scene, session) for file in commit.files]
            outcomes.append([arrival.file for arrival in arriving])
            accepted.append(commit)
            arrivals += arriving
        if accepted:
            await self._carry_out(accepted, arrivals, links, session)
        return outcomes

    async def _scene(self, commits: Sequence[_Commit], session: Session) -> _Scene:
        places = {place for commit in commits for place in commit.places}
        buckets = await self._buckets.hold({bucket for bucket, _ in places if bucket}, session)
        present = await self._objects.present(places, buckets, session) if places else {}
        borrowed = set().union(*(commit.borrowed for commit in commits))
        return _Scene(buckets, present, await self._pages.stored(borrowed, session) if borrowed else set())

    async def _ended(self, commit: _Commit, session: Session) -> MiniS3Error | None:
        """Whether an upload was ended meanwhile; if not, it has ended now."""
        held = bool(commit.hold.pages)
        if held and not await self._uploads.is_open(commit.hold.upload, session):
            return _ended()
        if commit.progress:
            try:
                await self._sessions.advance(commit.progress, session)
            except (NoSuchUpload, Conflict) as error:
                return error
        if commit.completes and not await self._sessions.finish(commit.completes, commit.files[0].id, session):
            return NoSuchUpload("There is no such upload any more: it was completed, given up, or it expired.")
        if held:
            await self._uploads.end(commit.hold.upload, session)
        return None

    async def _arrival(self, file: File, scene: _Scene, session: Session) -> Arrival:
        if not file.entry:
            return Arrival(file)
        place = (file.entry.bucket, file.entry.key)
        bucket = scene.buckets.get(file.entry.bucket)
        return await self._objects.make_way(file, file.entry, scene.present.get(place), bucket, session)

    async def _carry_out(
        self, commits: Sequence[_Commit], arrivals: Sequence[Arrival], links: _Links, session: Session
    ) -> None:
        gone = [version.file for arrival in arrivals for version in arrival.gone if version.file]
        files = [arrival.file for arrival in arrivals]
        tally = Tally(len(files) - len(gone), sum(file.size for file in files) - sum(file.size for file in gone))
        changes: Counter[PageId] = Counter()
        for commit in commits:
            changes.update(commit.changes)
        for file in gone:
            changes.subtract({ref.id for ref in file.pages})
        for commit in commits:
            if commit.progress:
                changes.subtract(holders(await self._sessions.put_part(commit.progress, session)))
            if commit.completes:
                changes.subtract(holders(await self._sessions.take_parts(commit.completes, session)))
        await self._refer(changes, links, tally, session)
        passed("commit-half-done")
        if arrivals:
            await self._files.insert([(arrival.file, arrival.seq) for arrival in arrivals], session)
        await self._tallies.record(tally, session)

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
                    chunk.count(tally, -1)
            await self._tallies.record(tally, session)
            return len(free)

        return await self._database.transaction(work)

    async def _look(self, pages: Iterable[Page], session: Session) -> _Links:
        wanted = {page.id: page for page in pages}
        stored = await self._pages.stored(wanted, session) if wanted else set()
        new = {page_id: page for page_id, page in wanted.items() if page_id not in stored}
        digests = {ref.digest for page in new.values() for ref in page.chunks}
        found = await self._chunks.find(digests, session) if digests else {}
        nodes = {node for chunk in found.values() for node in chunk.nodes}
        return _Links(new, found, await self._nodes.uses(nodes, session) if nodes else {})

    async def _refer(self, changes: Mapping[PageId, int], links: _Links, tally: Tally, session: Session) -> None:
        """Add to the references of pages. New ones are stored, and refer to their chunks (rule R4)."""
        new = {page_id: links.new[page_id] for page_id in changes if page_id in links.new}
        held = Counter(digest for page in new.values() for digest in {ref.digest for ref in page.chunks})
        known = {page_id: refs for page_id, refs in changes.items() if refs and page_id not in new}
        linked = await self._chunks.refer(held, session)
        shared = await self._pages.refer(known, session)
        if (linked, shared) != (len(held), len(known)):
            raise RuntimeError("what was live and stored in this very reading is not any more")
        for digest in held:
            chunk = links.found[digest]
            if not chunk.refs:
                chunk.count(tally)
        await self._pages.insert(((page, changes[page.id]) for page in new.values()), session)


def _ended() -> UploadInterrupted:
    return UploadInterrupted("The upload was given up meanwhile, for want of progress. Send it again.")
