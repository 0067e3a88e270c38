"""The work that is measured: every step is done by one system after the other, round by round."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Protocol, TypeVar

from bench.compare import load
from bench.compare.bare import SEED
from bench.compare.figures import (
    AT_ONCE,
    BARE,
    BUSY,
    CPU,
    DATABASE_CPU,
    DOWN,
    DOWN_AGAIN,
    DOWN_COLD,
    KNOWN,
    NEW,
    P99,
    PER_SECOND,
    RATE,
    SMALL_DOWN,
    SMALL_UP,
    UNEVEN,
    Results,
)
from bench.compare.systems import BUCKET, Bare, GridFS, MiniS3, S3Api, Seaweed, System, check_same
from bench.http import MIB
from bench.memory import at_once

_GIB = 1 << 30
_SMALL = 4096
"""Bytes of a small file."""

Tell = Callable[[str], None]
T = TypeVar("T")


class Reachable(System, Protocol):
    """A system that small requests reach at an address."""

    @property
    def address(self) -> str: ...


@dataclass(frozen=True)
class Plan:
    """Sizes in MiB; `seconds` that each load of small files lasts."""

    rounds: int
    mib: int
    at_once: int
    each_mib: int
    connections: int
    seconds: float

    @property
    def disk(self) -> int:
        """Bytes that all systems together store, with room for journals and logs."""
        large, many = self.mib * MIB, self.at_once * self.each_mib * MIB
        mini_s3, seaweed, gridfs = self.rounds * (large + many), self.rounds * (2 * large + many), 2 * large
        return mini_s3 + seaweed + gridfs + 4 * _GIB


@dataclass(frozen=True)
class Systems:
    mini_s3: MiniS3
    seaweed: Seaweed
    gridfs: GridFS
    bare: Bare

    def all(self, number: int) -> list[System]:
        """Another one begins in each round, so that none is always first."""
        return turned([self.mini_s3, self.seaweed, self.gridfs, self.bare], number)

    def stores(self, number: int) -> list[System]:
        return [each for each in self.all(number) if each.name != BARE]

    def servers(self, number: int) -> list[MiniS3 | Seaweed | Bare]:
        return turned([self.mini_s3, self.seaweed, self.bare], number)

    def gateways(self, number: int) -> list[MiniS3 | Seaweed]:
        return turned([self.mini_s3, self.seaweed], number)


def turned(items: Sequence[T], by: int) -> list[T]:
    by %= len(items)
    return [*items[by:], *items[:by]]


def settle() -> None:
    """Let the kernel write what is not on disk yet, so that nobody pays for somebody else."""
    os.sync()


def forget(folder: Path) -> None:
    """Let the kernel drop from its cache what the files below `folder` hold, as far as it is on the disk."""
    for path in folder.rglob("*"):
        with suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm_up(systems: Iterable[System], gateways: Iterable[Reachable]) -> None:
    """Volumes, indexes, connections: what only the first file needs is made before anything is measured."""
    data = secrets.token_bytes(8 * MIB)
    for each in systems:
        key = each.upload(data, "warm")
        if each.name != BARE:
            checked_download(each, key, data)
    for gateway in gateways:
        load.run(_uploads(gateway, Plan(1, 1, 1, 1, 4, 0.2)))


def run_round(number: int, systems: Systems, plan: Plan, results: Results, tell: Tell) -> None:
    """Do every step once with every system. Raises HttpError, Unexpected, OSError."""
    data = secrets.token_bytes(plan.mib * MIB)
    keys: dict[str, str] = {}
    tell(NEW)
    for each in systems.all(number):
        keys[each.name] = upload(each, data, f"new-{number}", NEW, results)
    tell(KNOWN)
    again = {each.name: upload(each, data, f"known-{number}", KNOWN, results) for each in systems.all(number)}
    tell(DOWN)
    for step in (DOWN, DOWN_AGAIN):
        for each in systems.stores(number):
            download(each, keys[each.name], data, step, results)
    for gateway in systems.gateways(number):
        settle()
        forget(gateway.folder)
        download(gateway, keys[gateway.name], data, DOWN_COLD, results)
    for each in systems.stores(number):
        checked_download(each, again[each.name], data)
    systems.gridfs.clear()
    del data
    tell(AT_ONCE)
    _many(systems.gateways(number), number, plan, results)
    tell(f"{SMALL_UP}, {SMALL_DOWN}")
    for each in systems.servers(number):
        small(each, plan, results)


def measured(system: System, size: int, step: str, results: Results, work: Callable[[], T]) -> T:
    """Do work that moves `size` bytes; how fast, and what processor time the system took, becomes a sample."""
    settle()
    before = system.cpu()
    start = perf_counter()
    result = work()
    seconds = perf_counter() - start
    results.add(step, RATE, system.name, size / 1e6 / seconds)
    for role, took in system.cpu().items():
        figure = DATABASE_CPU if role == "database" else CPU
        results.add(step, figure, system.name, (took - before[role]) / (size / _GIB))
    return result


def upload(system: System, data: bytes, name: str, step: str, results: Results) -> str:
    """Its key. Raises HttpError, Unexpected, OSError."""
    return measured(system, len(data), step, results, lambda: system.upload(data, name))


def download(system: System, key: str, data: bytes, step: str, results: Results) -> None:
    """Only receiving is timed, into memory that is there already; the bytes are compared afterwards. Raises
    HttpError, Unexpected, OSError."""
    into = bytearray(b"\1") * len(data)
    measured(system, len(data), step, results, lambda: system.download(key, into))
    check_same(into, data, system.name)


def checked_download(system: System, key: str, data: bytes) -> None:
    into = bytearray(len(data))
    system.download(key, into)
    check_same(into, data, system.name)


def _many(gateways: Sequence[MiniS3 | Seaweed], round_number: int, plan: Plan, results: Results) -> None:
    parts = [secrets.token_bytes(plan.each_mib * MIB) for _ in range(plan.at_once)]
    for gateway in gateways:
        keys, seconds = [""] * len(parts), [0.0] * len(parts)

        def transfer(number: int, _: Event, gateway: System = gateway, keys: list[str] = keys) -> None:
            keys[number] = gateway.upload(parts[number], f"many-{round_number}-{number}")
            seconds[number] = perf_counter() - start  # noqa: B023 (all transfers end within this turn of the loop)

        settle()
        start = perf_counter()
        at_once(len(parts), transfer)
        results.add(AT_ONCE, RATE, gateway.name, len(parts) * len(parts[0]) / 1e6 / max(seconds))
        results.add(AT_ONCE, UNEVEN, gateway.name, max(seconds) / min(seconds))
        for key, part in zip(keys, parts, strict=True):
            checked_download(gateway, key, part)


def small(server: Reachable, plan: Plan, results: Results) -> None:
    """Files of 4 KiB: uploads, and downloads of the same. Raises HttpError."""
    settle()
    uploads = _uploads(server, plan)
    up = load.run(uploads)
    _add(SMALL_UP, server, up, results)
    settle()
    seed, paths = (SEED, ("/same/0",)) if server.name == BARE else (uploads.seed, up.paths)
    down = load.run(load.Load("get", server.address, seed, _SMALL, plan.connections, plan.seconds, paths=paths))
    _add(SMALL_DOWN, server, down, results)


def _add(step: str, server: System, done: load.Done, results: Results) -> None:
    results.add(step, PER_SECOND, server.name, done.per_second)
    results.add(step, P99, server.name, done.p99_ms)
    results.add(step, BUSY, server.name, done.busy)


def _uploads(server: Reachable, plan: Plan) -> load.Load:
    seed = secrets.token_hex(8)
    kind, prefix = ("put", f"/{BUCKET}/{seed}-") if isinstance(server, S3Api) else ("form", "")
    return load.Load(kind, server.address, seed, _SMALL, plan.connections, plan.seconds, prefix)


def ceiling(address: str, plan: Plan) -> float:
    """Uploads a second that the load generator reaches against a server that does nothing."""
    seconds = min(plan.seconds, 2.0)
    return load.run(load.Load("put", address, "none", _SMALL, plan.connections, seconds, "/")).per_second
