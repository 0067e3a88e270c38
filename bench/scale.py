"""How the server scales with its workers: `python -m bench.scale`.

Two servers run side by side, one with one worker, one with several, each with databases of its own; both do the
same work, one after the other, round by round. What is told is how many times as much the second one does.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from subprocess import SubprocessError
from threading import Event
from time import perf_counter
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from bench.compare import load
from bench.compare.figures import PER_SECOND, RATE, Spread
from bench.compare.rounds import settle
from bench.compare.systems import MiniS3, Unexpected, check_same, mini_s3
from bench.compare.tables import spread
from bench.http import MIB, HttpError
from bench.memory import at_once
from bench.server import ServerFailed
from bench.workspace import NoSpace, workspace

T = TypeVar("T")

AT_ONCE = 8
CONNECTIONS = 32
SMALL = 4096
"""Bytes of a small file."""

SMALL_UP, SMALL_DOWN = "small uploads", "small downloads"
LARGE_UP, LARGE_DOWN = f"{AT_ONCE} uploads at once", f"{AT_ONCE} downloads at once"
UNITS = {SMALL_UP: PER_SECOND, SMALL_DOWN: PER_SECOND, LARGE_UP: RATE, LARGE_DOWN: RATE}

_SPARE = 4096 * MIB
"""Disk for two databases, and for small files of which each takes a block."""


@dataclass(frozen=True)
class Busy:
    """Processor seconds a second: of supervisor and workers, and of their MongoDB."""

    server: float
    database: float


@dataclass(frozen=True)
class Sample:
    """One turn of one server at one step: its rate, and how busy it was meanwhile."""

    rate: float
    busy: Busy


@dataclass
class Scaling:
    """Samples by step and number of workers."""

    few: int
    many: int
    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return max(map(len, self.samples.values()))

    def add(self, step: str, workers: int, sample: Sample) -> None:
        self.samples.setdefault((step, workers), []).append(sample)

    def rates(self, step: str, workers: int) -> Spread:
        return Spread(tuple(sample.rate for sample in self.samples[step, workers]))

    def busy(self, step: str, workers: int) -> Busy:
        each = [sample.busy for sample in self.samples[step, workers]]
        return Busy(median(busy.server for busy in each), median(busy.database for busy in each))

    def ratio(self, step: str) -> float:
        """How many times the median of few workers that of many is."""
        return self.rates(step, self.many).median / self.rates(step, self.few).median


@click.command()
@click.option("--workers", type=click.IntRange(2, 64), help="Of the second server: as many as cores, if not set.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option("--mib", default=96, show_default=True, type=click.IntRange(1), help="Size of each large file in MiB.")
@click.option("--seconds", default=4.0, show_default=True, type=click.FloatRange(0.1), help="Of each small load.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the servers store.")
def main(workers: int | None, rounds: int, mib: int, seconds: float, parent: Path | None) -> None:
    """Measure a server with one worker beside one with as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    scaling = Scaling(1, workers or max(2, cores))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    try:
        with workspace(2 * rounds * AT_ONCE * mib * MIB + _SPARE, parent) as folder, _started(folder, scaling) as both:
            for each in both.values():
                _small(each, 0.5)
            for turn in range(rounds):
                console.print(f"  round {turn + 1} of {rounds} …")
                measure_round(turn, both, scaling, mib, seconds)
    except (NoSpace, ServerFailed, HttpError, Unexpected, SubprocessError, OSError) as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(table(scaling), "")
    for line in notes(scaling, cores, mib):
        console.print(line, soft_wrap=True)


@contextmanager
def _started(folder: Path, scaling: Scaling) -> Iterator[dict[int, MiniS3]]:
    """Both servers by their number of workers."""
    few, many = scaling.few, scaling.many
    with (
        mini_s3(folder / "few", "--workers", str(few)) as one,
        mini_s3(folder / "many", "--workers", str(many)) as other,
    ):
        yield {few: one, many: other}


