"""What copies and shards cost, and what they give: `python -m bench.redundancy`.

A store for each redundancy, on six nodes each: once directories, once node servers, all on this machine. Round by
round all of them take a file and give it back. Then nodes of each lose blobs, which are made again; and
at last nodes are taken away, as many as may be, and the files are read without them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from signal import SIGKILL
from threading import Event
from time import perf_counter

import click
from rich.console import Console
from rich.table import Table

from app.types import Redundancy
from bench.compare.figures import Spread
from bench.compare.rounds import settle
from bench.compare.systems import Unexpected, mini_s3, mongodb, primary
from bench.compare.tables import spread
from bench.http import MIB, HttpError
from bench.memory import WrongBytes, stamped
from bench.server import NODE_TOKEN, Server, ServerFailed, running_nodes, told
from bench.workspace import NoSpace, workspace

REDUNDANCIES = ("1", "2", "ec:4+2")
GOALS = {"2": 0.6, "ec:4+2": 0.55}
"""Times the uploads of one copy that uploads shall be, at the least."""

NODES = 6
DIRECTORIES, SERVERS = "directories", "node servers"
UP, DOWN, REPAIR = "upload", "download", "repair"

_REPAIRED = 96
"""Blobs that a node loses."""

_SPARE = 1024 * MIB
"""Disk for the database."""


@dataclass
class Stand:
    """A store of its own. `flags` name it for commands; `servers` are those of its nodes, none where these are
    directories; `files` the paths of its files by their numbers. Rates are in MB/s."""

    place: str
    redundancy: str
    flags: Sequence[str]
    gateway: Server
    nodes: Sequence[Path]
    servers: Sequence[Server]
    files: dict[int, str] = field(default_factory=dict)

    def upload(self, number: int, blocks: int) -> float:
        """Raises Unexpected if not all of it was new."""
        settle()
        start = perf_counter()
        answer = self.gateway.client.upload(f"{number}", blocks * MIB, stamped(number, blocks, Event()))
        rate = _rate(blocks, start)
        if answer["chunks"]["new"] != blocks:
            raise Unexpected(f"{answer['chunks']['new']} of {blocks} chunks were new")
        self.files[number] = f"/api/files/{answer['fileId']}"
        return rate

    def download(self, number: int, blocks: int) -> float:
        """Raises WrongBytes."""
        settle()
        start = perf_counter()
        body = self.gateway.client.download(self.files[number])
        for received, sent in zip(body, stamped(number, blocks, Event()), strict=True):
            if received != sent:
                raise WrongBytes(f"redundancy {self.redundancy} on {self.place}: file {number} came back as another")
        return _rate(blocks, start)

    def repair(self, node: int) -> float:
        """Take blobs away from a node, and have them made again. Raises Unexpected if that was not all."""
        blobs = list(islice((path for path in self.nodes[node].glob("??/*") if path.is_file()), _REPAIRED))
        size = sum(path.stat().st_size for path in blobs)
        for path in blobs:
            path.unlink()
        settle()
        report = told("check", "--repair", *self.flags)
        missing = sum(finding["kind"] == "blob-missing" for finding in report["findings"])
        if missing != len(blobs) or not report["clean"]:
            raise Unexpected(f"{len(blobs)} blobs were taken away, {missing} missed; mended: {report['clean']}")
        return size / 1e6 / float(report["seconds"])

    def lose(self, node: int) -> None:
        """Take a node away for good."""
        if self.servers:
            os.kill(self.servers[node].pid, SIGKILL)
        else:
            self.nodes[node].rename(self.nodes[node].with_suffix(".lost"))


@dataclass
class Rates:
    """MB/s by the kind of nodes, work and redundancy."""

    samples: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, stand: Stand, work: str, rate: float) -> None:
        self.samples.setdefault((stand.place, work, stand.redundancy), []).append(rate)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Kinds of nodes, and what was measured on them, in the order in which it came."""
        yield from dict.fromkeys((place, work) for place, work, _ in sorted(self.samples, key=lambda key: key[0]))

    def spread(self, place: str, work: str, redundancy: str) -> Spread | None:
        samples = self.samples.get((place, work, redundancy))
        return Spread(tuple(samples)) if samples else None

    def ratio(self, place: str, work: str, redundancy: str) -> float:
        """Times the median of one copy on the same kind of nodes: of its uploads for uploads and repairs, of its
        downloads for downloads. Raises KeyError where one of the two was not measured."""
        plain = self.samples[place, DOWN if work.startswith(DOWN) else UP, "1"]
        return Spread(tuple(self.samples[place, work, redundancy])).median / Spread(tuple(plain)).median


