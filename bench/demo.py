"""The main job on real bytes: `python -m bench.demo`.

A server is started on embedded defaults; a large file made of real binaries goes in, goes in again,
goes in edited; all three come out and are compared byte for byte; a table tells what that cost.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from bench.http import MIB, Client, HttpError
from bench.material import COPIES as COPIES_AT_LEAST
from bench.material import Material, build, edit, find_sources, read_blocks
from bench.server import Server, ServerFailed, running_server
from bench.workspace import NoSpace, free_bytes, gib, workspace

DISK = 3
"""Bytes of disk for each byte of the file: the file, its edited version, and what the server stores of both."""

STATS_PATIENCE = 30.0
"""Seconds. The server's figures may be 5 s old."""

Track = Callable[[Iterable[bytearray]], Iterable[bytearray]]


@dataclass(frozen=True)
class Upload:
    name: str
    what: str
    path: Path
    size: int
    seconds: float
    answer: dict[str, Any]


@dataclass(frozen=True)
class Download:
    """`differs_at`: where the first differing block starts, None if every byte is the same."""

    name: str
    size: int
    seconds: float
    differs_at: int | None


class Screen:
    """What people see: a bar for each step on a terminal, a line for each step elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, name: str, size: int) -> Iterator[Track]:
        if not self.console.is_terminal:
            self.console.print(f"  {name} …")
            yield lambda blocks: blocks
            return
        columns = (TextColumn("  {task.description:28}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=size)

            def track(blocks: Iterable[bytearray]) -> Iterator[bytearray]:
                for block in blocks:
                    yield block
                    progress.advance(task, len(block))

            yield track
        self.console.print(f"  {name} [green]done[/]")


@click.command()
@click.option("--mib", default=1024, show_default=True, type=click.IntRange(1), help="Size of the file in MiB.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where to put large files.")
def main(mib: int, parent: Path | None) -> None:
    """Show Mini-S3 at work: upload, upload again, upload an edited version, download, compare."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    try:
        sys.exit(0 if _run(mib, parent, Screen(console)) else 1)
    except (NoSpace, ServerFailed, HttpError, OSError) as error:
        console.print(f"The demo failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _run(mib: int, parent: Path | None, screen: Screen) -> bool:
    console = screen.console
    # The server's journals and logs want some room of their own.
    with workspace(DISK * mib * MIB + 400 * MIB, parent) as folder:
        console.print(f"Working in {folder} ({gib(free_bytes(folder))} free; removed in the end).", soft_wrap=True)
        material = build(folder / "original.bin", find_sources(mib * MIB // COPIES_AT_LEAST), mib)
        edited = edit(material, folder / "edited.bin")
        _tell_material(material, edited, console)
        with running_server(folder) as server:
            console.print(f"Mini-S3 runs at {server.url}, with embedded databases and three nodes.")
            uploads = [
                _upload(server.client, screen, ("Upload", "the first"), material.path),
                _upload(server.client, screen, ("Upload it again", "the second"), material.path),
                _upload(server.client, screen, ("Upload an edited version", "the edited one"), folder / "edited.bin"),
            ]
            downloads = [_download(server.client, screen, upload) for upload in uploads]
            stats = _stats_of(server, uploads)
        console.print(table(uploads, downloads))
        good = tell_outcome(uploads, downloads, stats, console)
    console.print("The server is stopped and everything that it wrote is removed.")
    return good


def _tell_material(material: Material, edited: int, console: Console) -> None:
    console.print(f"The file: {gib(material.size)}, made of real binaries of this machine:")
    amounts, counts = Counter[str](), Counter[str]()
    for source in material.sources:
        amounts[source.kind] += source.size
        counts[source.kind] += 1
    for kind, amount in amounts.items():
        console.print(f"  {gib(amount):>10} {kind} ({counts[kind]} file{'s' if counts[kind] > 1 else ''})")
    console.print(
        f"These {material.blocks_in_copy:,} MiB are repeated {material.blocks / material.blocks_in_copy:.1f} times, "
        f"with 64 bytes changed in {material.edits} of the repeated 1 MiB blocks.\n"
        f"The edited version has {edited} of its {material.blocks:,} blocks overwritten in place.",
        soft_wrap=True,
    )


def _upload(client: Client, screen: Screen, names: tuple[str, str], path: Path) -> Upload:
    name, what = names
    size = path.stat().st_size
    with screen.step(name, size) as track:
        start = perf_counter()
        answer = client.upload(path.name, size, track(read_blocks(path)))
        return Upload(name, what, path, size, perf_counter() - start, answer)


def _download(client: Client, screen: Screen, upload: Upload) -> Download:
    name = f"Download {upload.what}"
    with screen.step(name, upload.size) as track:
        start = perf_counter()
        received = track(client.download(f"/api/files/{upload.answer['fileId']}"))
        differs_at = first_difference(received, read_blocks(upload.path))
        return Download(name, upload.size, perf_counter() - start, differs_at)


def first_difference(received: Iterable[bytearray], expected: Iterable[bytearray]) -> int | None:
    """Where the first block that is not the same starts; None if all are and there are as many."""
    for index, (one, other) in enumerate(zip_longest(received, expected)):
        if one != other:
            return index * MIB
    return None


def _stats_of(server: Server, uploads: list[Upload]) -> dict[str, Any]:
    """The server's figures, as soon as they include all that was uploaded."""
    deadline = monotonic() + STATS_PATIENCE
    logical = sum(upload.size for upload in uploads)
    while True:
        stats: dict[str, Any] = server.client.read_json("/api/stats")
        if (stats["files"], stats["logicalBytes"]) == (len(uploads), logical):
            return stats
        if monotonic() > deadline:
            raise HttpError(f"/api/stats does not tell of {len(uploads)} files and {logical} bytes: {stats}")
        sleep(0.2)


def table(uploads: list[Upload], downloads: list[Download]) -> Table:
    """Every step with its cost; logical and stored bytes are those after it."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    result.add_column("step")
    for heading in ("time", "MB/s", "chunks new", "linked", "logical", "stored", "ratio"):
        result.add_column(heading, justify="right")
    logical = stored = 0
    for upload in uploads:
        chunks, sizes = upload.answer["chunks"], upload.answer["bytes"]
        logical += sizes["received"]
        stored += sizes["stored"]
        figures = (f"{chunks['new']:,}", f"{chunks['linked']:,}", gib(logical), gib(stored), _ratio(logical, stored))
        result.add_row(upload.name, *_pace(upload), *figures)
    for download in downloads:
        result.add_row(download.name, *_pace(download))
    return result


def tell_outcome(uploads: list[Upload], downloads: list[Download], stats: dict[str, Any], console: Console) -> bool:
    """Print what the server says it holds and whether all went well; return the latter."""
    logical, stored = stats["logicalBytes"], stats["storedBytes"]
    console.print(
        f"\nThe store holds {stats['files']} files: {gib(logical)} logical, {gib(stored)} stored in "
        f"{stats['chunks']:,} chunks. Dedup ratio {stats['dedupRatio']:.2f}."
    )
    wrong = [
        f"{each.name}: the bytes differ from {each.differs_at:,} on"
        for each in downloads
        if each.differs_at is not None
    ]
    if uploads[1].answer["bytes"]["stored"]:
        wrong.append(f"The second upload stored {uploads[1].answer['bytes']['stored']:,} bytes; none were expected")
    told = sum(upload.answer["bytes"]["stored"] for upload in uploads)
    if told != stored:
        wrong.append(f"The uploads stored {told:,} bytes as they were answered, {stored:,} by the server's figures")
    for line in wrong:
        console.print(line, style="red")
    if not wrong:
        console.print("All three files came back byte for byte, and the second upload stored nothing.", style="green")
    return not wrong


def _pace(step: Upload | Download) -> tuple[str, str]:
    return f"{step.seconds:.2f} s", f"{step.size / 1e6 / step.seconds:,.0f}"


def _ratio(logical: int, stored: int) -> str:
    return f"{logical / stored:.2f}" if stored else "-"


if __name__ == "__main__":
    main()