def measure_round(turn: int, both: dict[int, MiniS3], scaling: Scaling, mib: int, seconds: float) -> None:
    """Both servers at every step; which one goes first changes from round to round."""
    order = list(both.items())[:: -1 if turn % 2 else 1]
    for workers, server in order:
        for step, sample in _small(server, seconds):
            scaling.add(step, workers, sample)
    parts = [secrets.token_bytes(mib * MIB) for _ in range(AT_ONCE)]
    for workers, server in order:
        for step, sample in _large(server, parts, turn):
            scaling.add(step, workers, sample)


def _small(server: MiniS3, seconds: float) -> list[tuple[str, Sample]]:
    """Raises HttpError if an answer is wrong, or the bytes that come back differ."""
    seed = secrets.token_hex(8)
    uploads = load.Load("form", server.address, seed, SMALL, CONNECTIONS, seconds)
    up, _, busy_up = _watched(server, lambda: load.run(uploads))
    downloads = replace(uploads, kind="get", paths=up.paths)
    down, _, busy_down = _watched(server, lambda: load.run(downloads))
    return [(SMALL_UP, Sample(up.per_second, busy_up)), (SMALL_DOWN, Sample(down.per_second, busy_down))]


def _large(server: MiniS3, parts: list[bytes], turn: int) -> list[tuple[str, Sample]]:
    """Raises HttpError if the bytes that come back differ. They are taken twice: measured is the second time,
    when the kernel has them in memory."""
    keys = [""] * len(parts)
    inboxes = [bytearray(b"\1") * len(part) for part in parts]

    def upload(which: int, _: Event) -> None:
        keys[which] = server.upload(parts[which], f"{turn}-{which}")

    def download(which: int, _: Event) -> None:
        server.download(keys[which], inboxes[which])

    def moved(transfer: Callable[[int, Event], None]) -> Sample:
        _, seconds, busy = _watched(server, lambda: at_once(len(parts), transfer))
        return Sample(sum(map(len, parts)) / 1e6 / seconds, busy)

    up, _, down = moved(upload), moved(download), moved(download)
    for inbox, part in zip(inboxes, parts, strict=True):
        check_same(inbox, part, server.address)
    return [(LARGE_UP, up), (LARGE_DOWN, down)]


def _watched(server: MiniS3, work: Callable[[], T]) -> tuple[T, float, Busy]:
    """The result, the seconds it took, and how busy the server was."""
    settle()
    before, start = server.cpu(), perf_counter()
    result = work()
    seconds, after = perf_counter() - start, server.cpu()
    took = {role: (after[role] - before[role]) / seconds for role in before}
    return result, seconds, Busy(took["server"], took["database"])


def table(scaling: Scaling) -> Table:
    """Medians over the rounds, the smallest and the largest in parentheses."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    result.add_column("step")
    few, many = _words(scaling.few), _words(scaling.many)
    for heading in ("", few, many, "ratio", f"cores, {few}", f"cores, {many}"):
        result.add_column(heading, justify="right")
    for step, unit in UNITS.items():
        both = (scaling.few, scaling.many)
        rates = (spread(scaling.rates(step, workers)) for workers in both)
        busy = (scaling.busy(step, workers) for workers in both)
        cores = (f"{each.server:.2f} + {each.database:.2f}" for each in busy)
        result.add_row(step, unit, *rates, f"{scaling.ratio(step):.2f}", *cores)
    return result


def notes(scaling: Scaling, cores: int, mib: int) -> list[str]:
    """What one must know to read the table."""
    return [
        f"Medians of {scaling.rounds} rounds (smallest–largest). Small files have 4 KiB, over {CONNECTIONS} "  # noqa: RUF001
        f"connections; large ones {mib} MiB of random bytes, and are downloaded out of the kernel's cache. Every byte "
        "that came back was compared with what was sent.",
        f"The client, MongoDB and the workers share the {cores} cores of this machine, so that more workers can take "
        "only what one leaves idle. Cores: what supervisor and workers took + what their MongoDB took; the client "
        "took from the rest.",
    ]


def _words(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


if __name__ == "__main__":
    main()