@click.command()
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option("--mib", default=256, show_default=True, type=click.IntRange(1), help="Size of each file in MiB.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the stores are.")
def main(rounds: int, mib: int, parent: Path | None) -> None:
    """Measure uploads, downloads and repair by redundancy, on directories and on node servers."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    rates = Rates()
    try:
        with workspace(disk(rounds, mib), parent) as folder, _stands(folder) as stands:
            measure(stands, rates, rounds, mib, console)
    except (NoSpace, ServerFailed, HttpError, Unexpected, WrongBytes, OSError) as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(table(rates), "")
    for line in notes(rates, rounds, mib):
        console.print(line, soft_wrap=True)


def disk(rounds: int, mib: int) -> int:
    """Bytes that all stores take together."""
    kept = map(Redundancy.parse, REDUNDANCIES)
    return 2 * rounds * sum(mib * each.total * each.blob_size(MIB) for each in kept) + _SPARE


@contextmanager
def _stands(folder: Path) -> Iterator[list[Stand]]:
    """One after the other, for all share one MongoDB, each with a database of its own."""
    with ExitStack() as stack:
        url, _ = stack.enter_context(mongodb(folder / "mongo"))
        which = [(place, redundancy) for place in (DIRECTORIES, SERVERS) for redundancy in REDUNDANCIES]
        folders = [folder / f"{number}" for number in range(len(which))]
        for each in folders:
            each.mkdir()
        nodes = [[each / f"node{number}" for number in range(NODES)] for each in folders]
        served = [paths for paths, (place, _) in zip(nodes, which, strict=True) if place == SERVERS]
        servers = stack.enter_context(running_nodes(*chain.from_iterable(served)))
        with primary(url):
            pass
        stands = []
        for (place, redundancy), each, paths in zip(which, folders, nodes, strict=True):
            its = [servers.pop(0) for _ in paths] if place == SERVERS else []
            urls = [server.url for server in its] or list(map(str, paths))
            store = ("--mongo-url", url, "--mongo-database", each.name, "--node-token", NODE_TOKEN)
            flags = ("--redundancy", redundancy, "--nodes", ",".join(urls), "--gc-interval", "0")
            gateway = stack.enter_context(mini_s3(each / "gateway", *store, *flags))
            stands.append(Stand(place, redundancy, store, gateway.server, paths, its))
        yield stands


def measure(stands: Sequence[Stand], rates: Rates, rounds: int, mib: int, console: Console) -> None:
    """All of them at everything; another one begins in each round."""
    for stand in stands:
        stand.upload(0, 16)
    for number in range(1, rounds + 1):
        console.print(f"  round {number} of {rounds} …")
        for stand in _turned(stands, number):
            rates.add(stand, UP, stand.upload(number, mib))
        for stand in _turned(stands, number):
            rates.add(stand, DOWN, stand.download(number, mib))
    redundant = [stand for stand in stands if _spare(stand)]
    for node in (NODES - 1, NODES - 2):
        console.print("  repair …")
        for stand in redundant:
            rates.add(stand, REPAIR, stand.repair(node))
    _without_nodes(redundant, rates, rounds, mib, console)


def _without_nodes(stands: Sequence[Stand], rates: Rates, rounds: int, mib: int, console: Console) -> None:
    for gone in range(1, NODES):
        left = [stand for stand in stands if _spare(stand) >= gone]
        words = "1 node gone" if gone == 1 else f"{gone} nodes gone"
        for stand in left:
            stand.lose(gone - 1)
        for number in range(1, rounds + 1) if left else ():
            console.print(f"  {words}, round {number} of {rounds} …")
            for stand in _turned(left, number):
                rates.add(stand, f"{DOWN}, {words}", stand.download(number, mib))


def _spare(stand: Stand) -> int:
    return Redundancy.parse(stand.redundancy).spare


def _turned(stands: Sequence[Stand], by: int) -> list[Stand]:
    by %= len(stands)
    return [*stands[by:], *stands[:by]]


def _rate(blocks: int, start: float) -> float:
    return blocks * MIB / 1e6 / (perf_counter() - start)


def table(rates: Rates) -> Table:
    """Medians of MB/s, the smallest and the largest in parentheses, and each as a share of one copy's."""
    result = Table(show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("nodes", "MB/s"):
        result.add_column(heading)
    for redundancy in REDUNDANCIES:
        result.add_column(redundancy, justify="right")
        result.add_column("ratio", justify="right")
    before = ""
    for place, work in rates.rows():
        cells: list[str] = []
        for redundancy in REDUNDANCIES:
            found = rates.spread(place, work, redundancy)
            cells += [spread(found), f"{rates.ratio(place, work, redundancy):.2f}"] if found else ["", ""]
        result.add_row(place if place != before else "", work, *cells)
        before = place
    return result


def notes(rates: Rates, rounds: int, mib: int) -> list[str]:
    """What one must know to read the table, and how the goals were met."""
    return [
        f"Medians of {rounds} rounds (two of repair), smallest–largest; files of {mib} MiB, all new; {NODES} nodes, "  # noqa: RUF001
        "all on this machine, with the client and the databases. Every byte that came back was compared. Ratios "
        "are to one copy on the same kind of nodes: of downloads to its downloads, of uploads and repairs to its "
        f"uploads. Repair: the bytes of {_REPAIRED} blobs that a node lost, over the seconds of `check --repair`.",
        *(
            f"Uploads with {redundancy} on {place}: {ratio:.2f}, to be at least {goal} - "
            f"{'reached' if ratio >= goal else 'missed'}"
            for redundancy, goal in GOALS.items()
            if redundancy in REDUNDANCIES
            for place in (DIRECTORIES, SERVERS)
            for ratio in [rates.ratio(place, UP, redundancy)]
        ),
    ]


if __name__ == "__main__":
    main()
