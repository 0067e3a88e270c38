"""What a page of a list costs, wherever it begins and however much a delimiter folds: `python -m bench.listing`.

The objects are documents only, of one file each, as the code writes them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from subprocess import SubprocessError
from time import perf_counter

import click
from rich.console import Console
from rich.table import Table

from app.errors import MiniS3Error
from app.models.database import Database, open_database
from app.models.files import Files, new_file_id
from app.models.meta import prepare
from app.models.objects import Objects, Position, Version
from app.store.listing import Listing, Query, list_folded
from app.types import ContentId, Entry, File
from bench.compare.systems import mongodb, primary
from bench.http import MIB
from bench.server import ServerFailed
from bench.workspace import NoSpace, workspace

_FOLDER = 1000
"""Objects in each folder."""

_BATCH = 10_000
_EACH = 1200
"""Bytes of disk for an object, with the database's journal."""


@dataclass(frozen=True)
class Page:
    """A page that is asked for: of which keys, and behind which."""

    title: str
    query: Query
    after: Position


def pages(count: int) -> list[Page]:
    """Begin, middle and end of a bucket of so many keys, and what folds."""
    middle, last = _key(count // 2), _key(count - _FOLDER - 1)
    return [
        Page("the first 1,000 keys", Query(), Position()),
        Page("1,000 keys from the middle", Query(), Position(middle)),
        Page("the last 1,000 keys", Query(), Position(last)),
        Page("a folder, by its prefix", Query(prefix=middle.partition("/")[0] + "/"), Position()),
        Page("folders, each folding 1,000 keys", Query(delimiter="/"), Position()),
    ]


async def listed(database: Database, bucket: str, page: Page) -> Listing[Version]:
    objects = Objects(database)

    async def fetch(position: Position, limit: int) -> Sequence[Version]:
        return await objects.page(bucket, page.query.prefix, position, limit)

    return await list_folded(page.query, page.after, fetch, lambda version: Position(version.key))


async def populate(database: Database, bucket: str, count: int) -> None:
    for start in range(0, count, _BATCH):
        await _insert(database, [_file(bucket, number) for number in range(start, min(start + _BATCH, count))])


async def _insert(database: Database, files: Sequence[File]) -> None:
    await database.transaction(lambda session: Files(database).insert([(file, 0) for file in files], session))


@click.command()
@click.option("--count", default=1_000_000, show_default=True, type=click.IntRange(4 * _FOLDER), help="Keys.")
@click.option("--few", default=4 * _FOLDER, show_default=True, type=click.IntRange(4 * _FOLDER), help="Compared with.")
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1), help="How often each page is listed.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the database is.")
def main(count: int, few: int, rounds: int, parent: Path | None) -> None:
    """Measure lists of a bucket with a million keys."""
    console = Console(highlight=False)
    try:
        with (
            workspace(count * _EACH + 1024 * MIB, parent) as folder,
            mongodb(folder / "mongo") as (url, _),
            primary(url),
        ):
            seconds = asyncio.run(_measure(url, (few, count), rounds))
    except (NoSpace, ServerFailed, SubprocessError, MiniS3Error, OSError) as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(table(seconds, few, count))


async def _measure(url: str, counts: Sequence[int], rounds: int) -> dict[tuple[str, int], float]:
    """Medians by the title of the page and the number of keys."""
    taken: dict[tuple[str, int], list[float]] = {}
    async with open_database(url, "listing") as database:
        await prepare(database)
        for count in counts:
            await populate(database, f"of-{count}", count)
        for _ in range(rounds):
            for count in counts:
                for page in pages(count):
                    start = perf_counter()
                    await listed(database, f"of-{count}", page)
                    taken.setdefault((page.title, count), []).append(perf_counter() - start)
    return {key: median(times) for key, times in taken.items()}


def table(seconds: dict[tuple[str, int], float], few: int, count: int) -> Table:
    """Medians in milliseconds."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    result.add_column("ms, median, a page of up to 1,000")
    for heading in (f"of {few:,} keys", f"of {count:,} keys", "ratio"):
        result.add_column(heading, justify="right")
    for page in pages(count):
        small, large = seconds[page.title, few], seconds[page.title, count]
        result.add_row(page.title, f"{small * 1000:.1f}", f"{large * 1000:.1f}", f"{large / small:.2f}")
    return result


def _key(number: int) -> str:
    return f"{number // _FOLDER:06}/key{number % _FOLDER:04}"


def _file(bucket: str, number: int) -> File:
    entry = Entry(bucket, _key(number), "d41d8cd98f00b204e9800998ecf8427e")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return File(new_file_id(), "key", 0, "application/octet-stream", ContentId("0" * 64), at, "local", (), entry)


if __name__ == "__main__":
    main()
