"""What a node on another machine costs beside a directory: processor time a GiB, caller and server together.

    python -m bench.nodes [--mib 512]

Both are on this machine, so that the wire costs nothing but its system calls. Blobs of 1 MiB, eight at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvloop

from app.nodes.base import Node, Site
from app.nodes.directory_site import DirectorySite
from app.nodes.http_site import HttpSite
from app.types import CHUNK_SIZE, Blob, Digest, NodeId, new_generation
from bench.compare.processes import cpu_seconds
from bench.workspace import workspace

_AT_ONCE = 8
_ROUNDS = 3
_TOKEN = "bench"


async def _rounds(folder: Path, server: int, remote: str, mib: int) -> dict[str, list[float]]:
    pids = [os.getpid(), server]
    contents = [os.urandom(CHUNK_SIZE) for _ in range(_AT_ONCE)]
    blobs = [_blob(contents[number % _AT_ONCE]) for number in range(mib)]
    places: dict[str, Site] = {"directory": DirectorySite(folder / "near"), "http": HttpSite(remote, _TOKEN)}
    nodes = {name: await _opened(site) for name, site in places.items()}
    taken: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for name, node in nodes.items():
            for call, work in (("write", _writer(node, contents)), ("read", _reader(node))):
                before = cpu_seconds(pids)
                await _all(work, blobs)
                taken.setdefault(f"{call}, {name}", []).append((cpu_seconds(pids) - before) * 1024 / mib)
            await node.unlink(blobs)
    for node in nodes.values():
        await node.close()
    return taken


def _blob(content: bytes) -> Blob:
    return Blob(NodeId("bench"), Digest(hashlib.sha256(content).digest()), new_generation())


async def _opened(site: Site) -> Node:
    await site.claim(json.dumps({"id": "bench"}).encode())
    return site.open(NodeId("bench"))


Work = Callable[[int, Blob], Awaitable[object]]


def _writer(node: Node, contents: Sequence[bytes]) -> Work:
    return lambda number, blob: node.write(blob, contents[number % _AT_ONCE])


def _reader(node: Node) -> Work:
    return lambda _, blob: node.read(blob, CHUNK_SIZE)


async def _all(work: Work, blobs: Sequence[Blob]) -> None:
    left = iter(enumerate(blobs))

    async def worker() -> None:
        for number, blob in left:
            await work(number, blob)

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


@contextmanager
def _server(folder: Path) -> Iterator[tuple[int, str]]:
    words = ["-m", "app", "node", "serve", "--port", "0", "--dir", str(folder), "--log-level", "warning"]
    environment = {**os.environ, "MINI_S3_NODE_TOKEN": _TOKEN}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="MiB written and read in each round")
    mib = parser.parse_args().mib
    with workspace((mib + 64) << 20) as folder, _server(folder / "far") as (pid, url):
        taken = uvloop.run(_rounds(folder, pid, url, mib))
    for call in ("write", "read"):
        near, far = min(taken[f"{call}, directory"]), min(taken[f"{call}, http"])
        print(f"{call:6} directory {near:5.2f}   http {far:5.2f} CPU seconds a GiB   {far / near:4.1f} times")


if __name__ == "__main__":
    main()
