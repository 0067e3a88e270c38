"""The code with one rule broken. Each must be caught by some interleaving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Several
from datetime import UTC, datetime
from typing import Any

import pytest

from app.models.chunk import Chunk, Naming
from app.models.chunks import Chunks
from app.models.database import Document, Session, UpdateOne
from app.models.ledger import _Links
from app.types import Digest, Generation, Page


def _write_then_name(patch: pytest.MonkeyPatch) -> None:
    """R1: a chunk is named when its blobs are durable already."""
    name, make_live = Chunks.name, Chunks.make_live

    async def later(self: Chunks, namings: Sequence[Naming], session: Session | None = None) -> set[Digest]:
        return {naming.digest for naming in namings}

    async def both(self: Chunks, namings: Sequence[Naming]) -> set[Digest]:
        won = await name(self, namings)
        ours = [naming for naming in namings if naming.digest in won]
        return await make_live(self, ours) if ours else set()

    patch.setattr(Chunks, "name", later)
    patch.setattr(Chunks, "make_live", both)


def _unlink_what_is_offered(patch: pytest.MonkeyPatch) -> None:
    """R2: the blobs of an unreferenced chunk are unlinked first, and then it is called dead."""
    claim, remove = Chunks.claim, Chunks.remove

    async def look(self: Chunks, digests: Several[Digest], before: datetime) -> list[Chunk]:
        return [chunk for chunk in (await self.find(digests)).values() if not chunk.refs]

    async def claim_and_remove(self: Chunks, chunks: Several[Chunk]) -> int:
        await claim(self, [chunk.digest for chunk in chunks], datetime.max.replace(tzinfo=UTC))
        return await remove(self, chunks)

    patch.setattr(Chunks, "claim", look)
    patch.setattr(Chunks, "remove", claim_and_remove)


def _name_alike(patch: pytest.MonkeyPatch) -> None:
    """R3: all generations of a chunk are the same."""

    def same() -> Generation:
        return Generation("0" * 16)

    patch.setattr("app.streams.dedupe.new_generation", same)


def _refer_to_anything(patch: pytest.MonkeyPatch) -> None:
    """R4: a commit asks whether there are such chunks, but not whether they are live."""

    async def refer(self: Chunks, references: Mapping[Digest, int], session: Session) -> int:
        query = {"_id": {"$in": sorted(references)}}
        await self._chunks.update_many(query, {"$inc": {"refs": 1}}, session=session)
        return len(references)

    def not_there(self: _Links, pages: Iterable[Page]) -> set[Digest]:
        return {ref.digest for page in pages if page.id in self.new for ref in page.chunks} - self.found.keys()

    patch.setattr(Chunks, "refer", refer)
    patch.setattr(_Links, "not_live", not_there)


def _claim_what_was_seen(patch: pytest.MonkeyPatch) -> None:
    """R5: the collector claims what it saw unreferenced, and does not ask again."""

    async def claim(self: Chunks, digests: Several[Digest], before: datetime) -> list[Chunk]:
        await self._chunks.update_many({"_id": {"$in": sorted(digests)}}, {"$set": {"state": "dead"}})
        return list((await self.find(digests)).values())

    patch.setattr(Chunks, "claim", claim)


def _trust_the_lock(patch: pytest.MonkeyPatch) -> None:
    """R8: whoever holds the chunk's lock names it, whatever its document says meanwhile."""
    naming = Chunks._naming

    def whatever(wanted: Naming) -> UpdateOne:
        update: Any = naming(wanted)
        query: Document = {"_id": wanted.digest}
        return UpdateOne(query, update._doc, upsert=True)

    patch.setattr(Chunks, "_naming", staticmethod(whatever))


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "R1": _write_then_name,
    "R2": _unlink_what_is_offered,
    "R3": _name_alike,
    "R4": _refer_to_anything,
    "R5": _claim_what_was_seen,
    "R8": _trust_the_lock,
}
