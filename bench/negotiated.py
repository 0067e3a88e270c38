"""What it saves to ask before sending: `python -m bench.negotiated`.

A large file goes to a server by `mini-s3 put`, and as a plain form: new, once more unchanged, and with 1 % of its
blocks overwritten. Both ways have a file of their own, and take turns. What is told is how many times as long the
command takes, its start included, and the bytes of bodies that the server received.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, time
from urllib.request import urlopen

import click
from rich.console import Console
from rich.table import Table

from bench.http import MIB, HttpError
from bench.material import EDITED_IN_VERSION, read_blocks
from bench.server import Server, ServerFailed, running_server
from bench.workspace import NoSpace, workspace

NEW, REMEMBERED, FORGOTTEN, CHANGED = "new", "unchanged, remembered", "unchanged, read again", "1 % changed"
CASES = (NEW, REMEMBERED, FORGOTTEN, CHANGED)

_OLD = 3600
"""Seconds since a file was written to: one that was just now is not remembered."""
_DISK = 5
"""Bytes of disk for each byte of the file: two files, what the server stores of both, and some of the changes."""
_RECEIVED = re.compile(rb"^mini_s3_received_bytes_total ([\d.e+]+)", re.MULTILINE)


@dataclass(frozen=True)
class Figures:
    """Of one upload: `seconds` until it was done, `cpu` of the client, and `sent`, bytes of all bodies."""

    seconds: float
    cpu: float
    sent: int


Sample = dict[str, tuple[Figures, Figures]]
"""For each case what the command took, and the plain form."""


class House:
    """A server, a file for each way, and what the command remembers."""

    def __init__(self, server: Server, folder: Path, blocks: int) -> None:
        self._server = server
        self._blocks = blocks
        self._asked, self._plain, self._cache = folder / "asked.bin", folder / "plain.bin", folder / "cache"
        self._random = Random()

    def measure(self) -> Sample:
        """One round, from new bytes on."""
        shutil.rmtree(self._cache, ignore_errors=True)
        for path in (self._asked, self._plain):
            self._overwrite(path, range(self._blocks), "wb")
        found = {NEW: self._both(), REMEMBERED: self._both()}
        shutil.rmtree(self._cache)
        found[FORGOTTEN] = self._both()
        chosen = self._random.sample(range(self._blocks), max(1, int(self._blocks * EDITED_IN_VERSION)))
        for path in (self._asked, self._plain):
            self._overwrite(path, chosen, "r+b")
        return {**found, CHANGED: self._both()}

    def _overwrite(self, path: Path, blocks: range | list[int], mode: str) -> None:
        with path.open(mode) as file:
            for block in blocks:
                file.seek(block * MIB)
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())
        os.utime(path, (time() - _OLD,) * 2)

    def _both(self) -> tuple[Figures, Figures]:
        return self._timed(self._put), self._timed(self._form)

    def _timed(self, upload: Callable[[], object]) -> Figures:
        before, cpu, start = self._received(), _cpu(), perf_counter()
        upload()
        seconds = perf_counter() - start
        return Figures(seconds, _cpu() - cpu, self._received() - before)

    def _put(self) -> None:
        environment = {"MINI_S3_URL": self._server.url, "XDG_CACHE_HOME": str(self._cache)}
        subprocess.run(
            [sys.executable, "-m", "app", "put", str(self._asked), "--quiet"],
            check=True,
            env={**os.environ, **environment},
        )

    def _form(self) -> None:
        self._server.client.upload("plain.bin", self._blocks * MIB, read_blocks(self._plain))

    def _received(self) -> int:
        with urlopen(f"{self._server.url}/metrics") as answer:
            found = _RECEIVED.search(answer.read())
        return int(float(found[1])) if found else 0


def _cpu() -> float:
    """Processor seconds of this process and of the commands that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@click.command()
@click.option("--mib", default=1024, show_default=True, type=click.IntRange(2), help="Size of the file in MiB.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where to put large files.")
def main(mib: int, rounds: int, parent: Path | None) -> None:
    """Measure `mini-s3 put` beside plain uploads, of new, unchanged and changed files."""
    try:
        with workspace((_DISK + 2 * rounds) * mib * MIB, parent) as folder, running_server(folder) as server:
            house = House(server, folder, mib)
            samples = [house.measure() for _ in range(rounds)]
    except (NoSpace, ServerFailed, HttpError, OSError, subprocess.CalledProcessError) as error:
        click.echo(f"The measurement failed: {error}", err=True)
        sys.exit(1)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    console.print(table(samples, mib))


def table(samples: list[Sample], mib: int) -> Table:
    """Medians of all rounds."""
    shown = Table(title=f"A file of {mib} MiB", title_justify="left")
    for title in ("", "put, s", "its CPU, s", "plain, s", "put/plain", "put sends, kB", "of the file"):
        shown.add_column(title, justify="right" if title else "left", no_wrap=True)
    for case in CASES:
        puts, plains = zip(*(sample[case] for sample in samples), strict=True)
        sent = median(put.sent for put in puts)
        ratio = median(put.seconds / plain.seconds for put, plain in zip(puts, plains, strict=True))
        shown.add_row(
            case,
            f"{median(put.seconds for put in puts):.2f}",
            f"{median(put.cpu for put in puts):.2f}",
            f"{median(plain.seconds for plain in plains):.2f}",
            f"{ratio:.2f}",
            f"{sent / 1000:,.1f}",
            f"{sent / (mib * MIB):.3%}",
        )
    return shown


if __name__ == "__main__":
    main()
