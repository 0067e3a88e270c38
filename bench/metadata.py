"""What a million chunks cost the database, and whether requests get dearer with them: `python -m bench.metadata`.

The documents are as the code writes them; their blobs are nowhere. They are measured on the disk for each
redundancy. Then the same calls are made beside a thousand documents and beside a million, in turns.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import sample
from statistics import median
from subprocess import SubprocessError
from time import perf_counter
from typing import Any

import click
import pymongo
from rich.console import Console
from rich.table import Table

from app.errors import MiniS3Error
from app.models.chunks import Chunks
from app.models.database import Database, open_database
from app.models.files import Cursor, Files, new_file_id
from app.models.ledger import Hold, Ledger
from app.models.meta import prepare
from app.models.nodes import NodeEntry, Nodes
from app.models.pages import Pages
from app.types import PAGE_CHUNKS, Digest, File, Page, Redundancy
from bench.compare.systems import mongodb, primary
from bench.documents import BATCH, batches, chunk_documents, file_of, nodes_for, page_of
from bench.http import MIB
from bench.server import ServerFailed
from bench.workspace import NoSpace, gib, workspace

REDUNDANCIES = ("1", "2", "ec:4+2")
PAGES, FILES = "pages", "files"

Client = pymongo.MongoClient[dict[str, Any]]

LOOKUP, COMMIT, LIST = "look up 16 chunks", "commit a page of 1,024 new chunks", "list 100 files"
_LOOKED_UP = 16
_LISTED = 100

_TIB = 1 << 20
"""Chunks of 1 MiB in a TiB."""

_COMMITTED = 1000
"""Files committed in one transaction: what ten times as many change does not fit into the embedded database's cache."""

_EACH = 1500
"""Bytes of disk for a chunk's documents of all redundancies together, with the database's journal."""

_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Footprint:
    """What a collection takes, in bytes: its documents as BSON, and on the disk these and the indexes."""

    documents: int
    bson: int
    data: int
    indexes: int

    @property
    def disk(self) -> float:
        """Bytes on the disk for each document."""
        return (self.data + self.indexes) / self.documents


@dataclass
class Timings:
    """Seconds by what was done and how many documents were there."""

    samples: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def add(self, work: str, count: int, seconds: float) -> None:
        self.samples.setdefault((work, count), []).append(seconds)

    def median(self, work: str, count: int) -> float:
        return median(self.samples[work, count])

    def ratio(self, work: str, few: int, many: int) -> float:
        """How many times as long it takes beside many documents."""
        return self.median(work, many) / self.median(work, few)


