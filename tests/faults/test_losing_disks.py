"""Disks that lose what they hold, change it, take no more, or change places, while the store works."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.errors import Damaged
from app.nodes import breaker, durable
from app.types import File
from tests.conftest import OpenStore
from tests.faults.test_damage import flip, lengthen, shorten
from tests.streams.tools import MIB
from tests.support import eventually_async
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

NODES = [f"disk{number}" for number in range(1, 7)]


@dataclass(frozen=True)
class Case:
    """A redundancy, and how many disks may fail at once."""

    redundancy: str
    losses: int


CASES = [Case("2", losses=1)]
redundancies = pytest.mark.parametrize("case", CASES, ids=lambda case: case.redundancy)


@dataclass
class House:
    store: Upkept
    folder: Path
    files: dict[str, tuple[File, bytes]] = field(default_factory=dict)

    def disk(self, number: int) -> Path:
        return self.folder / NODES[number]

    def blobs(self, *numbers: int) -> list[Path]:
        return [path for number in numbers for path in self.disk(number).glob("??/*")]

    async def upload(self, chunks: int = 6) -> None:
        for content in (os.urandom(chunks * MIB + 5), os.urandom(1000)):
            (file,) = await self.store.put(content)
            self.files[file.id] = (file, content)

    async def read_all(self) -> None:
        for file, content in self.files.values():
            assert await self.store.get(file) == content

    async def lost(self) -> set[str]:
        """The files that can't be read; the others must be right."""
        lost = set()
        for file, content in self.files.values():
            try:
                assert await self.store.get(file) == content
            except Damaged:
                lost.add(file.id)
        return lost

    async def kinds(self, **how: bool) -> list[str]:
        return sorted(finding.kind for finding in (await self.store.check(**how)).findings)


@asynccontextmanager
async def house_of(open_store: OpenStore, folder: Path, case: Case) -> AsyncIterator[House]:
    nodes = ",".join(str(folder / name) for name in NODES)
    async with upkept(open_store, folder, nodes=nodes, redundancy=case.redundancy) as store:
        house = House(store, folder)
        await house.upload()
        yield house


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (Path.unlink, "blob-missing"),
    (flip, "blob-wrong"),
    (shorten, "blob-size"),
    (lengthen, "blob-size"),
]


@redundancies
async def test_all_blobs_of_a_disk_are_hurt(open_store: OpenStore, tmp_path: Path, case: Case) -> None:
    """Of one set of disks after the other, in all ways: between them the repair."""
    async with house_of(open_store, tmp_path, case) as house:
        for turn, (damage, kind) in enumerate(DAMAGES):
            hurt = house.blobs(*{(turn * case.losses + number) % len(NODES) for number in range(case.losses)})
            assert hurt
            for blob in hurt:
                damage(blob)
            await house.read_all()
            report = await house.store.check(read_data=True, repair=True)
            assert [finding.kind for finding in report.findings] == [kind] * len(hurt)
            assert report.left == []
        assert await house.kinds(read_data=True) == []
        await house.read_all()


@redundancies
async def test_what_is_lost_for_good_is_named(open_store: OpenStore, tmp_path: Path, case: Case) -> None:
    """More disks are hurt than the redundancy bears. An upload of the same bytes heals."""
    async with house_of(open_store, tmp_path, case) as house:
        for damage, number in zip((Path.unlink, flip, shorten), range(case.losses + 1), strict=False):
            for blob in house.blobs(number):
                damage(blob)
        lost = await house.lost()
        assert lost
        report = await house.store.check(read_data=True, repair=True)
        assert {file.id for file in report.touched} >= lost
        assert {finding.kind for finding in report.left} >= {"blob-missing"}
        named = await house.store.check(read_data=True)
        assert {file.id for file in named.touched} == lost == await house.lost()
        assert {finding.kind for finding in named.findings} == {"chunk-lost"}
        for file_id in lost:
            await house.store.put(house.files[file_id][1])
        assert await house.kinds(read_data=True) == []
        await house.read_all()


