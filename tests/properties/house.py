"""The store that all examples share, how a test reckons what it holds, and how machines are played on it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from app.server import Assignment, open_parts
from app.types import ChunkRef, Digest, Page, PageId
from app.upkeep.collector import Collector
from app.upkeep.schedule import Times
from tests.support import EFFORT, Databases

SIZE, PAGE, BATCH = 8, 3, 2
"""Bytes of a whole chunk, chunks of a full page, chunks hashed together."""

COLLECTIONS = (
    *("chunks", "pages", "files", "uploads", "tallies", "tally_deltas"),
    *("buckets", "bucket_stripes", "upload_sessions", "upload_parts"),
)

Held = dict[Digest, bytes]


def cut(content: bytes, size: int = SIZE) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def digest_of(chunk: bytes) -> Digest:
    return Digest(hashlib.sha256(chunk).digest())


def chunks_of(*contents: bytes) -> Held:
    return {digest_of(chunk): chunk for content in contents for chunk in cut(content)}


def pages_of(content: bytes) -> dict[PageId, Held]:
    pages = [[ChunkRef(digest_of(chunk), len(chunk)) for chunk in cut(run)] for run in cut(content, PAGE * SIZE)]
    chunks = chunks_of(content)
    return {Page.of(refs).id: {ref.digest: chunks[ref.digest] for ref in refs} for refs in pages}


def size_of(chunks: Held) -> int:
    return sum(map(len, chunks.values()))


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let chunks and pages be small, and pages be released only when a test does so."""
    for name, value in {"chunker.CHUNK_SIZE": SIZE, "buffers.CHUNK_SIZE": SIZE, "ingest.PAGE_CHUNKS": PAGE}.items():
        monkeypatch.setattr(f"app.streams.{name}", value)
    monkeypatch.setattr("app.streams.ingest.BATCH", BATCH)
    monkeypatch.setattr("app.server.TIMES", Times(collect=1e6, mend=1e6, tend=1e6))


class House:
    """The store of all examples. Database and directories stay; parts are opened and closed."""

    def __init__(self, runner: asyncio.Runner, assignment: Assignment) -> None:
        self.runner = runner
        self._assignment = assignment
        self._nodes = assignment.settings.data_dir / "nodes"

    async def open(self) -> None:
        self._stack = AsyncExitStack()
        faces = await self._stack.enter_async_context(open_parts(self._assignment))
        self.store, self.s3, self.uploads = faces.api.store, faces.s3, faces.api.uploads
        self.stages = self.store._stages
        self.database = self.stages.ledger._database

    async def close(self) -> None:
        await self._stack.aclose()

    async def empty(self) -> None:
        for name in COLLECTIONS:
            await self.database[name].delete_many({})
        for path in [*self._nodes.glob("*/??/*"), *self._nodes.glob("*/quarantine/*")]:
            path.unlink()

    def blobs(self) -> dict[Digest, Path]:
        """What lies on the nodes: of each chunk one blob at the most."""
        paths = list(self._nodes.glob("*/??/*"))
        found = {Digest(bytes.fromhex(path.name[:64])): path for path in paths}
        assert len(found) == len(paths)
        return dict(sorted(found.items()))

    async def ids(self, collection: str) -> set[Any]:
        return {document["_id"] for document in await self.database[collection].find({})}

    def collector(self, *, expired: bool = False) -> Collector:
        return Collector(self.database, self.stages.reader._cluster, 0, 0 if expired else 86_400)


class Machine(RuleBasedStateMachine):
    """Whose steps are `awaited`."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house


def awaited(step: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let a step of the machine be a coroutine."""

    @functools.wraps(step)
    def run(self: Machine, **drawn: Any) -> None:
        self._house.runner.run(step(self, **drawn))

    return run


def play(machine: Callable[[House], Machine], databases: Databases, directory: Path, programs: int, steps: int) -> None:
    """Try that many random programs of steps, or as often as many as a search is asked for."""
    effort = settings(
        max_examples=programs * EFFORT,
        stateful_step_count=steps,
        derandomize=False,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with databases.fresh() as name, asyncio.Runner() as runner:
        house = House(runner, databases.assignment(name, directory, redis=False, gc_interval=0))
        runner.run(house.open())
        try:
            run_state_machine_as_test(lambda: machine(house), settings=effort)  # type: ignore[arg-type]
        finally:
            runner.run(house.close())
