"""Totals that are exact, cheap to read, and never a hot document.

Every commit inserts one small delta in its own transaction; now and then the deltas are folded into
one document of totals. Inserts never conflict with each other, and the sum of totals and deltas is
right at every moment, whatever crashes.

    tally_deltas: {files, logical, nodes: {node: {chunks, bytes}}, chunks, bytes}
    tallies:      {_id: "totals", the same}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.models.database import Database, Document, Session
from app.types import NodeId

_FOLD = 1000
"""Deltas folded in one transaction."""


@dataclass(slots=True)
class NodeTally:
    chunks: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Tally:
    """A sum, or a change of one. `chunks` and `bytes` count chunks that some page holds, each once;
    a node's count its blobs of them."""

    files: int = 0
    logical: int = 0
    chunks: int = 0
    bytes: int = 0
    nodes: dict[NodeId, NodeTally] = field(default_factory=dict)

    def count_blobs(self, size: int, nodes: Iterable[NodeId], sign: int = 1) -> None:
        """There is a blob of so many bytes more (or less) on each of the nodes."""
        for node in nodes:
            held = self.nodes.setdefault(node, NodeTally())
            held.chunks += sign
            held.bytes += sign * size

    def add(self, document: Document) -> None:
        self.files += document["files"]
        self.logical += document["logical"]
        self.chunks += document["chunks"]
        self.bytes += document["bytes"]
        for node, held in document["nodes"].items():
            tally = self.nodes.setdefault(NodeId(node), NodeTally())
            tally.chunks += held["chunks"]
            tally.bytes += held["bytes"]

    def minus(self, other: Tally) -> Tally:
        """The difference; nodes without one are left out."""
        difference = Tally(
            self.files - other.files,
            self.logical - other.logical,
            self.chunks - other.chunks,
            self.bytes - other.bytes,
        )
        for node in self.nodes.keys() | other.nodes.keys():
            ours, theirs = self.nodes.get(node, NodeTally()), other.nodes.get(node, NodeTally())
            if ours != theirs:
                difference.nodes[node] = NodeTally(ours.chunks - theirs.chunks, ours.bytes - theirs.bytes)
        return difference

    def write(self) -> Document:
        return {
            "files": self.files,
            "logical": self.logical,
            "chunks": self.chunks,
            "bytes": self.bytes,
            "nodes": {node: {"chunks": held.chunks, "bytes": held.bytes} for node, held in self.nodes.items()},
        }


class Tallies:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._totals = database["tallies"]
        self._deltas = database["tally_deltas"]

    async def create_indexes(self) -> None:
        """None but what each collection has. No snapshot can be read while a collection is being made."""
        for collection in (self._totals, self._deltas):
            await collection.create_index([("_id", 1)])

    async def record(self, change: Tally, session: Session) -> None:
        await self._deltas.insert_one(change.write(), session=session)

    async def read(self, session: Session | None = None) -> Tally:
        """The sum at one moment, that of the session if there is one. Raises DatabaseUnavailable."""

        async def work(session: Session) -> Tally:
            tally = Tally()
            for document in await self._totals.find({}, session=session):
                tally.add(document)
            for document in await self._deltas.find({}, session=session):
                tally.add(document)
            return tally

        return await (work(session) if session else self._database.transaction(work))

    async def backlog(self) -> int:
        """About how many deltas wait to be folded."""
        return await self._deltas.estimated_count()

    async def fold(self) -> int:
        """Fold up to 1,000 deltas into the totals; return how many. Raises DatabaseUnavailable."""

        async def work(session: Session) -> int:
            deltas = await self._deltas.find({}, limit=_FOLD, session=session)
            tally = Tally()
            for document in [*await self._totals.find({}, session=session), *deltas]:
                tally.add(document)
            await self._totals.update_one({"_id": "totals"}, {"$set": tally.write()}, upsert=True, session=session)
            return await self._deltas.delete_many(
                {"_id": {"$in": [document["_id"] for document in deltas]}}, session=session
            )

        return await self._database.transaction(work)
