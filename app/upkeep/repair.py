"""Mending what a check found, beside a working server.

Counts first, for a chunk that counts too few holders may be collected at any moment; then bytes; then,
if no bytes are missing any more, what nobody needs. A wrong count is mended by adding the difference
that the check found, which stays right whatever happens meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from app.logs import get_logger
from app.models.chunks import Chunks
from app.models.database import Database, DuplicateKey
from app.models.mending import Mending
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.types import Blob, Digest
from app.upkeep.findings import OF_BLOBS, UNREADABLE, Finding, Report
from app.upkeep.pace import Progress
from app.upkeep.restorer import Restorer
from app.upkeep.sweeper import Sweeper

log = get_logger(__name__)

_AT_ONCE = 8
"""Chunks mended at the same time: each takes memory for itself and for its parities."""


class Repair:
    """Calls raise DatabaseUnavailable."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._restorer = Restorer(database, cluster, hasher)
        self._sweeper = Sweeper(database, cluster)

    async def run(self, report: Report, progress: Progress, *, force: bool) -> None:
        """Mend the findings of a report and note which are mended."""
        progress.stage("repair", len(report.findings))
        pages_missing = any(finding.kind in ("page-missing", "page-damaged") for finding in report.findings)
        findings = [finding for finding in report.findings if finding.kind != "unnamed-blob"]
        for _, alike in groupby(sorted(findings, key=_urgency), key=_urgency):
            # What missing pages hold is unknown; it must not be collected.
            spared = pages_missing and not force
            await self._mend_all([one for one in alike if not (spared and _releases(one))], report, progress)
        missing = any(finding.kind in UNREADABLE or finding.kind == "node-absent" for finding in report.left)
        if force or not missing:
            await self._delete_unnamed(report, progress)

    async def _mend_all(self, findings: Sequence[Finding], report: Report, progress: Progress) -> None:
        """Mend several at a time; what concerns the same chunk one after the other."""
        concerned: dict[object, list[Finding]] = {}
        for finding in findings:
            concerned.setdefault(finding.digest or finding.page, []).append(finding)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def mend(some: Sequence[Finding]) -> None:
            async with gate:
                for finding in some:
                    if await self._mend(finding):
                        report.mended.append(finding)
                    progress.advance(1)

        for outcome in await asyncio.gather(*map(mend, concerned.values()), return_exceptions=True):
            if outcome:
                raise outcome

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
        except DuplicateKey as error:
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
        return await self._restorer.heal(digest)

    async def _complete(self, digest: Digest) -> bool:
        """Add the blobs that a chunk lacks."""
        return (await self._restorer.complete(digest)).outcome in ("sound", "mended", "gone")

    async def _replace(self, bad: Blob) -> bool:
        """Put good blobs in the place of all bad ones of a chunk, or else call it lost; put those aside."""
        if await self._replaced(bad):
            return True
        restored = await self._restorer.restore(bad.digest)
        return bad in restored.good or await self._replaced(bad)

    async def _replaced(self, bad: Blob) -> bool:
        """Whether the chunk does without that blob: others may have mended it too."""
        chunk = (await self._chunks.find([bad.digest])).get(bad.digest)
        return chunk is None or (chunk.state == "live" and bad not in chunk.blobs)

    async def _delete_unnamed(self, report: Report, progress: Progress) -> None:
        unnamed = [finding for finding in report.findings if finding.kind == "unnamed-blob" and finding.blob]
        gone = set()
        for first_byte in {finding.blob.digest[0] for finding in unnamed if finding.blob}:
            gone |= {stored.blob for stored in await self._sweeper.sweep(first_byte)}
        report.mended += [finding for finding in unnamed if finding.blob in gone]
        progress.advance(len(unnamed))


def _releases(finding: Finding) -> bool:
    """Whether to mend it takes references away."""
    return finding.kind == "chunk-refs" and finding.drift < 0


_ORDER = ("page-refs", "chunk-refs", "chunk-missing", "chunk-dead", *OF_BLOBS, "chunk-lost")


def _urgency(finding: Finding) -> int:
    return _ORDER.index(finding.kind) if finding.kind in _ORDER else len(_ORDER)