@dataclass
class Population:
    """A prepared database with as many chunks as files; `digests` are those of its chunks."""

    database: Database
    digests: Sequence[Digest]

    @classmethod
    async def make(cls, database: Database, count: int) -> Population:
        """Chunks of one copy in full pages, and as many files, of a page each, a second apart."""
        for node in nodes_for():
            await Nodes(database).register(NodeEntry(node, node, f"file:///{node}"))
        pages: list[Page] = []
        digests: list[Digest] = []
        for documents in batches(chunk_documents(count, refs=1), PAGE_CHUNKS * (BATCH // PAGE_CHUNKS)):
            await database["chunks"].insert_many(documents)
            digests += [document["_id"] for document in documents]
            made = [page_of(documents[at : at + PAGE_CHUNKS]) for at in range(0, len(documents), PAGE_CHUNKS)]
            await insert_pages(database, made)
            pages += made
        for at in range(0, count, _COMMITTED):
            numbers = range(at, min(at + _COMMITTED, count))
            await insert_files(database, [_file(number, pages[number % len(pages)]) for number in numbers])
        return cls(database, digests)

    async def look_up(self) -> float:
        """Seconds that it takes to find the chunks of a batch, from anywhere among all."""
        wanted = sample(self.digests, _LOOKED_UP)
        start = perf_counter()
        found = await Chunks(self.database).find(wanted)
        seconds = perf_counter() - start
        if found.keys() != set(wanted):
            raise RuntimeError("chunks were not found")
        return seconds

    async def commit(self) -> float:
        """Seconds that it takes to commit a file of a page of chunks that were stored just before, as those of
        an upload are."""
        documents = list(chunk_documents(PAGE_CHUNKS))
        await self.database["chunks"].insert_many(documents)
        page = page_of(documents)
        file = file_of(new_file_id(), "committed", [page], datetime.now(UTC))
        start = perf_counter()
        await Ledger(self.database).commit_files(Hold(), [file], [page])
        return perf_counter() - start

    async def list_files(self) -> float:
        """Seconds that it takes to list files from anywhere among all."""
        after = Cursor(_BEGIN + timedelta(seconds=secrets.randbelow(len(self.digests)) + _LISTED), new_file_id())
        start = perf_counter()
        found = await Files(self.database).newest(_LISTED, after, "")
        seconds = perf_counter() - start
        if len(found) != _LISTED:
            raise RuntimeError("files were not found")
        return seconds


async def insert_pages(database: Database, pages: Sequence[Page]) -> None:
    await database.transaction(lambda session: Pages(database).insert([(page, 1) for page in pages], session))


async def insert_files(database: Database, files: Sequence[File]) -> None:
    await database.transaction(lambda session: Files(database).insert([(file, 0) for file in files], session))


def _file(number: int, page: Page) -> File:
    return file_of(new_file_id(), f"backups/{number:012}.tar", [page], _BEGIN + timedelta(seconds=number))


@click.command()
@click.option("--count", default=1_000_000, show_default=True, type=click.IntRange(2048), help="Chunks, and files.")
@click.option("--few", default=1024, show_default=True, type=click.IntRange(1024), help="What that is compared with.")
@click.option("--rounds", default=30, show_default=True, type=click.IntRange(1), help="How often each call is made.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the database is.")
def main(count: int, few: int, rounds: int, parent: Path | None) -> None:
    """Measure the database of a store with a million chunks."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    try:
        with (
            workspace(count * _EACH + 1024 * MIB, parent) as folder,
            mongodb(folder / "mongo") as (url, _),
            primary(url) as client,
        ):
            footprints, timings = asyncio.run(_measure(url, client, (few, count), rounds, console))
    except (NoSpace, ServerFailed, SubprocessError, MiniS3Error, OSError) as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(footprints_table(footprints), "")
    for line in arithmetic(footprints):
        console.print(line, soft_wrap=True)
    console.print("", timings_table(timings, few, count))


async def _measure(
    url: str, client: Client, counts: Sequence[int], rounds: int, console: Console
) -> tuple[dict[str, Footprint], Timings]:
    few, many = counts
    footprints: dict[str, Footprint] = {}
    for redundancy in REDUNDANCIES:
        console.print(f"  {many:,} chunks of redundancy {redundancy} …")
        async with _opened(url, "chunks") as database:
            for documents in batches(chunk_documents(many, refs=1, redundancy=Redundancy.parse(redundancy))):
                await database["chunks"].insert_many(documents)
        footprints[redundancy] = footprint(client, "chunks", "chunks")
        client.drop_database("chunks")
    timings = Timings()
    async with _opened(url, "few") as small, _opened(url, "many") as large:
        console.print(f"  a store of {many:,} chunks and files …")
        populations = {few: await Population.make(small, few), many: await Population.make(large, many)}
        footprints |= {name: footprint(client, "many", name) for name in (PAGES, FILES)}
        console.print(f"  {rounds} rounds of calls …")
        for _ in range(rounds):
            for number, population in populations.items():
                timings.add(LOOKUP, number, await population.look_up())
                timings.add(LIST, number, await population.list_files())
                timings.add(COMMIT, number, await population.commit())
    return footprints, timings


@asynccontextmanager
async def _opened(url: str, name: str) -> AsyncIterator[Database]:
    async with open_database(url, name) as database:
        await prepare(database)
        yield database


def footprint(client: Client, store: str, collection: str) -> Footprint:
    """What MongoDB says of a collection, all of which is on the disk then."""
    client.admin.command("fsync")
    stats = client[store].command("collStats", collection)
    return Footprint(stats["count"], stats["size"], stats["storageSize"], stats["totalIndexSize"])


def footprints_table(footprints: dict[str, Footprint]) -> Table:
    """Bytes of each document."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    result.add_column("bytes of each")
    for heading in ("documents", "as BSON", "on disk", "its indexes", "together"):
        result.add_column(heading, justify="right")
    for name, each in footprints.items():
        sizes = (each.bson, each.data, each.indexes, each.data + each.indexes)
        title = name if name in (PAGES, FILES) else f"chunks, redundancy {name}"
        result.add_row(title, f"{each.documents:,}", *(f"{size / each.documents:,.0f}" for size in sizes))
    return result


def arithmetic(footprints: dict[str, Footprint]) -> list[str]:
    """What chunks of 1 MiB cost the database for each TiB, all different, in full pages and large files."""
    page = footprints[PAGES].disk / PAGE_CHUNKS
    return [
        f"A TiB with redundancy {each}: {_TIB:,} chunks x ({footprints[each].disk:,.0f} bytes + {page:,.0f} of their "
        f"pages) = {gib(per_tib(footprints, each))}"
        for each in REDUNDANCIES
    ]


def per_tib(footprints: dict[str, Footprint], redundancy: str) -> float:
    """Bytes on the database's disk for a TiB of chunks and the pages that list them."""
    return _TIB * (footprints[redundancy].disk + footprints[PAGES].disk / PAGE_CHUNKS)


def timings_table(timings: Timings, few: int, many: int) -> Table:
    """Medians in milliseconds."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    result.add_column("ms, median")
    for heading in (f"beside {few:,}", f"beside {many:,}", "ratio"):
        result.add_column(heading, justify="right")
    for work in (LOOKUP, COMMIT, LIST):
        cells = (f"{timings.median(work, count) * 1000:.2f}" for count in (few, many))
        result.add_row(work, *cells, f"{timings.ratio(work, few, many):.2f}")
    return result


if __name__ == "__main__":
    main()
