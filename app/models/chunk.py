"""A chunk's document: which blobs hold the chunk, and whether it may be linked.

    {_id: digest, size, state, gen, copies | code: [k, m], blobs: [BLOB], adding: {gen, at, blobs: [BLOB]},
     refs, at}                                          BLOB: {node, gen}, and for a shard {shard, sum}

`state` is pending (its blobs are being written), live (they are durable), dead (they are being
removed) or lost (pages hold the chunk, but what is left of it can't give it back; an upload of its
bytes heals it). `gen` changes with every new naming and guards each conditional update. `adding` names
blobs that are being written, and are not offered yet. `copies` is how many blobs there are to be, one
where it is missing; `code` stands instead where they are shards, any k of k + m of which give the chunk
back: `shard` says which one a blob is, from 0 on, and `sum` is the SHA-256 of its bytes. `refs` counts the
pages that hold the chunk; `at` is the server's time of the last change of state or loss of a reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.models.database import Document
from app.models.tallies import Tally
from app.types import ONE_COPY, Blob, Digest, Generation, NodeId, Redundancy, Shard

State = Literal["pending", "live", "dead", "lost"]


@dataclass(frozen=True, slots=True)
class Chunk:
    digest: Digest
    size: int
    state: State
    generation: Generation
    blobs: tuple[Blob, ...]
    refs: int
    changed_at: datetime
    adding: tuple[Blob, ...] = ()
    redundancy: Redundancy = ONE_COPY

    @classmethod
    def read(cls, document: Document) -> Chunk:
        digest = Digest(document["_id"])
        adding = document.get("adding", {})
        return cls(
            digest,
            document["size"],
            document["state"],
            document["gen"],
            _blobs(digest, document["blobs"]),
            document["refs"],
            document["at"],
            # Earlier versions added one copy at a time.
            _blobs(digest, adding.get("blobs", [adding] if adding else [])),
            _redundancy(document),
        )

    @property
    def named(self) -> tuple[Blob, ...]:
        """Every blob that the document names, offered or not."""
        return (*self.blobs, *self.adding)

    @property
    def blob_size(self) -> int:
        """Bytes of each of `blobs`."""
        return self.redundancy.blob_size(self.size)

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Where `blobs` are, one after the other."""
        return tuple(blob.node for blob in self.blobs)

    def count(self, tally: Tally, sign: int = 1) -> None:
        """Add the chunk to a sum, or take it out of that."""
        tally.chunks += sign
        tally.bytes += sign * self.size
        tally.count_blobs(self.blob_size, self.nodes, sign)

    @property
    def lacking(self) -> int:
        """Blobs that there are too few."""
        return self.redundancy.total - len(self.blobs)


@dataclass(frozen=True, slots=True)
class Naming:
    """The wish to write a chunk's blobs under a fresh generation.

    `instead_of` is the pending, dead or lost chunk whose place is taken, as it was seen; `redundancy` may
    ask for more blobs than those that are written now.
    """

    size: int
    blobs: tuple[Blob, ...]
    generation: Generation
    instead_of: Chunk | None = None
    redundancy: Redundancy = ONE_COPY

    def __post_init__(self) -> None:
        if self.instead_of and self.instead_of.state == "live":
            raise ValueError(f"chunk {self.digest.hex()} is live: files may hold it")

    @property
    def digest(self) -> Digest:
        return self.blobs[0].digest


def written_blobs(blobs: Iterable[Blob]) -> list[Document]:
    return [
        {"node": blob.node, "gen": blob.generation}
        | ({"shard": blob.part.index, "sum": blob.part.digest} if blob.part else {})
        for blob in blobs
    ]


def redundancy_change(redundancy: Redundancy) -> tuple[Document, Document]:
    """What is to be set, and unset, in a document."""
    if redundancy.coded:
        return {"code": [redundancy.needed, redundancy.spare]}, {"copies": ""}
    return {"copies": redundancy.total}, {"code": ""}


def _redundancy(document: Document) -> Redundancy:
    if code := document.get("code"):
        return Redundancy(*code)
    return Redundancy(1, document.get("copies", 1) - 1)


def _blobs(digest: Digest, documents: Iterable[Document]) -> tuple[Blob, ...]:
    return tuple(
        Blob(
            blob["node"],
            digest,
            blob["gen"],
            Shard(blob["shard"], Digest(blob["sum"])) if "shard" in blob else None,
        )
        for blob in documents
    )
