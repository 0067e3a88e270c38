"""The life of a chunk in the real code and a real database, in interleavings that a test chooses.

One store of nodes in memory, one more than each chunk has blobs, and those who work in it at once:
writers, a deleter, collectors, a sweeper, a mover and a reader.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass
from typing import Literal, get_args

from hypothesis import strategies as st

from app.errors import UploadInterrupted
from app.models.catalog import Catalog
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.files import Files
from app.models.ledger import Ledger
from app.models.mending import Mending
from app.models.nodes import NodeEntry, Nodes, Wish
from app.models.pages import Pages
from app.store.store import Store
from app.streams.buffers import BufferPool
from app.streams.dedupe import Deduper, WritePolicy
from app.streams.egress import Egress
from app.streams.hasher import Hasher
from app.streams.ingest import MOST_BUFFERS, Stages
from app.streams.reader import ChunkReader
from app.streams.splitter import Splitter
from app.types import ONE_COPY, Digest, File, FileId, NodeId, Redundancy
from app.upkeep.check import Checker
from app.upkeep.collector import Collector
from app.upkeep.mover import Mover
from app.upkeep.pace import Pace, Silence
from app.upkeep.sweeper import Sweeper
from app.upkeep.tending import Tending
from tests.conformance.nodes import MemoryNode
from tests.interleavings.scheduler import Body, GrantedLocks, SteppedCluster, Turn, reach
from tests.models.builders import recount

COLLECTIONS = ("chunks", "pages", "files", "uploads", "tallies", "tally_deltas", "upkeep", "nodes")

SIZE = 4
"""Bytes of a chunk."""

PAGE = 2
"""Chunks of a full page, and of a batch."""

AT_ONCE = -3600
"""Grace and expiry of the collectors, in seconds: an hour ahead, what happens next is old already."""


def _chunk(letter: str) -> bytes:
    """Four bytes that the letter stands for. Their digest begins with 0, so that one folder holds all blobs."""
    candidates = (f"{letter}{number:03x}".encode() for number in itertools.count())
    return next(chunk for chunk in candidates if hashlib.sha256(chunk).digest()[0] == 0)


CHUNKS = {letter: _chunk(letter) for letter in "abcdef"}

KEPT, DOOMED = "ab", "cd"
"""What two files hold that are there at the start. The second is deleted."""


def bytes_of(letters: str) -> bytes:
    return b"".join(CHUNKS[letter] for letter in letters)


def digest_of(letter: str) -> Digest:
    return Digest(hashlib.sha256(CHUNKS[letter]).digest())


Reason = Literal["none", "drain", "rebalance"]
"""Why a mover moves what it does: because a test says so, or because a node is to be emptied, or chunks kept
otherwise."""

DRAINED = NodeId("node1")


@dataclass(frozen=True)
class Upload:
    content: str
    deleted: bool
    """Whether its writer deletes the file as soon as it is committed."""


@dataclass(frozen=True)
class Plan:
    """Who there is. `given_up` are chunks that an upload made live and never committed, `moved` those
    that the mover moves, for this `reason`; collectors with `expiring` end uploads that go on."""

    uploads: tuple[Upload, ...]
    given_up: str
    moved: str
    reason: Reason
    expiring: tuple[bool, ...]


uploads = st.builds(Upload, st.sampled_from(["e", "ef", "ce", "cd", "efc"]), st.booleans())
plans = st.builds(
    Plan,
    st.lists(uploads, min_size=2, max_size=3).map(tuple),
    st.sampled_from(["", "e"]),
    st.sampled_from(["a", "c", "ea", "ce"]),
    st.sampled_from(get_args(Reason)),
    st.lists(st.booleans(), min_size=1, max_size=2).map(tuple),
)
turns = st.builds(Turn, st.integers(0, 8), st.sampled_from([1, 1, 1, 2, 2, 3, 4, 6, 9, 0]))
schedules = st.lists(turns, max_size=60) | st.lists(turns, min_size=25, max_size=60)
Schedule = list[Turn]


class House:
    """One store. What its files should hold is in their names; `acknowledged` are those that somebody
    was told of and did not delete."""

    def __init__(
        self, database: Database, hasher: Hasher, redundancy: Redundancy = ONE_COPY, other: Redundancy | None = None
    ) -> None:
        """`other` is what the mover recasts chunks to; without it, it adds copies."""
        self.database = database
        self.hasher = hasher
        self.other = other
        count = max(redundancy.total, other.total if other else 0) + 1
        self.nodes = [MemoryNode(f"node{number + 1}") for number in range(count)]
        self.cluster = SteppedCluster(self.nodes)
        self.chunks, pages, mending = Chunks(database), Pages(database), Mending(database)
        self.checker = Checker(database, self.cluster, hasher)
        self.deduper = Deduper(
            self.chunks, mending, self.cluster, GrantedLocks(), Splitter(hasher), WritePolicy(redundancy)
        )
        pool = BufferPool(8 * MOST_BUFFERS * SIZE, MOST_BUFFERS)
        reader = ChunkReader(self.cluster, hasher)
        stages = Stages(pool, hasher, self.deduper, self.chunks, reader, Ledger(database), 1 << 20)
        egress = Egress(pages, self.chunks, self.cluster, hasher)
        self.store = Store(stages, egress, Files(database), pages, Catalog(database))
        self.acknowledged: set[FileId] = set()
        self.deleted: set[FileId] = set()

    async def begin(self, plan: Plan) -> None:
        await asyncio.gather(*(self.database[name].delete_many({}) for name in COLLECTIONS))
        entries = [NodeEntry(node.id, node.id, f"memory:{node.id}") for node in self.nodes]
        await asyncio.gather(*map(Nodes(self.database).register, entries))
        self.kept, self.doomed, _ = await asyncio.gather(
            self.put(KEPT),
            self.put(DOOMED),
            self.deduper.store({digest_of(letter): CHUNKS[letter] for letter in plan.given_up}),
        )
        self.acknowledged.add(self.kept.id)

    async def put(self, content: str) -> File:
        async with self.store.upload() as upload:
            await upload.begin_file(content, "x/y")
            await upload.write(bytes_of(content))
            await upload.end_file()
            return (await upload.commit()).files[0]

    async def get(self, file: File) -> bytes:
        return b"".join([bytes(piece) async for piece in self.store.read(file, 0, file.size)])

    # Actors

    def actors(self, plan: Plan) -> dict[str, Body]:
        bodies: dict[str, Body] = {}
        for number, upload in enumerate(plan.uploads):
            bodies[f"writer{number} of {upload.content}"] = lambda upload=upload: self.write(upload)
        for number, expiring in enumerate(plan.expiring):
            bodies[f"collector{number}"] = lambda expiring=expiring: self.collect(expiring)
        return bodies | {
            "deleter": lambda: self.delete(self.doomed),
            "sweeper": self.sweep,
            "mover": lambda: self.move(plan.moved) if plan.reason == "none" else self.tend(plan.moved, plan.reason),
            "reader": self.read,
        }

    async def write(self, upload: Upload) -> None:
        try:
            file = await self.put(upload.content)
        except UploadInterrupted:
            return
        self.acknowledged.add(file.id)
        if upload.deleted:
            await reach("acknowledged")
            await self.delete(file)

    async def delete(self, file: File) -> None:
        self.acknowledged.discard(file.id)
        await self.store.delete(file.id)
        self.deleted.add(file.id)

    async def collect(self, expiring: bool) -> None:
        collector = Collector(self.database, self.cluster, AT_ONCE, AT_ONCE if expiring else 86_400)
        await collector.run(Pace(), Silence(), sweep=False)

    async def sweep(self) -> None:
        for _ in range(2):
            await Sweeper(self.database, self.cluster).sweep(0)

    async def move(self, letters: str) -> None:
        for digest in map(digest_of, letters):
            chunk = (await self.chunks.find([digest])).get(digest)
            if chunk and chunk.state == "live":
                await reach("chosen")
                mover = Mover(self.database, self.cluster, self.hasher)
                others = sorted({node.id for node in self.nodes} - set(chunk.nodes))
                if digest == digest_of(letters[0]):
                    await mover.move(chunk, chunk.blobs[-1], others[0])
                elif self.other:
                    nodes = [node.id for node in self.nodes[: self.other.total]]
                    await mover.recast(chunk, chunk.blobs, nodes, self.other)
                else:
                    await mover.add(chunk, others[:1])

    async def tend(self, letters: str, reason: Reason) -> None:
        """A step of a drain, or of a rebalance, twice, as of two servers that are at it one after the other."""
        tending = Tending(self.database, self.cluster, self.hasher)
        if reason == "drain":
            await self.drain()
        chore = tending.drain() if reason == "drain" else tending.rebalance(self.other or Redundancy(1, 1))
        for _ in range(2):
            found = await self.chunks.find(map(digest_of, letters))
            await chore.look()
            await reach("chosen")
            await chore.tend([chunk for chunk in found.values() if chore.level(chunk) is not None])

    async def drain(self) -> None:
        """From now on the node is to be emptied. Those who have chosen it already go on with it."""
        registry = Nodes(self.database)
        await registry.change(DRAINED, Wish(use="draining"))
        self.cluster.know(await registry.entries())

    async def read(self) -> None:
        for _ in range(2):
            assert await self.get(self.kept) == bytes_of(KEPT)

    # Checks

    async def check(self, plan: Plan) -> None:
        """Files read back whatever has happened; when what is left was collected, there is nothing else. A node
        that is drained is empty in the end."""
        await recount(self.database)
        await self._check_files()
        await Collector(self.database, self.cluster, 0, AT_ONCE).run(Pace(), Silence(), sweep=True)
        if plan.reason == "drain":
            await self._drain()
        await self._check_files()
        report = await self.checker.run(Silence(), read_data=True)
        assert report.findings == []
        chunks = [chunk async for some in self.chunks.stream(0, 255) for chunk in some]
        assert [chunk for chunk in chunks if chunk.state != "live" or not chunk.refs or chunk.adding] == []
        assert report.blobs == sum(len(chunk.blobs) for chunk in chunks)
        assert all(chunk.lacking <= 0 for chunk in chunks)
        assert await self.database["pages"].find({"refs": 0}) == []
        assert await self.database["uploads"].find({}) == []

    async def _drain(self) -> None:
        drain = Tending(self.database, self.cluster, self.hasher).drain()
        await self.drain()
        await drain.look()
        left = [chunk for chunk in await self.chunks.after(b"", 100) if drain.level(chunk) is not None]
        assert (await drain.tend(left)).chunks == len(left)
        assert [node.blobs for node in self.nodes if node.id == DRAINED] == [{}]

    async def _check_files(self) -> None:
        files = [file async for some in Files(self.database).stream() for file in some]
        ids = {file.id for file in files}
        assert self.acknowledged <= ids
        assert not self.deleted & ids
        for file in files:
            assert await self.get(file) == bytes_of(file.name)
