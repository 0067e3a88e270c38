"""Files that are made of chunks which the store has: what of them is known, and what a list of them becomes.

Nobody learns here what others store, or gets it by its digest. A chunk is known if a file of the caller's own account
holds it, or the session does. A file is made only of chunks that the session holds: those that were known, and those
whose bytes came in it, one by one or in parts, which are cut at their own steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from app.errors import ChunksMissing, TooLarge
from app.models.files import Whose
from app.models.holdings import Holdings
from app.models.ledger import ChunksNotLive, Hold
from app.models.pages import Pages
from app.models.sessions import Part, Progress, UploadSession, UploadSessions
from app.streams.ingest import Stages
from app.types import PAGE_CHUNKS, ChunkRef, ContentName, Digest, Page, PageRef

MAX_CHUNK = 1 << 20
"""Bytes of a chunk that a client may send, or list."""

MAX_CHUNKS = 1 << 20
"""Chunks of a list that becomes a file."""

_PROBES = (64, 256, 1024)
"""Chunks that are looked for one by one, in one round after the other. Each finds a page, and with it what stands
beside it, so that of a file that resembles another one the first round finds nearly all."""

_HELD = 2 * MAX_CHUNKS
"""Chunks that a session may hold, or hardly more."""

_TOLD = 10_000
"""Digests that are named at once."""

_AT_ONCE = 32
"""Pages read, or chunks looked for, at a time."""

_DIGEST = 32
"""Bytes of a digest, with which a packed entry begins."""

Sizes = Mapping[Digest, int]
"""Of each chunk, its bytes."""


@dataclass(slots=True)
class Drawn:
    """What a list of chunks comes to. All pages but those in `tails` are held."""

    hold: Hold = field(default_factory=Hold)
    pages: list[PageRef] = field(default_factory=list)
    tails: list[Page] = field(default_factory=list)
    content: ContentName = field(default_factory=ContentName)


class Negotiation:
    """All calls raise DatabaseUnavailable, and NoSuchUpload where the session is not open any more."""

    def __init__(self, stages: Stages, sessions: UploadSessions, pages: Pages, holdings: Holdings) -> None:
        self._stages = stages
        self._sessions = sessions
        self._pages = pages
        self._holdings = holdings
        # What is compared may take a hundred MiB.
        self._comparing = asyncio.Lock()

    # What is known

    async def missing(self, session: UploadSession, asked: Sizes, whose: Whose) -> set[Digest]:
        """Those of the chunks that must be sent. The others are held by the session from now on. Raises TooLarge where
        it would hold too many."""
        parts = await self._sessions.holding(session.id)
        held = await self._held(parts, asked)
        known = await self._known(asked, held, whose)
        if sum(part.chunks for part in parts) + len(known) > _HELD:
            raise TooLarge(
                f"An upload may hold up to {_HELD} chunks. Complete it, or give it up, and begin another one."
            )
        refs = [ChunkRef(digest, size) for digest, size in asked.items() if digest in known]
        for at in range(0, len(refs), PAGE_CHUNKS):
            held |= await self._link(session, refs[at : at + PAGE_CHUNKS])
        return asked.keys() - held

    async def _held(self, parts: Sequence[Part], asked: Sizes) -> set[Digest]:
        """Those of the chunks that the parts and bundles hold."""
        return {ref.digest async for page in self._pages_of(parts) for ref in page.chunks if _is_asked(ref, asked)}

    async def _pages_of(self, parts: Iterable[Part]) -> AsyncIterator[Page]:
        refs = [ref for part in parts for ref in part.pages]
        for at in range(0, len(refs), _AT_ONCE):
            for page in await asyncio.gather(*(self._pages.read(ref.id) for ref in refs[at : at + _AT_ONCE])):
                if page:
                    yield page

    async def _known(self, asked: Sizes, held: set[Digest], whose: Whose) -> set[Digest]:
        """Those that such files hold. Where a great many are looked for, a few that stand alone may be overlooked."""
        stored = await self._stages.chunks.find(asked.keys() - held)
        left = [
            digest
            for digest, size in asked.items()
            if (chunk := stored.get(digest)) and chunk.state == "live" and chunk.refs and chunk.size == size
        ]
        known: set[Digest] = set()
        for probes in _PROBES:
            tried = dict.fromkeys(left[:: max(1, len(left) // probes)][:probes])
            async for page in self._pages_with(list(tried), whose):
                known |= {ref.digest for ref in page.chunks if _is_asked(ref, asked)}
            left = [digest for digest in left if digest not in known and digest not in tried]
            if not left:
                break
        return known - held

    async def _pages_with(self, digests: Sequence[Digest], whose: Whose) -> AsyncIterator[Page]:
        for at in range(0, len(digests), _AT_ONCE):
            some = digests[at : at + _AT_ONCE]
            for page in await asyncio.gather(*(self._holdings.page_with(digest, whose) for digest in some)):
                if page:
                    yield page

    async def _link(self, session: UploadSession, refs: Sequence[ChunkRef]) -> set[Digest]:
        """Let the session hold those of the chunks that still can be; which these are."""
        while refs:
            page = Page.of(refs)
            now = await self._stages.ledger.now()
            bundle = Part.bundle(session.id, (PageRef(page.id, page.size, len(refs)),), now)
            try:
                await self._stages.ledger.commit_part(Hold(), Progress(bundle), [page])
                break
            except ChunksNotLive as gone:
                refs = [ref for ref in refs if ref.digest not in gone.digests]
        return {ref.digest for ref in refs}

    # From a list to a file

    async def draw(self, session: UploadSession, lists: AsyncIterator[Sequence[ChunkRef]], drawn: Drawn) -> None:
        """Make pages of the listed chunks, in their order. Raises ChunksMissing where the session does not hold all of
        them, of these sizes, or some are damaged; TooLarge. Then what is held is to be given up."""
        packed = bytearray()
        async for refs in lists:
            packed += b"".join(ref.packed for ref in refs)
            if len(packed) > MAX_CHUNKS * Page.ENTRY:
                raise TooLarge(f"A list may have up to {MAX_CHUNKS} chunks. Upload the file in parts.")
        async with self._comparing:
            await self._compare(session, packed)
        for at in range(0, len(packed), PAGE_CHUNKS * Page.ENTRY):
            entries = bytes(packed[at : at + PAGE_CHUNKS * Page.ENTRY])
            page = Page.of([ChunkRef(digest, size) for digest, size in Page.entries(entries)])
            if at + len(entries) < len(packed):
                await self._hold(page, drawn)
            else:
                drawn.tails.append(page)
            drawn.pages.append(PageRef(page.id, page.size, len(page.chunks)))
            for chunk in page.chunks:
                drawn.content.add(chunk.digest)

    async def _compare(self, session: UploadSession, packed: bytearray) -> None:
        """Raises ChunksMissing where the session does not hold all of these entries."""
        lacking = await asyncio.to_thread(lambda: set(_entries(packed)))
        async for page in self._pages_of(await self._sessions.holding(session.id)):
            lacking.difference_update(ref.packed for ref in page.chunks)
        if lacking:
            first = dict.fromkeys(entry for entry in _entries(packed) if entry in lacking)
            raise ChunksMissing([entry[:_DIGEST] for entry in islice(first, _TOLD)])

    async def _hold(self, page: Page, drawn: Drawn) -> None:
        try:
            await self._stages.ledger.hold_page(drawn.hold, page)
        except ChunksNotLive as gone:
            raise ChunksMissing(sorted(gone.digests)) from gone


def _entries(packed: bytearray) -> Iterator[bytes]:
    return (bytes(packed[at : at + Page.ENTRY]) for at in range(0, len(packed), Page.ENTRY))


def _is_asked(ref: ChunkRef, asked: Sizes) -> bool:
    return asked.get(ref.digest) == ref.size
