"""`check`: is everything there that was promised, and nothing else?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from app.models.database import Database
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.upkeep.blobs import BlobAudit
from app.upkeep.documents import DocumentAudit
from app.upkeep.findings import Report
from app.upkeep.pace import Progress
from app.upkeep.repair import Repair


class Checker:
    """Calls raise DatabaseUnavailable and SnapshotTooOld."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher) -> None:
        self._documents = DocumentAudit(database)
        self._blobs = BlobAudit(database, cluster, hasher)
        self._repair = Repair(database, cluster, hasher)

    async def run(
        self, progress: Progress, *, read_data: bool = False, repair: bool = False, force: bool = False
    ) -> Report:
        """Look at every document and every blob, beside a working server or without one.

        With `repair`, mend what can be mended and put bad blobs aside; nothing is deleted while
        bytes of a file are missing, except with `force`.
        """
        begun = monotonic()
        report = Report()
        await self._documents.run(report, progress)
        await self._blobs.run(report, progress, read_data=read_data)
        if report.findings:
            report.touched = await self._documents.touched(report)
        if repair:
            await self._repair.run(report, progress, force=force)
        report.seconds = monotonic() - begun
        return report


@asynccontextmanager
async def open_checker(database: Database, cluster: Cluster) -> AsyncIterator[Checker]:
    hasher = Hasher()
    try:
        yield Checker(database, cluster, hasher)
    finally:
        hasher.close()
