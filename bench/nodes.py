"""What nodes beyond this machine cost this process, beside one that is a directory: `python -m bench.nodes`.

Blobs of 1 MiB are written and read sixteen at a time, by each node in turn. The node servers, over HTTP and
over HTTPS, are on this machine, and so is the SeaweedFS of the bucket, which asks nobody for keys; requests
are signed all the same. The processor time is that of this process, threads included, and not that of the servers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import ssl
from collections.abc import Awaitable, Callable
from mmap import mmap
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter

import click
import trustme

from app.nodes.base import Node
from app.nodes.sites import site_of
from app.nodes.trust import trusting
from app.serving import run
from app.types import Blob, Digest, NodeId, new_generation
from bench.compare import systems
from bench.http import MIB
from bench.server import NODE_TOKEN, running_nodes
from bench.workspace import workspace

_AT_ONCE = 16
_AUTHORITY = "authority.pem"
_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}

Cost = tuple[float, float]
"""Seconds of processor and of wall clock for a GiB."""


@click.command()
@click.option("--mib", default=512, show_default=True, type=click.IntRange(_AT_ONCE), help="Of each round.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the nodes store.")
def main(mib: int, rounds: int, parent: Path | None) -> None:
    """Measure writes and reads of nodes."""
    os.environ.update(_KEYS)
    with (
        workspace((4 * rounds * mib + 2048) * MIB, parent) as folder,
        systems.seaweed(folder / "weed") as weed,
        running_nodes(folder / "served") as (server,),
        running_nodes(folder / "certified", flags=_certificate(folder)) as (certified,),
    ):
        urls = {
            "directory": str(folder / "node"),
            "server": server.url,
            "https": certified.url,
            "bucket": f"s3://bench/node?endpoint=http://{weed.address}",
        }
        costs = run(_measure(urls, trusting(folder / _AUTHORITY), mib // _AT_ONCE, rounds))
    for step in ("write", "read"):
        medians = {kind: [median(cost[at] for cost in costs[kind, step]) for at in (0, 1)] for kind in urls}
        near = medians["directory"]
        for kind, (processor, clock) in medians.items():
            shares = f"{processor / near[0]:.2f} of the directory's; wall clock {clock / near[1]:.2f} of it"
            click.echo(f"{step:6}{kind:10}{processor:6.2f} s of processor a GiB, {shares}")


def _certificate(folder: Path) -> tuple[str, ...]:
    """The flags for a server with a new one, from an authority whose own lies in the folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / _AUTHORITY)
    both = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(both)
    return "--tls-cert", str(both), "--tls-key", str(both)


async def _measure(
    urls: dict[str, str], trust: ssl.SSLContext, batches: int, rounds: int
) -> dict[tuple[str, str], list[Cost]]:
    nodes: dict[str, Node] = {}
    costs: dict[tuple[str, str], list[Cost]] = {}
    try:
        for kind, url in urls.items():
            site = site_of(url, NODE_TOKEN, trust)
            await site.claim(json.dumps({"id": kind}).encode())
            nodes[kind] = site.open(NodeId(kind))
        for _ in range(rounds):
            for kind, node in nodes.items():
                for step, cost in (await _round(node, batches)).items():
                    costs.setdefault((kind, step), []).append(cost)
    finally:
        await asyncio.gather(*(node.close() for node in nodes.values()))
    return costs


async def _round(node: Node, batches: int) -> dict[str, Cost]:
    """Write blobs, read and remove them."""
    contents = [memoryview(mmap(-1, MIB)) for _ in range(_AT_ONCE)]  # Of whole pages, like the buffers of uploads.
    for content in contents:
        content[:] = secrets.token_bytes(MIB)
    buffers = [memoryview(bytearray(MIB)) for _ in range(_AT_ONCE)]
    digests = [Digest(hashlib.sha256(content).digest()) for content in contents]
    blobs = [[Blob(node.id, digest, new_generation()) for digest in digests] for _ in range(batches)]
    found = {
        "write": await _cost(blobs, lambda number, blob: node.write(blob, contents[number])),
        "read": await _cost(blobs, lambda number, blob: node.read_into(blob, buffers[number])),
    }
    if buffers != contents:
        raise click.ClickException(f"the {node.id} gave back other bytes than it was given")
    await node.unlink([blob for batch in blobs for blob in batch])
    return found


async def _cost(batches: list[list[Blob]], call: Callable[[int, Blob], Awaitable[None]]) -> Cost:
    start, processor = perf_counter(), _processor()
    for batch in batches:
        await asyncio.gather(*(call(number, blob) for number, blob in enumerate(batch)))
    gib = len(batches) * _AT_ONCE / 1024
    return (_processor() - processor) / gib, (perf_counter() - start) / gib


def _processor() -> float:
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
