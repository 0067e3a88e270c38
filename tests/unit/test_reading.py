"""Reading past the kernel's cache: only where it can be done, and only where the disk is fast enough."""

from __future__ import annotations

import errno
import itertools
import os
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from app.errors import BlobDamaged
from app.nodes import reading
from app.nodes.durable import DIRECT
from app.nodes.reading import Reader

CHUNK = 1 << 20

pytestmark = pytest.mark.skipif(not DIRECT, reason="this system has no reading past the cache")


class Disk:
    """Notes how files are opened; refuses to be read past the cache if it can't be; takes so long to read."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.past_cache: list[bool] = []
        self.able = True
        self.seconds = 0.001
        self._clock = itertools.count()
        self._open = os.open
        patch.setattr(os, "open", self._opened)
        patch.setattr(reading, "perf_counter", lambda: next(self._clock) * self.seconds)

    def _opened(self, path: Any, flags: int, *rest: Any) -> int:
        self.past_cache.append(bool(flags & DIRECT))
        if self.past_cache[-1] and not self.able:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        # Whether the real disk can do it is not what is tested.
        return self._open(path, flags & ~DIRECT, *rest)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    return Disk(monkeypatch)


def pages(size: int) -> memoryview:
    return memoryview(mmap(-1, size + 4096))[:size]


def test_a_fast_disk_is_read_past_the_cache(disk: Disk, tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    (tmp_path / "blob").write_bytes(content)
    reader, buffer = Reader(), pages(CHUNK)
    for _ in range(2 * reading._SAMPLES):
        reader.fill(tmp_path / "blob", buffer)
    assert buffer == content
    assert disk.past_cache == [True] * (2 * reading._SAMPLES)


def test_a_slow_disk_is_read_through_it(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(bytes(CHUNK))
    disk.seconds = 0.01
    reader = Reader()
    for _ in range(reading._SAMPLES + 3):
        reader.fill(tmp_path / "blob", pages(CHUNK))
    assert disk.past_cache == [True] * reading._SAMPLES + [False] * 3


def test_a_disk_that_is_fast_when_it_has_nothing_else_to_do_is_fast(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(bytes(CHUNK))
    reader = Reader()
    for number in range(reading._SAMPLES + 3):
        disk.seconds = 0.001 if number == 5 else 0.05
        reader.fill(tmp_path / "blob", pages(CHUNK))
    assert disk.past_cache[-1]


def test_a_file_system_that_can_not_is_asked_once(disk: Disk, tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    (tmp_path / "blob").write_bytes(content)
    disk.able = False
    reader, buffer = Reader(), pages(CHUNK)
    for _ in range(3):
        reader.fill(tmp_path / "blob", buffer)
        assert buffer == content
    assert disk.past_cache == [True, False, False, False]


@pytest.mark.parametrize(
    ("size", "offset"), [(4096, 0), (CHUNK - 1, 0), (CHUNK, 1)], ids=["small", "no multiple", "not at a page"]
)
def test_what_is_small_or_not_aligned_is_read_through_the_cache(
    disk: Disk, tmp_path: Path, size: int, offset: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "blob").write_bytes(content)
    buffer = pages(size + offset)[offset:]
    Reader().fill(tmp_path / "blob", buffer)
    assert buffer == content
    assert disk.past_cache == [False]


@pytest.mark.parametrize("size", [0, CHUNK - 4096, CHUNK + 1, CHUNK + 4096])
def test_a_file_of_another_size_is_damaged(tmp_path: Path, size: int) -> None:
    (tmp_path / "blob").write_bytes(bytes(size))
    with pytest.raises(BlobDamaged, match=f"{size} bytes instead of {CHUNK}"):
        Reader().fill(tmp_path / "blob", pages(CHUNK))


def test_other_errors_are_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reader().fill(tmp_path / "nothing", pages(CHUNK))