@redundancies
async def test_a_disk_is_gone(open_store: OpenStore, tmp_path: Path, case: Case) -> None:
    """With its identity. It may come back: nothing of it is given up, and nothing is deleted."""
    async with house_of(open_store, tmp_path, case) as house:
        for number in range(case.losses):
            house.disk(number).rename(house.disk(number).with_suffix(".aside"))
            house.disk(number).mkdir()
        await house.read_all()
        await house.upload()
        assert await house.kinds(repair=True) == ["node-absent"] * case.losses
        await house.read_all()
        assert house.blobs(*range(case.losses)) == []
        for number in range(case.losses):
            house.disk(number).rmdir()
            house.disk(number).with_suffix(".aside").rename(house.disk(number))
        await house.read_all()


@redundancies
async def test_disks_change_places(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """Under a store at work. Neither of the two is used, or swept, until they are back: seen to lose copies to the
    sweeper, to which all on the wrong disk was named by nobody."""
    monkeypatch.setattr(breaker, "_REST", 0.1)
    async with house_of(open_store, tmp_path, case) as house:
        before = house.blobs(*range(len(NODES)))
        names = sorted(path.name for path in house.blobs(0, 1))
        swap(house.disk(0), house.disk(1))
        await house.store.gc()
        assert sorted(path.name for path in house.blobs(0, 1)) == names
        assert await house.kinds(repair=True) == ["node-absent"] * 2
        swap(house.disk(0), house.disk(1))
        assert house.blobs(*range(len(NODES))) == before
        await eventually_async(lambda: _states(house, {"active": len(NODES)}))
        await house.read_all()


async def test_disks_that_changed_places_are_found_out_by_reads(open_store: OpenStore, tmp_path: Path) -> None:
    async with house_of(open_store, tmp_path, Case("3", losses=2)) as house:
        swap(house.disk(0), house.disk(1))
        await house.read_all()
        await eventually_async(lambda: _states(house, {"down": 2, "active": 4}))
        await house.upload()
        assert not [finding for finding in await house.kinds(read_data=True) if finding != "node-absent"]


async def _states(house: House, expected: dict[str, int]) -> bool:
    found = [status.state for status in await house.store.cluster.statuses()]
    return {state: found.count(state) for state in set(found)} == expected


def swap(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


# Disks that take no more


class Disk:
    """A file system of its own where tests may mount one (as root), else writes that fail."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, "tmpfs", str(self._folder)], check=True)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        self._folder.mkdir()
        if os.geteuid():
            yield
            return
        self._mount("-t", "tmpfs", "-o", "size=64M")
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(self._folder)], check=True)

    def fail(self, number: int) -> None:
        if os.geteuid():
            self._patch.setattr(durable.os, "write", self._refusing(number))
        elif number == errno.EROFS:
            self._mount("-o", "remount,ro")
        else:
            self._mount("-o", f"remount,size={shutil.disk_usage(self._folder).used}")

    def mend(self) -> None:
        if os.geteuid():
            self._patch.undo()
        else:
            self._mount("-o", "remount,rw,size=64M")

    def _refusing(self, number: int) -> Callable[..., int]:
        real = os.write

        def write(descriptor: int, data: Any) -> int:
            if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self._folder):
                raise OSError(number, os.strerror(number))
            return real(descriptor, data)

        return write


@redundancies
@pytest.mark.parametrize(("fault", "state"), [(errno.EROFS, "down"), (errno.ENOSPC, "full")], ids=["read-only", "full"])
async def test_a_disk_takes_no_more(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, fault: int, state: str
) -> None:
    """It is read as ever, others take its writes, and what is repaired meanwhile goes to others."""
    disk = Disk(tmp_path / NODES[0], monkeypatch)
    with ExitStack() as stack:
        stack.enter_context(disk.mounted())
        async with house_of(open_store, tmp_path, case) as house:
            held = len(house.blobs(0))
            spoilt = house.blobs(0)[0]
            flip(spoilt)
            disk.fail(fault)
            await house.upload(12)  # More than three to a disk: so many must fail until it is left alone.
            assert len(house.blobs(0)) == held
            await eventually_async(lambda: _states(house, {state: 1, "active": len(NODES) - 1}))
            await house.read_all()
            report = await house.store.check(read_data=True, repair=True)
            assert [finding.kind for finding in report.findings] == ["blob-wrong"]
            assert report.left == []
            assert set(await house.kinds(read_data=True)) <= {"unnamed-blob"}, "the bad one may have to stay"
            disk.mend()
            assert set(await house.kinds(repair=True)) <= {"unnamed-blob"}
            assert await house.kinds(read_data=True) == []
            await house.read_all()
