"""What the tests of upkeep share: a store with a collector and a checker that are run by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.api.app import Parts
from app.models.database import Database
from app.models.nodes import Nodes, Wish
from app.models.runs import Collected
from app.nodes.cluster import Cluster
from app.types import File, NodeId
from app.upkeep.check import open_checker
from app.upkeep.collector import Collector
from app.upkeep.findings import Report
from app.upkeep.pace import Pace, Silence
from app.upkeep.schedule import Times
from app.upkeep.tending import Tending
from tests.conftest import OpenStore
from tests.streams.tools import put

COLLECTIONS = ("files", "pages", "chunks", "uploads")


@dataclass(frozen=True)
class Upkept:
    """A store in which nothing goes on by itself, but that pages of deleted files are released."""

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

    def tending(self) -> Tending:
        return Tending(self.database, self.cluster, self.parts.store._stages.hasher)

    async def drain(self, *nodes: str) -> None:
        for node in nodes:
            assert await Nodes(self.database).change(NodeId(node), Wish(use="draining"))

    async def placed(self) -> list[set[str]]:
        """The nodes of each chunk."""
        chunks = await self.database["chunks"].find({})
        nodes = [[blob["node"] for blob in chunk["blobs"]] for chunk in chunks]
        assert all(len(each) == len(set(each)) for each in nodes), "two copies on one node"
        return [set(each) for each in nodes]


RESTING = Times(mend=1e6, tend=1e6)
"""Nothing but collecting goes on by itself."""


@asynccontextmanager
async def upkept(
    open_store: OpenStore, tmp_path: Path, times: Times = RESTING, **settings: Any
) -> AsyncIterator[Upkept]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.server.TIMES", times)
        async with open_store(gc_interval=0, **settings) as parts:
            stages = parts.store._stages
            yield Upkept(parts, stages.ledger._database, stages.reader._cluster, tmp_path / "data" / "nodes")
