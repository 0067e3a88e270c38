"""The synthetic population is what the code itself would have written, and the measurement of it runs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from rich.console import Console

from app.models.database import Database
from app.models.files import new_file_id
from app.types import PAGE_CHUNKS, Redundancy
from bench.documents import chunk_documents, file_of, page_of
from bench.http import MIB
from bench.metadata import (
    COMMIT,
    FILES,
    LIST,
    LOOKUP,
    PAGES,
    REDUNDANCIES,
    Footprint,
    Population,
    Timings,
    arithmetic,
    footprint,
    footprints_table,
    insert_files,
    insert_pages,
    per_tib,
    timings_table,
)
from tests.conftest import OpenStore
from tests.streams.tools import put
from tests.support import Databases

pytestmark = pytest.mark.anyio

FOOTPRINTS = {
    "1": Footprint(1000, 195_000, 80_000, 60_000),
    "2": Footprint(1000, 245_000, 100_000, 60_000),
    "ec:4+2": Footprint(1000, 776_000, 400_000, 60_000),
    PAGES: Footprint(10, 360_820, 409_000, 600),
    FILES: Footprint(1000, 308_000, 100_000, 200_000),
}


def shape(document: dict[str, Any]) -> dict[str, Any]:
    """Fields with the types of what is in them."""

    def kind(value: Any) -> Any:
        if isinstance(value, list):
            return [kind(each) for each in value]
        return shape(value) if isinstance(value, dict) else type(value).__name__

    return {name: kind(value) for name, value in sorted(document.items())}


@pytest.mark.parametrize("redundancy", REDUNDANCIES)
async def test_a_synthetic_chunk_is_one_that_an_upload_writes(
    open_store: OpenStore, tmp_path: Path, redundancy: str
) -> None:
    nodes = tuple(str(tmp_path / f"node{number}") for number in range(1, 7))
    async with open_store(redundancy=redundancy, nodes=nodes) as parts:
        await put(parts, os.urandom(MIB))
        database = parts.store._stages.ledger._database
        (written,) = await database["chunks"].find({})
    (made,) = chunk_documents(1, refs=1, redundancy=Redundancy.parse(redundancy))
    assert shape(made) == shape(written)
    assert len(bson.encode(made)) == len(bson.encode(written))


async def test_synthetic_pages_and_files_are_what_an_upload_writes(open_store: OpenStore) -> None:
    async with open_store() as parts:
        await put(parts, os.urandom(MIB))
        database = parts.store._stages.ledger._database
        page = page_of(chunk_documents(1))
        await insert_pages(database, [page])
        await insert_files(database, [file_of(new_file_id(), "a", [page], datetime.now(UTC))])
        for name in ("pages", "files"):
            written, made = await database[name].find({})
            assert shape(made) == shape(written)


async def test_a_population_has_as_many_of_everything_as_it_should_and_answers(
    database: Database, databases: Databases
) -> None:
    population = await Population.make(database, 1100)
    counted = {name: len(await database[name].find({})) for name in ("chunks", "pages", "files")}
    assert counted == {"chunks": 1100, "pages": 2, "files": 1100}
    assert await population.look_up() > 0
    assert await population.list_files() > 0
    assert await population.commit() > 0
    assert len(await database["files"].find({"name": "committed"})) == 1
    with databases.client() as client:
        measured = footprint(client, database._database.name, "chunks")
    assert measured.documents == 1100 + PAGE_CHUNKS
    assert 150 < measured.bson / measured.documents < 250
    assert measured.data > 0
    assert measured.indexes > 0


def test_a_tib_is_its_chunks_and_their_pages() -> None:
    assert per_tib(FOOTPRINTS, "1") == (1 << 20) * (140 + 40_960 / 1024)
    assert arithmetic(FOOTPRINTS)[2] == (
        "A TiB with redundancy ec:4+2: 1,048,576 chunks x (460 bytes + 40 of their pages) = 500.0 MiB"
    )


def test_the_tables_tell_bytes_of_each_and_ratios_of_medians() -> None:
    timings = Timings()
    for work in (LOOKUP, COMMIT, LIST):
        for few, many in ((0.001, 0.002), (0.003, 0.003), (0.002, 0.009)):
            timings.add(work, 1000, few)
            timings.add(work, 5000, many)
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(footprints_table(FOOTPRINTS), timings_table(timings, 1000, 5000))
    rows = {
        line.split("│")[0].strip(): [cell.strip() for cell in line.split("│")[1:]] for line in capture.get().split("\n")
    }
    assert rows["chunks, redundancy 2"] == ["1,000", "245", "100", "60", "160"]
    assert rows["files"] == ["1,000", "308", "100", "200", "300"]
    assert rows[COMMIT] == ["2.00", "3.00", "1.50"]
