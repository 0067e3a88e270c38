"""Small parts next to each other are merged into larger ones, and so are small bundles, so that nobody can make a
session, or a file, of more documents than a transaction takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.models.ledger import Ledger
from app.models.pages import Pages
from app.models.sessions import Part, Progress, SessionId, UploadSessions
from app.types import PAGE_CHUNKS, ChunkRef, Page, PageRef

_SMALL = 64
"""Small ones that there may be, about."""

_MOST = 4 * _SMALL
"""Those that are merged at once."""


class Merging:
    """Calls raise DatabaseUnavailable."""

    def __init__(self, ledger: Ledger, sessions: UploadSessions, pages: Pages) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._pages = pages
        self._at_it: set[SessionId] = set()

    async def parts(self, part: Part) -> None:
        """After the part was appended to a session: merge the last ones if there are many small ones."""
        last = await self._sessions.last_parts(part.session, _MOST)
        small = [part.chunks < PAGE_CHUNKS for part in last]
        run = small.index(False) if False in small else len(small)
        if run >= _SMALL:
            chosen = last[:run][::-1]
            await self._merge(chosen, await self._chunks_of(chosen))

    async def bundles(self, session: SessionId) -> None:
        """After the session got another one: merge small ones if there are many."""
        if session in self._at_it or await self._sessions.count_small_bundles(session) < _SMALL:
            return
        self._at_it.add(session)
        try:
            chosen = await self._sessions.small_bundles(session, _MOST)
            await self._merge(chosen, list(dict.fromkeys(await self._chunks_of(chosen))))
        finally:
            self._at_it.discard(session)

    async def _chunks_of(self, parts: Sequence[Part]) -> list[ChunkRef]:
        """All chunks, in their order; none where a page is gone, for the parts are gone too then."""
        pages = await asyncio.gather(*(self._pages.read(ref.id) for part in parts for ref in part.pages))
        return [chunk for page in pages if page for chunk in page.chunks] if all(pages) else []

    async def _merge(self, parts: Sequence[Part], chunks: Sequence[ChunkRef]) -> None:
        if not chunks:
            return
        pages = [Page.of(chunks[at : at + PAGE_CHUNKS]) for at in range(0, len(chunks), PAGE_CHUNKS)]
        refs = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
        now = await self._ledger.now()
        merged = Part.bundle(parts[0].session, refs, now)
        if parts[0].number > 0:
            merged = replace(merged, number=parts[0].number)
        await self._ledger.merge_parts(Progress(merged, instead_of=parts), pages)
