"""What a node behind a hurt network costs reads of what is on other nodes: `python -m bench.network`.

Three node servers hold one copy of all; one of them is reached through a proxy, which hurts it. Small files on the two
others are read all the time and timed, while further clients read what is on the hurt node, and upload. For each
fault a calm and a hurt spell take turns. What is told is how many times as long the reads of the hurt ones last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from threading import Event
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import click

from bench.http import MIB, Client, HttpError
from bench.proxy import Proxy
from bench.server import NODE_TOKEN, ServerFailed, running_nodes, running_server
from bench.workspace import NoSpace, workspace

_READERS = 2
_SMALL = 64 << 10
"""Bytes of each file."""

_EACH = 24
"""Files on the hurt node, and on the others."""

_PACE = 0.05
"""Seconds between two calls of a client that only adds to the load: refusals are quick."""

_FLAP = 0.7
"""Seconds after which a flapping network changes."""

_DELAY = 0.2
"""Seconds that a slow network takes each way."""

_NODES = 3

_SENDS, _IS_SENT, _SLOW, _FLAPS = "what it sends is cut off", "what it is sent is cut off", "slow", "comes and goes"
FAULTS = ("cut off both ways", _SENDS, _IS_SENT, _SLOW, _FLAPS)


@dataclass
class Reads:
    """Seconds that reads lasted, of calm spells and of hurt ones."""

    calm: list[float] = field(default_factory=list)
    hurt: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        shares = {share: [_quantile(seconds, share) for seconds in (self.calm, self.hurt)] for share in (50, 99)}
        ratios = (f"p{share} {hurt / calm:5.2f} x" for share, (calm, hurt) in shares.items())
        calm = " and ".join(f"{1000 * calm:.1f}" for calm, _ in shares.values())
        return f"{', '.join(ratios)} the calm {calm} ms; {len(self.calm):,} and {len(self.hurt):,} reads"


@dataclass(frozen=True)
class House:
    client: Client
    proxy: Proxy
    far: list[str]
    near: list[str]


@click.command()
@click.option("--seconds", default=8.0, show_default=True, type=click.FloatRange(1), help="Of each spell.")
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1), help="How often all is measured.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), help="Where the servers store.")
def main(seconds: float, rounds: int, parent: Path | None) -> None:
    """Measure reads of chunks whose nodes are well, while another node is cut off, slow, or flaps."""
    found = {fault: Reads() for fault in FAULTS}
    try:
        with workspace(2048 * MIB, parent) as folder, _started(folder) as house:
            for _ in range(rounds):
                for fault, reads in found.items():
                    reads.calm += _spell(house, seconds)
                    with _hurt(house.proxy, fault):
                        reads.hurt += _spell(house, seconds)
                    _recover(house)
    except (NoSpace, ServerFailed, HttpError, OSError) as error:
        click.echo(f"The measurement failed: {error}", err=True)
        sys.exit(1)
    for fault, reads in found.items():
        click.echo(f"{fault:28}{reads}")


@contextmanager
def _started(folder: Path) -> Iterator[House]:
    with ExitStack() as stack:
        folders = (folder / f"node{number}" for number in range(_NODES))
        hurt, *others = (node.url for node in stack.enter_context(running_nodes(*folders)))
        proxy = stack.enter_context(closing(Proxy(urlsplit(hurt).port or 0)))
        flags = {"nodes": ",".join([proxy.url, *others]), "node-token": NODE_TOKEN}
        rates = {f"rate-{kind}": "100000000/minute" for kind in ("api", "upload", "download")}
        words = (word for name, value in (flags | rates).items() for word in (f"--{name}", value))
        server = stack.enter_context(running_server(folder, *words))
        yield _filled(server.client, proxy)


def _filled(client: Client, proxy: Proxy) -> House:
    house = House(client, proxy, [], [])
    name = urlsplit(proxy.url).netloc.replace(".", "-").replace(":", "-")
    while min(len(house.far), len(house.near)) < _EACH:
        path = f"/api/files/{_upload(client)['fileId']}"
        (chunk,) = client.read_json(f"{path}/manifest")["chunks"]
        (house.far if chunk["nodes"] == [name] else house.near).append(path)
    return house


def _upload(client: Client) -> Any:
    return client.upload("small", _SMALL, [bytearray(os.urandom(_SMALL))])


@contextmanager
def _hurt(proxy: Proxy, fault: str) -> Iterator[None]:
    """The fault lasts as long as the block."""
    over = Event()

    def flap() -> None:
        while not over.wait(_FLAP):
            proxy.cut()
            over.wait(_FLAP)
            proxy.restore()

    with ThreadPoolExecutor(1) as threads:
        if fault == _SLOW:
            proxy.slow(_DELAY)
        elif fault == _FLAPS:
            threads.submit(flap)
        else:
            proxy.cut(sent=fault != _SENDS, answered=fault != _IS_SENT)
        try:
            yield
        finally:
            over.set()
            threads.shutdown()
            proxy.restore()


def _spell(house: House, seconds: float) -> list[float]:
    """The durations of reads on nodes that are well, beside clients who use the other one too."""
    over = Event()

    def timed() -> list[float]:
        lasted: list[float] = []
        while not over.is_set():
            path = house.near[len(lasted) % len(house.near)]
            began = perf_counter()
            for _ in house.client.download(path):
                pass
            lasted.append(perf_counter() - began)
        return lasted

    def load(act: Callable[[int], object]) -> None:
        turn = 0
        while not over.wait(_PACE):
            with suppress(HttpError):  # What is only on the hurt node can't be read.
                act(turn)
            turn += 1

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(timed) for _ in range(_READERS)]
        for _ in range(2):
            threads.submit(load, lambda turn: list(house.client.download(house.far[turn % len(house.far)])))
        threads.submit(load, lambda _: _upload(house.client))
        over.wait(seconds)
        over.set()
        return [lasted for reader in readers for lasted in reader.result()]


def _quantile(seconds: Sequence[float], share: int) -> float:
    """What so many hundredths of them do not exceed."""
    return quantiles(seconds, n=100)[share - 1]


def _recover(house: House) -> None:
    """Until the node that was hurt is read again."""
    for path in house.far:
        while True:
            with suppress(HttpError):
                list(house.client.download(path))
                break


if __name__ == "__main__":
    main()
