"""What memory the server needs at its worst: `python -m bench.memory`.

One huge upload, and on a fresh server many at once; then downloads of the same. The client makes the
bytes as it sends them, none of them equal to others, and checks what comes back.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import perf_counter, sleep

import click
from rich.console import Console
from rich.table import Table

from bench.http import MIB, HttpError
from bench.server import Server, ServerFailed, running_server
from bench.workspace import NoSpace, free_bytes, gib, workspace

BUDGET_ONE = 200 * MIB
BUDGET_MANY = 600 * MIB
"""Bytes that worker and supervisor may take together at their peaks, for one upload and for many."""

SLOW = 8 * MIB
"""Bytes a second that each of the slow downloads takes, so that all of them are open at once."""

_SPARE = 1024 * MIB
"""Disk for the database's files and for what the file system itself wants."""

_RANDOM = secrets.token_bytes(MIB)


class Stopped(Exception):
    """Another transfer failed, or the program ends."""


class WrongBytes(Exception):
    """A download is not what was uploaded."""


@dataclass(frozen=True)
class Load:
    """`count` transfers at once, each of `blocks` MiB."""

    count: int
    blocks: int
    budget: int

    @property
    def size(self) -> int:
        return self.count * self.blocks * MIB

    def __str__(self) -> str:
        each = gib(self.blocks * MIB).replace(".00", "").replace(".0 ", " ")
        return f"1 x {each}" if self.count == 1 else f"{self.count} x {each} at once"


@dataclass(frozen=True)
class Measured:
    """Peaks of resident memory in bytes, by role; the work that made them. No budget for downloads."""

    work: str
    seconds: float
    size: int
    peaks: dict[str, int]
    budget: int | None

    @property
    def ours(self) -> int:
        return self.peaks.get("worker", 0) + self.peaks.get("supervisor", 0)

    @property
    def within(self) -> bool:
        return self.budget is None or self.ours <= self.budget


@click.command()
@click.option("--gib", "gibibytes", default=10, show_default=True, type=click.IntRange(1), help="Size of the one file.")
@click.option("--uploads", default=50, show_default=True, type=click.IntRange(1), help="Uploads at once.")
@click.option("--mib", default=100, show_default=True, type=click.IntRange(1), help="Size of each of those in MiB.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the server stores.")
def main(gibibytes: int, uploads: int, mib: int, parent: Path | None) -> None:
    """Measure the peak memory of a server, and compare it with its budgets."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    loads = [Load(1, gibibytes * 1024, BUDGET_ONE), Load(uploads, mib, BUDGET_MANY)]
    measured: list[Measured] = []
    try:
        for load in loads:
            with workspace(load.size + _SPARE, parent) as folder:
                room = f"needs {gib(load.size + _SPARE)}; {gib(free_bytes(folder))} are free"
                console.print(f"{load}: the server stores it in {folder} ({room}; removed in the end).", soft_wrap=True)
                measured += _measure(load, folder, console)
    except (NoSpace, ServerFailed, HttpError, WrongBytes, OSError) as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(table(measured))
    for each in measured:
        if not each.within:
            console.print(f"Over budget: {each.work}", style="red")
    sys.exit(0 if all(each.within for each in measured) else 1)


def _measure(load: Load, folder: Path, console: Console) -> Iterator[Measured]:
    with running_server(folder) as server:
        ids: dict[int, str] = {}

        def upload(number: int, over: Event) -> None:
            blocks = stamped(number, load.blocks, over)
            ids[number] = server.client.upload(f"{number}.bin", load.blocks * MIB, blocks)["fileId"]

        def download(number: int, over: Event) -> None:
            received = server.client.download(f"/api/files/{ids[number]}")
            start = perf_counter()
            for index, expected in enumerate(stamped(number, load.blocks, over)):
                if next(received, None) != expected:
                    raise WrongBytes(f"file {number} differs in its block {index}")
                if load.count > 1:
                    sleep(max(0.0, start + index * MIB / SLOW - perf_counter()))

        yield _during(f"upload {load}", load, server, upload, console)
        forget_peaks(server)
        yield _during(f"download {load}{', slowly' if load.count > 1 else ''}", load, server, download, console)


def _during(
    name: str, load: Load, server: Server, transfer: Callable[[int, Event], None], console: Console
) -> Measured:
    console.print(f"  {name} …")
    start = perf_counter()
    at_once(load.count, transfer)
    seconds = perf_counter() - start
    budget = load.budget if name.startswith("upload") else None
    return Measured(name, seconds, load.size, peaks(server), budget)


def stamped(number: int, blocks: int, over: Event) -> Iterator[bytearray]:
    """File `number`: random blocks of 1 MiB, each marked with its place, so that no two are the same.

    A block is overwritten by the next. Raises Stopped when `over` is set.
    """
    block = bytearray(_RANDOM)
    block[:8] = number.to_bytes(8)
    for index in range(blocks):
        if over.is_set():
            raise Stopped
        block[8:16] = index.to_bytes(8)
        yield block


def at_once(count: int, transfer: Callable[[int, Event], None]) -> None:
    """Run so many transfers side by side. If one fails the others are stopped, and its error is raised."""
    over = Event()
    with ThreadPoolExecutor(count) as pool:
        try:
            running = [pool.submit(transfer, number, over) for number in range(count)]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            errors = [error for each in done if (error := each.exception())]
        finally:
            over.set()
    if errors:
        raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])


def peaks(server: Server) -> dict[str, int]:
    """The highest resident memory of each role so far, in bytes; several processes of one role are summed."""
    return {role: sum(map(peak_memory, pids)) for role, pids in server.processes().items()}


def forget_peaks(server: Server) -> None:
    """Let the kernel count peaks anew. Where it can't, later peaks include the earlier ones."""
    for pids in server.processes().values():
        for pid in pids:
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_memory(pid: int) -> int:
    """The highest resident memory of a process so far, in bytes. Raises OSError if there is none."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def table(measured: list[Measured]) -> Table:
    result = Table(show_edge=False, pad_edge=False, header_style="bold", title="Peak resident memory in MiB")
    result.add_column("work")
    for heading in ("time", "MB/s", "worker", "supervisor", "together", "budget", "mongod", "valkey"):
        result.add_column(heading, justify="right")
    for each in measured:
        result.add_row(
            each.work,
            f"{each.seconds:.1f} s",
            f"{each.size / 1e6 / each.seconds:,.0f}",
            *(_mib(each.peaks.get(role)) for role in ("worker", "supervisor")),
            f"[{'green' if each.within else 'red'}]{_mib(each.ours)}[/]",
            _mib(each.budget),
            *(_mib(each.peaks.get(role)) for role in ("mongod", "redis")),
        )
    return result


def _mib(count: int | None) -> str:
    return "-" if count is None else f"{count / MIB:,.0f}"


if __name__ == "__main__":
    main()
