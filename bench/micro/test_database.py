"""What a batch and a commit cost at the database, beside its shortest round trip and its shortest durable write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from app.models.chunks import Chunks
from app.models.database import Database
from app.models.files import new_file_id
from app.models.ledger import Hold, Ledger
from app.types import ChunkRef, ContentId, Digest, File, Page, PageRef
from bench.documents import chunk_documents
from bench.http import MIB

ROUNDS = 50

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Run:
    return loop.run_until_complete


@pytest.fixture(params=[16, 1024])
def count(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> int:
    benchmark.group = f"lookup of {request.param}"
    number: int = request.param
    return number


def test_lookup_known(
    benchmark: BenchmarkFixture, run: Run, database: Database, known: list[Digest], count: int
) -> None:
    chunks = Chunks(database)
    found = benchmark(lambda: run(chunks.find(known[:count])))
    assert found.keys() == set(known[:count])


def test_lookup_unknown(benchmark: BenchmarkFixture, run: Run, database: Database, count: int) -> None:
    chunks = Chunks(database)
    unknown = [Digest(os.urandom(32)) for _ in range(count)]
    assert benchmark(lambda: run(chunks.find(unknown))) == {}


@pytest.mark.usefixtures("count")
def test_lookup_floor_ping(benchmark: BenchmarkFixture, run: Run, database: Database) -> None:
    benchmark(lambda: run(database.ping()))


@pytest.mark.benchmark(group="commit")
@pytest.mark.parametrize(("files", "chunks"), [(1, 1), (1, 16), (1, 1024), (32, 1)])
def test_commit(benchmark: BenchmarkFixture, run: Run, database: Database, files: int, chunks: int) -> None:
    """Files of one new page each, all at once; every round has other ones."""
    ledger = Ledger(database)

    async def made() -> list[Page]:
        documents = list(chunk_documents(files * chunks))
        await database["chunks"].insert_many(documents)
        refs = [ChunkRef(document["_id"], document["size"]) for document in documents]
        return [Page.of(refs[at : at + chunks]) for at in range(0, len(refs), chunks)]

    async def commit(pages: list[Page]) -> None:
        await asyncio.gather(*(_commit(ledger, page) for page in pages))

    before = run(database["files"].count({}))
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the library leaves it out
        lambda pages: run(commit(pages)), setup=lambda: ((run(made()),), {}), rounds=ROUNDS, warmup_rounds=2
    )
    assert run(database["files"].count({})) >= before + files


@pytest.mark.benchmark(group="commit")
def test_commit_floor_ping(benchmark: BenchmarkFixture, run: Run, database: Database) -> None:
    benchmark(lambda: run(database.ping()))


@pytest.mark.benchmark(group="commit")
def test_commit_floor_insert(benchmark: BenchmarkFixture, run: Run, database: Database) -> None:
    """One small document, in the journal before the answer."""
    benchmark(lambda: run(database["floor"].insert_one({"size": MIB})))


async def _commit(ledger: Ledger, page: Page) -> None:
    pages = (PageRef(page.id, page.size, len(page.chunks)),)
    file = File(new_file_id(), "a", page.size, "x/y", ContentId("0" * 64), datetime.now(UTC), "local", pages)
    await ledger.commit_files(Hold(), [file], [page])
