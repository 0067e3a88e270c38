"""How fast the S3 API is, beside SeaweedFS's: `python -m bench.s3`.

Both run with their defaults on loopback and ask nobody for keys. Round by round they take the same unsigned requests
from the same client, one after the other: a large object in one request and in parts, small objects, and what
boto3 makes of a large file.
"""

from __future__ import annotations

import filecmp
import secrets
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import boto3
import click
from boto3.exceptions import Boto3Error
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from bench.compare import systems
from bench.compare.__main__ import machine, versions
from bench.compare.figures import OURS, RATE, SEAWEED, Goal, Results, judge
from bench.compare.rounds import Plan, checked_download, download, measured, small, turned, upload, warm_up
from bench.compare.systems import BUCKET, MiniS3Api, Seaweed, mini_s3_api, seaweed
from bench.compare.tables import figures_table, goals_table, promises_table
from bench.http import MIB, HttpError
from bench.server import ServerFailed
from bench.workspace import NoSpace, gib, workspace

COMPARED = (OURS, SEAWEED)
PARTS_AT_ONCE = CONNECTIONS = 8
_PART = 16
"""Parts have a 16th of the large object's size: 64 MiB of 1 GiB."""

PUT, PARTS, GET, GET_AGAIN = "PUT", f"{PARTS_AT_ONCE} parts at once", "GET after PUT", "GET again"
BOTO_UP, BOTO_DOWN = "boto3 upload_file", "boto3 download_file"

GOALS = (
    Goal(PUT, RATE, 2.0, (PUT, SEAWEED)),
    Goal(PARTS, RATE, 2.0, (PARTS, SEAWEED)),
    Goal(PARTS, RATE, 1.0, (PUT, OURS)),
    Goal(GET, RATE, 1.0, (GET, SEAWEED)),
    Goal(GET_AGAIN, RATE, 1.0, (GET_AGAIN, SEAWEED)),
)
"""What the S3 API aims at. A missed goal is told, never asserted."""

_SPARE = 4096 * MIB
"""Disk for databases, logs, and small objects of which each takes a block."""

_FAILURES = (
    NoSpace,
    ServerFailed,
    HttpError,
    systems.Unexpected,
    SubprocessError,
    OSError,
    Boto3Error,
    BotoCoreError,
    ClientError,
)

Api = MiniS3Api | Seaweed


@click.command()
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option(
    "--mib",
    default=1024,
    show_default=True,
    type=click.IntRange(80),
    help="Size of the large object in MiB; each part has a 16th of it, and at least 5 MiB.",
)
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Of each small load.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the systems store.")
def main(rounds: int, mib: int, seconds: float, parent: Path | None) -> None:
    """Compare the S3 API of Mini-S3 with SeaweedFS's."""
    plan = Plan(rounds, mib, PARTS_AT_ONCE, mib // _PART, CONNECTIONS, seconds)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    results = Results()
    try:
        with workspace(disk(plan), parent) as folder:
            console.print(f"Working in {folder} (needs up to {gib(disk(plan))}; removed in the end).", soft_wrap=True)
            with seaweed(folder / "seaweedfs") as weed, mini_s3_api(folder / "mini-s3") as ours:
                both: list[Api] = [ours, weed]
                warm_up(both, both)
                for number in range(rounds):
                    console.print(f"  round {number + 1} of {rounds} …")
                    run_round(turned(both, number), f"{number}", plan, folder, results)
    except _FAILURES as error:
        console.print(f"The measurement failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    console.print(figures_table(results, COMPARED), "", goals_table(judge(results, GOALS)), "")
    console.print(promises_table(COMPARED), "")
    for line in notes(plan):
        console.print(line, soft_wrap=True)


def disk(plan: Plan) -> int:
    """Bytes that both systems together store, and the files for boto3 beside them."""
    stored = 2 * plan.mib + plan.at_once * plan.each_mib
    return (len(COMPARED) * plan.rounds * stored + 2 * plan.mib) * MIB + _SPARE


def run_round(apis: Sequence[Api], name: str, plan: Plan, folder: Path, results: Results) -> None:
    """Every step with every system in this order, with new bytes. Raises HttpError, OSError, errors of boto3."""
    data = secrets.token_bytes(plan.mib * MIB)
    keys = [upload(api, data, f"new-{name}", PUT, results) for api in apis]
    for step in (GET, GET_AGAIN):
        for api, key in zip(apis, keys, strict=True):
            download(api, key, data, step, results)
    del data
    _in_parts(apis, name, plan, results)
    _boto(apis, name, plan, folder, results)
    for api in apis:
        small(api, plan, results)


def _in_parts(apis: Sequence[Api], name: str, plan: Plan, results: Results) -> None:
    parts = [secrets.token_bytes(plan.each_mib * MIB) for _ in range(plan.at_once)]
    whole = b"".join(parts)
    for api in apis:
        work = partial(api.upload_in_parts, parts, f"parts-{name}")
        checked_download(api, measured(api, len(whole), PARTS, results, work), whole)


def _boto(apis: Sequence[Api], name: str, plan: Plan, folder: Path, results: Results) -> None:
    """Files, which the kernel has in memory, to objects and back."""
    source, back = folder / "source", folder / "back"
    size = plan.mib * MIB
    source.write_bytes(secrets.token_bytes(size))
    clients = [boto_client(api.address) for api in apis]
    for api, client in zip(apis, clients, strict=True):
        measured(api, size, BOTO_UP, results, partial(client.upload_file, str(source), BUCKET, f"file-{name}"))
    for api, client in zip(apis, clients, strict=True):
        measured(api, size, BOTO_DOWN, results, partial(client.download_file, BUCKET, f"file-{name}", str(back)))
        if not filecmp.cmp(source, back, shallow=False):
            raise HttpError(f"{api.name}: the file that boto3 got back differs from the one that it sent")
        back.unlink()


def boto_client(address: str) -> Any:
    """boto3 with its defaults, but without keys."""
    config = Config(signature_version=UNSIGNED)
    return boto3.client("s3", endpoint_url=f"http://{address}", region_name="us-east-1", config=config)


def notes(plan: Plan) -> list[str]:
    """What one must know to read the tables."""
    about, numbers = machine(), versions()
    used = ", ".join(f"{name} {numbers[name]}" for name in COMPARED)
    return [
        f"Medians of {plan.rounds} rounds (smallest–largest); each step is done by one system after the other, and "  # noqa: RUF001
        "before each the kernel writes what others left unwritten, off the clock. Ratio: Mini-S3 by SeaweedFS.",
        f"The large object has {plan.mib:,} MiB of random bytes, that of parts {plan.at_once} of {plan.each_mib} MiB, "
        "from the creation of its upload to its completion; all bytes are new in each round. Small ones have 4 KiB, "
        f"over {plan.connections} connections. Every byte that came back was compared with what was sent.",
        "One client for both, blocks of 1 MiB from memory and into memory; requests are not signed. boto3 with its "
        "defaults, unsigned too, sends a file of the large object's size, and receives it into another.",
        "A GET finds in memory what the system left there: Mini-S3 reads past the kernel's cache where the disk is "
        "fast, SeaweedFS leaves its files in the cache. Client, servers and databases share the machine: "
        f"{about['cores']} cores, {about['processor']}; {used}.",
    ]


if __name__ == "__main__":
    main()
