"""Mending what a check found, beside a working server.

Counts first, for a chunk that counts too few holders may be collected at any moment; then bytes; then,
if no bytes are missing any more, what nobody needs. A wrong count is mended by adding the difference
that the check found, which stays right whatever happens meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.coord.locks import LocalLocks
from app.errors import NodeError, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database, DuplicateKey
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.dedupe import Deduper, WritePolicy
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader
from app.streams.splitter import Splitter
from app.types import Blob, Digest, NodeId
from app.upkeep.findings import OF_BLOBS, UNREADABLE, Finding, Report
from app.upkeep.mover import Mover
from app.upkeep.pace import Progress
from app.upkeep.sweeper import Sweeper

log = get_logger(__name__)


class Repair:
    """Calls raise DatabaseUnavailable."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster
        self._mover = Mover(database, cluster, hasher)
        self._reader = ChunkReader(cluster, hasher)
        self._splitter = Splitter(hasher)
        self._sweeper = Sweeper(database, cluster)

    async def run(self, report: Report, progress: Progress, *, force: bool) -> None:
        """Mend the findings of a report and note which are mended."""
        progress.stage("repair", len(report.findings))
        pages_missing = any(finding.kind in ("page-missing", "page-damaged") for finding in report.findings)
        for finding in sorted(report.findings, key=_urgency):
            if finding.kind == "unnamed-blob":
                continue
            if finding.kind == "chunk-refs" and finding.drift < 0 and pages_missing and not force:
                continue  # What the missing pages hold is unknown; it must not be collected.
            if await self._mend(finding):
                report.mended.append(finding)
            progress.advance(1)
        missing = any(finding.kind in UNREADABLE or finding.kind == "node-absent" for finding in report.left)
        if force or not missing:
            await self._delete_unnamed(report, progress)

    async def _mend(self, finding: Finding) -> bool:
        try:
            if finding.page:
                return finding.kind == "page-refs" and await self._mending.adjust_page(finding.page, finding.drift)
            if finding.blob:
                return finding.kind in OF_BLOBS and await self._replace(finding.blob)
            if finding.digest:
                return await self._mend_chunk(finding, finding.digest)
            if finding.totals:
                await self._mending.adjust_tally(finding.totals)
        except (DuplicateKey, NoSpace, NodesUnavailable) as error:
            log.warning("not mended", kind=finding.kind, error=error.message)
            return False
        return finding.totals is not None

    async def _mend_chunk(self, finding: Finding, digest: Digest) -> bool:
        if finding.kind == "chunk-refs":
            await self._mending.adjust_chunk(digest, finding.drift)
            return True
        if finding.kind == "chunk-missing":
            await self._mending.insert_lost(digest, finding.size, finding.expected)
        elif finding.kind == "chunk-copies":
            return await self._complete(digest)
        elif finding.kind == "chunk-dead":
            await self._mending.keep(digest)
        elif finding.kind != "chunk-lost":
            return False
        return await self._heal(digest)

    async def _complete(self, digest: Digest) -> bool:
        """Add the blobs that a chunk lacks."""
        chunk = (await self._chunks.find([digest])).get(digest)
        if chunk is None or chunk.state != "live":
            return chunk is None
        if chunk.lacking <= 0:
            return True
        nodes = self._cluster.place(digest, chunk.lacking, beside=chunk.nodes)
        return await self._mover.add(chunk, nodes) and len(nodes) == chunk.lacking

    async def _replace(self, bad: Blob) -> bool:
        """Put good blobs in the place of all bad ones of a chunk, or else call it lost; put those aside."""
        chunk = (await self._chunks.find([bad.digest])).get(bad.digest)
        if chunk is None or bad not in chunk.blobs:
            return chunk is None or chunk.state == "live"
        inspection = await self._reader.inspect(chunk, every=True)
        useless = inspection.of_kind("missing", "size", "wrong")
        if bad not in useless:
            return bad in inspection.of_kind("good")
        if inspection.data is not None:
            # A disk that refuses writes is tried again at times: then others do it.
            mended = await self._mover.replace(chunk, useless, self._instead_of(useless, chunk)) or (
                await self._mover.replace(chunk, useless, self._elsewhere(len(useless), chunk))
            )
        elif len(chunk.blobs) - len(useless) < chunk.redundancy.needed:
            left = inspection.of_kind("good", "unreachable")
            mended = await self._mending.lose(chunk, left) and await self._heal(chunk.digest)
        else:
            return False  # Blobs that can't be read just now may be good ones.
        for blob in useless:
            await self._put_aside(blob)
        return mended

    def _instead_of(self, useless: Sequence[Blob], chunk: Chunk) -> list[NodeId]:
        """Where good blobs go: to the nodes of the bad ones, if they take writes."""
        nodes = [blob.node for blob in useless if self._cluster.takes_writes(blob.node)]
        if lacking := len(useless) - len(nodes):
            nodes += self._elsewhere(lacking, chunk)
        return nodes

    def _elsewhere(self, count: int, chunk: Chunk) -> Sequence[NodeId]:
        return self._cluster.place(chunk.digest, count, beside=chunk.nodes)

    async def _heal(self, digest: Digest) -> bool:
        """Write a lost chunk again, from what is left of it or from any copy that is still on a node."""
        chunk = (await self._chunks.find([digest])).get(digest)
        if chunk is None or chunk.state == "live":
            return chunk is not None
        data = (await self._reader.inspect(chunk)).data
        if data is None:
            data = await self._stray(chunk)
        if data is None:
            return False
        policy = WritePolicy(chunk.redundancy, degraded=True)
        await Deduper(self._chunks, self._mending, self._cluster, LocalLocks(), self._splitter, policy).store(
            {digest: data}
        )
        return True

    async def _stray(self, chunk: Chunk) -> memoryview | None:
        for node in self._cluster.node_ids:
            try:
                listed = await self._cluster.list_blobs(node, chunk.digest[0])
            except NodeError:
                continue
            for stored in listed:
                if stored.blob.digest == chunk.digest and stored.finished:
                    ((verdict, data),) = await self._reader.judge([(stored.blob, chunk.size)])
                    if verdict == "good":
                        return data
        return None

    async def _put_aside(self, blob: Blob) -> None:
        """Quarantine a blob that is named no more."""
        chunk = (await self._mending.look_surely([blob.digest])).get(blob.digest)
        if chunk is None or blob not in chunk.named:
            try:
                await self._cluster.quarantine(blob)
            except NodeError as error:
                log.warning("bad blob left in its place", blob=blob.name, node=blob.node, error=error.message)

    async def _delete_unnamed(self, report: Report, progress: Progress) -> None:
        unnamed = [finding for finding in report.findings if finding.kind == "unnamed-blob" and finding.blob]
        gone = set()
        for first_byte in {finding.blob.digest[0] for finding in unnamed if finding.blob}:
            gone |= {stored.blob for stored in await self._sweeper.sweep(first_byte)}
        report.mended += [finding for finding in unnamed if finding.blob in gone]
        progress.advance(len(unnamed))


_ORDER = ("page-refs", "chunk-refs", "chunk-missing", "chunk-dead", *OF_BLOBS, "chunk-lost")


def _urgency(finding: Finding) -> int:
    return _ORDER.index(finding.kind) if finding.kind in _ORDER else len(_ORDER)
