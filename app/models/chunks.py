"""The chunks of a store: one document each, as `chunk` describes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Several
from datetime import datetime
from itertools import chain

from app.gathering import Gathered
from app.models.chunk import Chunk, Naming, State, redundancy_change, written_blobs
from app.models.database import Database, Document, Session, UpdateOne, between
from app.models.tallies import NodeTally, Tally
from app.types import Blob, Digest, Generation, NodeId, Redundancy, new_generation

_COPIED: list[State] = ["live", "lost"]
"""States in which `adding` may stand; the collector sees to it in dead chunks, a naming drops it."""

_TOGETHER = 256
"""Chunks that a call concerns which several callers share, unless a single one asks for more."""

_UNCLAIMED: list[State] = ["live", "pending", "lost"]
_TOUCH = 60_000
"""Milliseconds for which an unreferenced chunk that was linked is not touched again."""


class Chunks:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._chunks = database["chunks"]
        self._findings = Gathered(self._find_together, most=_TOGETHER, weigh=len)
        self._namings = Gathered(self._name_together, most=_TOGETHER, weigh=len)
        self._livenings = Gathered(self._make_live_together, most=_TOGETHER, weigh=len)

    async def create_indexes(self) -> None:
        unreferenced = {"partialFilterExpression": {"refs": 0}, "name": "unreferenced"}
        await self._chunks.create_index([("state", 1), ("at", 1)], **unreferenced)
        await self._chunks.create_index([("adding.at", 1)], sparse=True)

    async def find(self, digests: Iterable[Digest], session: Session | None = None) -> dict[Digest, Chunk]:
        """The documents that there are, in one query, which others may share."""
        wanted = set(digests)
        return await (self._find(wanted, session) if session else self._findings(wanted))

    async def _find_together(self, groups: Sequence[set[Digest]]) -> list[dict[Digest, Chunk]]:
        found = await self._find(set().union(*groups))
        return [{digest: found[digest] for digest in group if digest in found} for group in groups]

    async def _find(self, digests: set[Digest], session: Session | None = None) -> dict[Digest, Chunk]:
        documents = await self._chunks.find({"_id": {"$in": sorted(digests)}}, session=session)
        return {chunk.digest: chunk for chunk in map(Chunk.read, documents)}

    async def stream(self, first: int, last: int, session: Session | None = None) -> AsyncIterator[list[Chunk]]:
        """All chunks whose digests begin with the bytes `first` to `last`, in lists, by digest."""
        query: Document = {"_id": between(first, last)}
        async for documents in self._chunks.stream(query, sort=[("_id", 1)], session=session):
            yield list(map(Chunk.read, documents))

    async def after(self, position: bytes, limit: int) -> list[Chunk]:
        """Up to `limit` chunks whose digests come behind that one, or from the first one on behind `b""`, in
        their order."""
        documents = await self._chunks.find({"_id": {"$gt": position}}, sort=[("_id", 1)], limit=limit)
        return list(map(Chunk.read, documents))

    async def count_on(self, node: NodeId) -> int:
        """How many documents name a blob on the node, offered or not. Goes through all of them, for an
        index would cost every write; in parts, so that no call lasts too long."""
        named = {"$or": [{"blobs.node": node}, {"adding.node": node}]}
        parts = [{"_id": between(byte, byte), **named} for byte in range(256)]
        return sum([await self._chunks.count(part) for part in parts])

    async def count(self) -> int:
        """About how many documents there are."""
        return await self._chunks.estimated_count()

    async def sum_referenced(self, session: Session) -> Tally:
        """What the documents say of chunks that pages hold, and of their blobs on each node."""
        referenced = {"$match": {"refs": {"$gt": 0}}}
        counts = {"chunks": {"$sum": 1}, "bytes": {"$sum": "$size"}}
        tally = Tally()
        for sums in await self._chunks.aggregate([referenced, {"$group": {"_id": None, **counts}}], session=session):
            tally.chunks, tally.bytes = sums["chunks"], sums["bytes"]
        needed = {"$ifNull": [{"$first": "$code"}, 1]}
        blobs = counts | {"bytes": {"$sum": {"$ceil": {"$divide": ["$size", needed]}}}}
        each_blob: list[Document] = [referenced, {"$unwind": "$blobs"}, {"$group": {"_id": "$blobs.node", **blobs}}]
        for sums in await self._chunks.aggregate(each_blob, session=session):
            tally.nodes[NodeId(sums["_id"])] = NodeTally(sums["chunks"], int(sums["bytes"]))
        return tally

    # Writers

    async def name(self, namings: Sequence[Naming], session: Session | None = None) -> set[Digest]:
        """Name the blobs that will be written (rule R1); return the digests whose naming was won.

        A naming is lost where another writer, or the collector, changed the document meanwhile.
        """
        if session is None:
            return await self._namings(namings)
        (won,) = await self._name_together([namings], session)
        return won

    async def _name_together(
        self, groups: Sequence[Sequence[Naming]], session: Session | None = None
    ) -> list[set[Digest]]:
        namings = list(chain.from_iterable(groups))
        named = await self._chunks.bulk_update([self._naming(naming) for naming in namings], session=session)
        return await self._won(groups, "pending", all_of_them=named == len(namings))

    @staticmethod
    def _naming(naming: Naming) -> UpdateOne:
        taken = naming.instead_of
        query: Document = {"_id": naming.digest, "gen": taken.generation if taken else None}
        if taken:
            query["state"] = taken.state
        kept, dropped = redundancy_change(naming.redundancy)
        change = {
            "$set": {
                "state": "pending",
                "size": naming.size,
                "gen": naming.generation,
                "blobs": written_blobs(naming.blobs),
                **kept,
            },
            "$setOnInsert": {"refs": 0},
            "$unset": {"adding": "", **dropped},
            "$currentDate": {"at": True},
        }
        return UpdateOne(query, change, upsert=taken is None)

    async def make_live(self, namings: Sequence[Naming]) -> set[Digest]:
        """Call chunks live whose blobs are durable (rule R6); return those that still bore our naming."""
        return await self._livenings(namings)

    async def _make_live_together(self, groups: Sequence[Sequence[Naming]]) -> list[set[Digest]]:
        changed = await self._chunks.bulk_update(
            [
                UpdateOne(
                    {"_id": naming.digest, "gen": naming.generation, "state": "pending"},
                    {"$set": {"state": "live"}, "$currentDate": {"at": True}},
                )
                for group in groups
                for naming in group
            ]
        )
        return await self._won(groups, "live", all_of_them=changed == sum(map(len, groups)))

    async def _won(self, groups: Sequence[Sequence[Naming]], state: State, *, all_of_them: bool) -> list[set[Digest]]:
        """Of each group, the digests whose documents bear its naming, in this state."""
        bearing = await self._bearing(groups, state) if not all_of_them else set()
        return [{naming.digest for naming in group if all_of_them or naming.generation in bearing} for group in groups]

    async def _bearing(self, groups: Sequence[Sequence[Naming]], state: State) -> set[Generation]:
        namings = list(chain.from_iterable(groups))
        documents = await self._chunks.find(
            {
                "_id": {"$in": sorted(naming.digest for naming in namings)},
                "gen": {"$in": [naming.generation for naming in namings]},
                "state": state,
            },
            fields={"gen": 1},
        )
        return {Generation(document["gen"]) for document in documents}

    async def touch(self, digests: Iterable[Digest]) -> None:
        """Let unreferenced chunks that an upload has just linked wait for its commit (rule R7)."""
        query = {
            "_id": {"$in": sorted(digests)},
            "refs": 0,
            "state": "live",
            "$expr": {"$lt": ["$at", {"$subtract": ["$$NOW", _TOUCH]}]},
        }
        await self._chunks.update_many(query, {"$currentDate": {"at": True}})

    # References, inside a transaction of the ledger

    async def refer(self, references: Mapping[Digest, int], session: Session) -> int:
        """Add so many references to each of these chunks that is live (rule R4); return how many were."""
        live = 0
        for count, digests in _by_count(references):
            query = {"_id": {"$in": digests}, "state": "live"}
            live += await self._chunks.update_many(query, {"$inc": {"refs": count}}, session=session)
        return live

    async def release(self, references: Mapping[Digest, int], session: Session) -> None:
        """Take so many references from each of these chunks."""
        for count, digests in _by_count(references):
            change = {"$inc": {"refs": -count}, "$currentDate": {"at": True}}
            await self._chunks.update_many({"_id": {"$in": digests}}, change, session=session)

    # The collector

    async def unreferenced(self, before: datetime, batch: int) -> AsyncIterator[list[Digest]]:
        """Chunks that no page holds, and that nobody touched after `before`, in lists.

        One cursor goes through all: asking for the first ones again and again would pass each time
        over the entries that the index keeps of those which were removed.
        """
        query = {"refs": 0, "state": {"$in": _UNCLAIMED}, "at": {"$lte": before}}
        async for documents in self._chunks.stream(query, fields={"_id": 1}, batch=batch):
            yield [Digest(document["_id"]) for document in documents]

    async def count_unreferenced(self, before: datetime) -> int:
        """How many chunks `unreferenced` would give in all."""
        return await self._chunks.count({"refs": 0, "state": {"$in": _UNCLAIMED}, "at": {"$lte": before}})

    async def sum_unreferenced(self, before: datetime) -> tuple[int, int]:
        """How many chunks the collector would remove, and their bytes."""
        query = {"refs": 0, "$or": [{"state": "dead"}, {"state": {"$in": _UNCLAIMED}, "at": {"$lte": before}}]}
        group = {"$group": {"_id": None, "chunks": {"$sum": 1}, "bytes": {"$sum": "$size"}}}
        sums = await self._chunks.aggregate([{"$match": query}, group])
        return (sums[0]["chunks"], sums[0]["bytes"]) if sums else (0, 0)

    async def claim(self, digests: Several[Digest], before: datetime) -> list[Chunk]:
        """Call those dead which are still unreferenced and untouched, each in one step (rule R5).

        Returns all of the chunks that are dead now, as their documents name them: nothing but a
        fresh naming changes them any more.
        """
        ids = {"$in": sorted(digests)}
        query = {"_id": ids, "refs": 0, "state": {"$in": _UNCLAIMED}, "at": {"$lte": before}}
        await self._chunks.update_many(query, {"$set": {"state": "dead"}, "$currentDate": {"at": True}})
        documents = await self._chunks.find({"_id": ids, "refs": 0, "state": "dead"})
        return [Chunk.read(document) for document in documents]

    async def dead(self) -> AsyncIterator[list[Chunk]]:
        """Chunks that some collector claimed and has not removed."""
        async for documents in self._chunks.stream({"refs": 0, "state": "dead"}):
            yield [Chunk.read(document) for document in documents]

    async def remove(self, chunks: Several[Chunk]) -> int:
        """Remove dead chunks whose blobs are unlinked, unless they were named anew (rule R2)."""
        return await self._chunks.delete_many(
            {
                "_id": {"$in": sorted(chunk.digest for chunk in chunks)},
                "gen": {"$in": [chunk.generation for chunk in chunks]},
                "state": "dead",
                "refs": 0,
            }
        )

    # Movers and repair

    async def name_added(self, chunk: Chunk, added: Sequence[Blob]) -> bool:
        """Name further blobs of a live chunk before they are written (rule R1). False if the chunk or its
        blobs changed, or others are being added."""
        return bool(
            await self._chunks.update_one(
                {**_as_seen(chunk), "state": "live", "adding": None},
                {
                    "$set": {"adding.gen": added[0].generation, "adding.blobs": written_blobs(added)},
                    "$currentDate": {"adding.at": True},
                },
            )
        )

    async def switch(
        self, chunk: Chunk, drop: Several[Blob], added: Sequence[Blob], redundancy: Redundancy, session: Session
    ) -> Chunk | None:
        """Offer the added blobs, which are durable, instead of some; the chunk before that, or None if they
        are not named any more, or not enough to give back a chunk that was called lost meanwhile.

        While blobs are being added nothing else changes which are offered, but that.
        """
        kept, dropped = redundancy_change(redundancy)
        named: Document = {"_id": chunk.digest, "adding.gen": added[0].generation}
        offered: Document = {"$unset": {"adding": "", **dropped}}
        blobs = written_blobs([*(blob for blob in chunk.blobs if blob not in drop), *added])
        document = await self._chunks.find_one_and_update(
            {**named, "state": "live"}, {"$set": {"blobs": blobs, **kept}, **offered}, session=session
        )
        if not document and len(added) >= redundancy.needed:
            healed = {"state": "live", "blobs": written_blobs(added), **kept}
            document = await self._chunks.find_one_and_update(
                {**named, "state": "lost"}, {"$set": healed, "$currentDate": {"at": True}, **offered}, session=session
            )
        return Chunk.read(document) if document else None

    async def abandoned(self, before: datetime) -> AsyncIterator[list[Chunk]]:
        """Chunks to which blobs were being added at that moment, and never were."""
        async for documents in self._chunks.stream({"adding.at": {"$lte": before}, "state": {"$in": _COPIED}}):
            yield [Chunk.read(document) for document in documents]

    async def drop_added(self, added: Sequence[Blob]) -> bool:
        """Name unfinished blobs no more (rule R2), unless they were offered meanwhile."""
        query = {"_id": added[0].digest, "state": {"$in": _COPIED}, "adding.gen": added[0].generation}
        return bool(await self._chunks.update_one(query, {"$unset": {"adding": ""}}))

    async def lose(self, chunk: Chunk, left: Sequence[Blob], session: Session) -> Chunk | None:
        """Call a live chunk lost that its blobs do not give back any more; the chunk before that, or None if
        it changed meanwhile. The good shards that are left of it stay named."""
        document = await self._chunks.find_one_and_update(
            {**_as_seen(chunk), "state": "live"},
            {"$set": {"state": "lost", "blobs": written_blobs(left)}, "$currentDate": {"at": True}},
            session=session,
        )
        return Chunk.read(document) if document else None

    async def adjust(self, digest: Digest, refs: int, session: Session) -> Chunk | None:
        """Add to the count of references, to mend it; the chunk before that."""
        document = await self._chunks.find_one_and_update({"_id": digest}, {"$inc": {"refs": refs}}, session=session)
        return Chunk.read(document) if document else None

    async def keep(self, digest: Digest, session: Session) -> Chunk | None:
        """Call a dead chunk lost that pages hold, so that it is not removed; the chunk before that."""
        document = await self._chunks.find_one_and_update(
            {"_id": digest, "state": "dead"},
            {"$set": {"state": "lost", "blobs": []}, "$unset": {"adding": ""}, "$currentDate": {"at": True}},
            session=session,
        )
        return Chunk.read(document) if document else None

    async def insert_lost(self, digest: Digest, size: int, session: Session) -> None:
        """A document for a chunk that pages hold although there is none. Raises DuplicateKey if there is."""
        document = {"size": size, "state": "lost", "gen": new_generation(), "blobs": [], "refs": 0}
        await self._chunks.update_one(
            {"_id": digest, "gen": None}, {"$set": document, "$currentDate": {"at": True}}, upsert=True, session=session
        )


def _by_count(references: Mapping[Digest, int]) -> Iterator[tuple[int, list[Digest]]]:
    """The digests that have the same count, for each count."""
    for count in sorted(set(references.values())):
        yield count, sorted(digest for digest, number in references.items() if number == count)


def _as_seen(chunk: Chunk) -> Document:
    return {"_id": chunk.digest, "gen": chunk.generation, "blobs": written_blobs(chunk.blobs)}
