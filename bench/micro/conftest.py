"""What micro-benchmarks share: one event loop, one database with chunks in it, and rates of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from app.embedded import mongod
from app.models.database import Database, open_database
from app.models.meta import prepare
from app.models.nodes import NodeEntry, Nodes
from app.types import Digest
from bench.compare.systems import mongodb
from bench.documents import batches, chunk_documents, nodes_for
from bench.http import MIB

POPULATION = 50_000
"""Chunk documents that are there before anything is looked up or committed."""

_RATES = pytest.StashKey[list[tuple[str, str, float]]]()

T = TypeVar("T")
Measure = Callable[[int, Callable[[], Any]], Any]


@pytest.fixture
def measure(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Measure:
    """Measures a function that goes through so many bytes, whose rate is told in the end; gives its result."""

    def measured(size: int, work: Callable[[], T]) -> T:
        result: T = benchmark(work)
        if benchmark.stats:
            rate = size / 1e6 / benchmark.stats.stats.median
            benchmark.extra_info["MB/s"] = round(rate)
            request.config.stash.setdefault(_RATES, []).append((benchmark.group or "", benchmark.name, rate))
        return result

    return measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The same medians as MB a second, and each by the fastest of its group."""
    rates = config.stash.get(_RATES, [])
    for group in dict.fromkeys(group for group, _, _ in rates):
        terminalreporter.write_sep("-", f"{group}: MB/s, by the fastest", bold=True)
        rows = sorted(((rate, name) for each, name, rate in rates if each == group), reverse=True)
        for rate, name in rows:
            terminalreporter.write_line(f"{name.removeprefix('test_'):60}{rate:12,.0f}{rate / rows[0][0]:8.3f}")


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The kind of event loop that the server runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.get_loop()


@pytest.fixture(scope="session")
def database(loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A prepared database on the embedded mongod, with `POPULATION` chunks."""
    stack = AsyncExitStack()

    async def opened(url: str) -> Database:
        database = await stack.enter_async_context(open_database(url, "mini_s3", initiate=mongod.INITIATE))
        await prepare(database)
        for node in nodes_for():
            await Nodes(database).register(NodeEntry(node, node, f"file:///{node}"))
        for documents in batches(chunk_documents(POPULATION)):
            await database["chunks"].insert_many(documents)
        return database

    with mongodb(tmp_path_factory.mktemp("mongo")) as (url, _):
        try:
            yield loop.run_until_complete(opened(url))
        finally:
            loop.run_until_complete(stack.aclose())


@pytest.fixture(scope="session")
def known(database: Database, loop: asyncio.AbstractEventLoop) -> list[Digest]:
    """Digests of chunks that are stored, from everywhere in the index."""
    sample = [{"$sample": {"size": 2048}}, {"$project": {"_id": 1}}]
    found = loop.run_until_complete(database["chunks"].aggregate(sample))
    return list(dict.fromkeys(Digest(document["_id"]) for document in found))


def pieces(data: bytes, size: int) -> list[bytes]:
    """The body as it comes from the socket."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def amount(size: int) -> str:
    """For names: 16 MiB, 64 KiB."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"
