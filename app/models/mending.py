"""The transactions of movers and of repair: what changes where bytes lie, or mends what a check found.

Each keeps the tallies in step with the documents, as those of `ledger` do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from app.models.chunk import Chunk, Naming
from app.models.chunks import Chunks
from app.models.database import Database, Session
from app.models.nodes import Nodes
from app.models.pages import Pages
from app.models.tallies import Tallies, Tally
from app.types import Blob, Digest, NodeId, PageId, Redundancy


class Mending:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunks = Chunks(database)
        self._pages = Pages(database)
        self._tallies = Tallies(database)
        self._nodes = Nodes(database)
        self._upkeep = database["upkeep"]

    async def look_surely(self, digests: Collection[Digest]) -> dict[Digest, Chunk]:
        """The documents that there are, never those of a server that has lost its primacy unawares: the
        transaction also writes, and would not be committed there. What is missing here is missing."""

        async def work(session: Session) -> dict[Digest, Chunk]:
            await self._upkeep.update_one({"_id": "barrier"}, {"$inc": {"passed": 1}}, upsert=True, session=session)
            return await self._chunks.find(digests, session)

        return await self._database.transaction(work)

    async def name_held(self, naming: Naming) -> bool:
        """`Chunks.name` for a chunk that pages hold: one that was lost. False if the naming was not won, or a
        node is no more, or about to be."""

        async def work(session: Session) -> bool:
            before = (await self._chunks.find([naming.digest], session)).get(naming.digest)
            nodes = [blob.node for blob in naming.blobs]
            if before is None or not await self._nodes.hold(nodes, session):
                return False
            if not await self._chunks.name([naming], session):
                return False
            await self._moved(before, nodes, naming.redundancy, session)
            return True

        return await self._database.transaction(work)

    async def switch(self, chunk: Chunk, drop: Collection[Blob], added: Sequence[Blob], redundancy: Redundancy) -> bool:
        """Offer the added blobs, which are durable, instead of `drop`. False if they are not named any
        more, or on a node that is no more, or about to be."""

        async def work(session: Session) -> bool:
            if await self._nodes.gone({blob.node for blob in added}, session):
                return False
            before = await self._chunks.switch(chunk, drop, added, redundancy, session)
            if before:
                kept = (blob.node for blob in before.blobs if blob not in drop and before.state == "live")
                await self._moved(before, [*kept, *(blob.node for blob in added)], redundancy, session)
            return before is not None

        return await self._database.transaction(work)

    async def lose(self, chunk: Chunk, left: Sequence[Blob] = ()) -> bool:
        """Call a chunk lost that its blobs do not give back any more: it is offered no more, and an upload
        heals it. `left` are its good shards. False if it changed meanwhile."""
        return await self._offer_no_more(lambda session: self._chunks.lose(chunk, left, session), left)

    async def keep(self, digest: Digest) -> bool:
        """Call a dead chunk lost, because pages hold it. False if it is not dead."""
        return await self._offer_no_more(lambda session: self._chunks.keep(digest, session))

    async def _offer_no_more(
        self, change: Callable[[Session], Awaitable[Chunk | None]], left: Sequence[Blob] = ()
    ) -> bool:
        async def work(session: Session) -> bool:
            before = await change(session)
            if before:
                await self._moved(before, (blob.node for blob in left), before.redundancy, session)
            return before is not None

        return await self._database.transaction(work)

    async def insert_lost(self, digest: Digest, size: int, refs: int) -> None:
        """Give a chunk that pages hold the document that it lacks. Raises DuplicateKey if it has one."""

        async def work(session: Session) -> None:
            await self._chunks.insert_lost(digest, size, session)
            await self._adjust(digest, refs, session)

        await self._database.transaction(work)

    async def adjust_chunk(self, digest: Digest, refs: int) -> None:
        """Add to the references of a chunk what a count found missing (or too many)."""
        await self._database.transaction(lambda session: self._adjust(digest, refs, session))

    async def adjust_page(self, page_id: PageId, refs: int) -> bool:
        """Add to the references of a page what a count found missing (or too many). False if the page
        is released, or not there."""
        return await self._database.transaction(lambda session: self._pages.adjust(page_id, refs, session))

    async def adjust_tally(self, change: Tally) -> None:
        """Add to the totals what a sum found missing (or too much)."""
        await self._database.transaction(lambda session: self._tallies.record(change, session))

    async def _adjust(self, digest: Digest, refs: int, session: Session) -> None:
        before = await self._chunks.adjust(digest, refs, session)
        if before and bool(before.refs) != bool(before.refs + refs):
            tally = Tally()
            before.count(tally, -1 if before.refs else 1)
            await self._tallies.record(tally, session)

    async def _moved(self, before: Chunk, nodes: Iterable[NodeId], redundancy: Redundancy, session: Session) -> None:
        """A chunk's blobs lie elsewhere now, or are others."""
        if before.refs:
            tally = Tally()
            tally.count_blobs(before.blob_size, before.nodes, -1)
            tally.count_blobs(redundancy.blob_size(before.size), nodes)
            await self._tallies.record(tally, session)
