"""Chunk documents: which blobs hold a chunk, and whether it may be linked.

    {_id: digest, size, state, gen, blobs: [{node, gen}], refs, at}

`state` is pending (its blobs are being written), live (they are durable) or dead (they are being
removed). `gen` changes with every new naming and guards each conditional update; `refs` counts the
pages that hold the chunk; `at` is the server's time of the last change of state.
"""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.models.database import Database, Document, Session, UpdateOne
from app.types import Blob, Digest, Generation, NodeId

State = Literal["pending", "live", "dead"]


@dataclass(frozen=True, slots=True)
class Chunk:
    digest: Digest
    size: int
    state: State
    generation: Generation
    blobs: tuple[Blob, ...]
    refs: int
    changed_at: datetime

    @classmethod
    def read(cls, document: Document) -> Chunk:
        digest = Digest(document["_id"])
        return cls(
            digest,
            document["size"],
            document["state"],
            document["gen"],
            tuple(Blob(blob["node"], digest, blob["gen"]) for blob in document["blobs"]),
            document["refs"],
            document["at"],
        )


@dataclass(frozen=True, slots=True)
class Naming:
    """The wish to write a chunk's blobs under a fresh generation.

    `instead_of` is the pending or dead chunk whose place is taken, as it was seen.
    """

    size: int
    blobs: tuple[Blob, ...]
    generation: Generation
    instead_of: Chunk | None = None

    def __post_init__(self) -> None:
        if self.instead_of and self.instead_of.state == "live":
            raise ValueError(f"chunk {self.digest.hex()} is live: files may hold it")

    @property
    def digest(self) -> Digest:
        return self.blobs[0].digest


class Chunks:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._chunks = database["chunks"]

    async def find(self, digests: Iterable[Digest], session: Session | None = None) -> dict[Digest, Chunk]:
        """The documents that there are, in one query."""
        documents = await self._chunks.find({"_id": {"$in": sorted(digests)}}, session=session)
        return {chunk.digest: chunk for chunk in map(Chunk.read, documents)}

    async def name(self, namings: Sequence[Naming]) -> set[Digest]:
        """Name the blobs that will be written (rule R1); return the digests whose naming was won.

        A naming is lost where another writer, or the collector, changed the document meanwhile.
        """
        named = await self._chunks.bulk_update([self._naming(naming) for naming in namings])
        if named == len(namings):
            return {naming.digest for naming in namings}
        return await self._bearing(namings, "pending")

    @staticmethod
    def _naming(naming: Naming) -> UpdateOne:
        taken = naming.instead_of
        query: Document = {"_id": naming.digest, "gen": taken.generation if taken else None}
        if taken:
            query["state"] = taken.state
        change = {
            "$set": {
                "state": "pending",
                "size": naming.size,
                "gen": naming.generation,
                "blobs": [{"node": blob.node, "gen": blob.generation} for blob in naming.blobs],
                "refs": 0,
            },
            "$currentDate": {"at": True},
        }
        return UpdateOne(query, change, upsert=taken is None)

    async def make_live(self, namings: Sequence[Naming]) -> set[Digest]:
        """Call chunks live whose blobs are durable (rule R6); return those that still bore our naming."""
        changed = await self._chunks.bulk_update(
            [
                UpdateOne(
                    {"_id": naming.digest, "gen": naming.generation, "state": "pending"},
                    {"$set": {"state": "live"}, "$currentDate": {"at": True}},
                )
                for naming in namings
            ]
        )
        if changed == len(namings):
            return {naming.digest for naming in namings}
        return await self._bearing(namings, "live")

    async def _bearing(self, namings: Sequence[Naming], state: State) -> set[Digest]:
        documents = await self._chunks.find(
            {
                "_id": {"$in": sorted(naming.digest for naming in namings)},
                "gen": {"$in": [naming.generation for naming in namings]},
                "state": state,
            },
            fields={"_id": 1},
        )
        return {Digest(document["_id"]) for document in documents}

    async def refer(self, digests: Several[Digest], session: Session) -> int:
        """Add one reference to each of these chunks that is live (rule R4); return how many were."""
        return await self._chunks.update_many(
            {"_id": {"$in": sorted(digests)}, "state": "live"}, {"$inc": {"refs": 1}}, session=session
        )


def nodes_of(chunk: Chunk) -> tuple[NodeId, ...]:
    return tuple(blob.node for blob in chunk.blobs)
