"""Mending what a check found, beside a working server.

Counts first, for a chunk that counts too few holders may be collected at any moment; then bytes; then,
if no bytes are missing any more, what nobody needs. A wrong count is mended by adding the difference
that the check found, which stays right whatever happens meanwhile.
"""

from __future__ import annotations

from app.coord.locks import LocalLocks
from app.errors import BlobDamaged, BlobMissing, NodeError, NodesUnavailable, NoSpace
from app.logs import get_logger
from app.models.chunks import Chunk, Chunks
from app.models.database import Database, DuplicateKey
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.dedupe import Deduper
from app.streams.hasher import Hasher
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
        self._hasher = hasher
        self._mover = Mover(database, cluster)
        self._sweeper = Sweeper(database, cluster)
        self._deduper = Deduper(self._chunks, self._mending, cluster, LocalLocks())

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
        """Add the copies that a chunk lacks."""
        while chunk := (await self._chunks.find([digest])).get(digest):
            if chunk.state != "live":
                return False
            if len(chunk.blobs) >= chunk.copies:
                return True
            (node,) = self._cluster.place(chunk.digest, beside=[blob.node for blob in chunk.blobs])
            if not await self._mover.add(chunk, node):
                return False
        return True

    async def _replace(self, bad: Blob) -> bool:
        """Put another copy in the place of a bad blob, or else call the chunk lost; put the blob aside."""
        chunk = (await self._chunks.find([bad.digest])).get(bad.digest)
        if chunk is None or bad not in chunk.blobs:
            return chunk is None or chunk.state == "live"
        judged = {blob: await self._judge(blob, chunk.size) for blob in chunk.blobs}
        good = [blob for blob in chunk.blobs if judged[blob] is True]
        if bad in good:
            return True
        if good:
            mended = await self._mover.replace(chunk, bad, self._instead_of(bad, chunk), good)
        elif all(judged[blob] is False for blob in chunk.blobs):
            mended = await self._mending.lose(chunk) and await self._heal(chunk.digest)
        else:
            return False  # A copy can't be read just now: it may be the good one.
        for blob in chunk.blobs:
            if judged[blob] is False:
                await self._put_aside(blob)
        return mended

    def _instead_of(self, bad: Blob, chunk: Chunk) -> NodeId:
        """Where a good copy goes: to the node of the bad one if it takes writes."""
        if self._cluster.takes_writes(bad.node):
            return bad.node
        return self._cluster.place(chunk.digest, beside=[blob.node for blob in chunk.blobs])[0]

    async def _judge(self, blob: Blob, size: int) -> bool | None:
        """Whether the blob is good; None where its node can't tell."""
        try:
            data = await self._cluster.read(blob, size)
        except (BlobMissing, BlobDamaged):
            return False
        except NodeError:
            return None
        return await self._hasher.digests([data]) == [blob.digest]

    async def _heal(self, digest: Digest) -> bool:
        """Write a lost chunk again from any blob of it that is still on a node."""
        chunk = (await self._chunks.find([digest])).get(digest)
        if chunk is None or chunk.state == "live":
            return chunk is not None
        data = await self._rescued(chunk)
        if data is None:
            return False
        await self._deduper.store({digest: data})
        return True

    async def _rescued(self, chunk: Chunk) -> memoryview | None:
        for node in self._cluster.node_ids:
            try:
                listed = await self._cluster.list_blobs(node, chunk.digest[0])
            except NodeError:
                continue
            for stored in listed:
                if stored.blob.digest == chunk.digest and stored.finished:
                    data = await self._mover.good(stored.blob, chunk.size)
                    if data is not None:
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
