"""What the tests of upkeep share: a store with a collector and a checker that are run by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.api.app import Parts
from app.models.database import Database
from app.models.runs import Collected
from app.nodes.cluster import Cluster
from app.types import File
from app.upkeep.check import open_checker
from app.upkeep.collector import Collector
from app.upkeep.findings import Report
from app.upkeep.pace import Pace, Silence
from tests.conftest import OpenStore
from tests.streams.tools import put

COLLECTIONS = ("files", "pages", "chunks", "uploads")


@dataclass(frozen=True)
class Upkept:
    """A store whose own collector rests (only pages of deleted files are released by themselves)."""

    parts: Parts
    database: Database
    cluster: Cluster
    nodes: Path

    async def put(self, *contents: bytes) -> tuple[File, ...]:
        return (await put(self.parts, *contents)).files

    async def get(self, file: File) -> bytes:
        return b"".join([bytes(piece) async for piece in self.parts.store.read(file, 0, file.size)])

    async def gc(self, grace: float = 0, upload_expiry: float = 86_400) -> Collected:
        collector = Collector(self.database, self.cluster, grace, upload_expiry)
        return await collector.run(Pace(), Silence(), sweep=True)

    async def foresee(self, grace: float = 0, upload_expiry: float = 86_400) -> Collected:
        return await Collector(self.database, self.cluster, grace, upload_expiry).foresee(Silence())

    async def check(self, **how: bool) -> Report:
        async with open_checker(self.database, self.cluster) as checker:
            return await checker.run(Silence(), **how)

    async def counts(self) -> dict[str, int]:
        return {name: len(await self.database[name].find({})) for name in COLLECTIONS}

    def blobs(self) -> list[Path]:
        return sorted(self.nodes.glob("*/??/*"))

    async def age(self, collection: str, seconds: float) -> None:
        """Let documents be older than they are, by the database's clock."""
        change: Any = [{"$set": {"at": {"$subtract": ["$at", int(seconds * 1000)]}}}]
        await self.database[collection].update_many({}, change)


@asynccontextmanager
async def upkept(open_store: OpenStore, tmp_path: Path, **settings: Any) -> AsyncIterator[Upkept]:
    async with open_store(gc_interval=0, **settings) as parts:
        stages = parts.store._stages
        yield Upkept(parts, stages.ledger._database, stages.reader._cluster, tmp_path / "data" / "nodes")
