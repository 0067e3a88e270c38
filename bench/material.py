"""Real bytes for a demonstration: the binaries of this machine, made into one large file.

The same machine gives the same bytes each time.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from stat import S_ISREG
from typing import BinaryIO

from app.embedded import mongod, redis_server
from app.errors import ConfigError
from bench.http import MIB

COPIES = 3
"""The least number of times that the collected binaries appear in the file, the last time perhaps cut."""

EDITED_IN_COPY = 0.1
"""Share of the blocks of every later copy that gets an edit."""

EDITED_IN_VERSION = 0.01
"""Share of the blocks that the edited version has new."""

_SEED = 20_240_229


@dataclass(frozen=True)
class Source:
    """Up to `size` bytes of one file; `kind` tells people what it is."""

    path: Path
    size: int
    kind: str


@dataclass(frozen=True)
class Material:
    """The file as it was built. Counts are in blocks of 1 MiB."""

    path: Path
    sources: list[Source]
    blocks: int
    blocks_in_copy: int
    edits: int

    @property
    def size(self) -> int:
        return self.blocks * MIB


def find_sources(most: int) -> list[Source]:
    """Binaries with at most `most` bytes in all; the last one is cut to fit."""
    sources: list[Source] = []
    seen: set[tuple[int, int]] = set()
    left = most
    for path, kind in _binaries():
        with suppress(OSError):
            stat = path.stat()
            if not S_ISREG(stat.st_mode) or not os.access(path, os.R_OK):
                continue
            if left and stat.st_size and (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                sources.append(Source(path, min(stat.st_size, left), kind))
                left -= sources[-1].size
    return sources


def build(path: Path, sources: list[Source], blocks: int) -> Material:
    """Write `sources` after each other, again and again, until `path` has `blocks` MiB.

    Each copy starts on a block of its own. All but the first have edits in place: 64 bytes overwritten
    in one of ten blocks, at random.
    """
    edits = 0
    with path.open("w+b") as file:
        in_copy = _write_first(file, sources, blocks)
        block = bytearray(MIB)
        edited: set[int] = set()
        random = Random(_SEED)
        for index in range(in_copy, blocks):
            place = index % in_copy
            if place == 0:
                edited = set(random.sample(range(in_copy), max(1, int(in_copy * EDITED_IN_COPY))))
            os.preadv(file.fileno(), [block], place * MIB)
            if place in edited:
                start = random.randrange(MIB - 64)
                block[start : start + 64] = random.randbytes(64)
                edits += 1
            file.write(block)
        _settle(file)
    return Material(path, sources, blocks, in_copy, edits)


def edit(material: Material, path: Path) -> int:
    """Write a version of the material with 1 % of its blocks overwritten; return how many those are."""
    random = Random(_SEED + 1)
    chosen = sorted(random.sample(range(material.blocks), max(1, int(material.blocks * EDITED_IN_VERSION))))
    shutil.copyfile(material.path, path)
    with path.open("r+b") as file:
        for index in chosen:
            file.seek(index * MIB)
            file.write(random.randbytes(MIB))
        _settle(file)
    return len(chosen)


def read_blocks(path: Path) -> Iterator[bytearray]:
    """A file in blocks of 1 MiB, only the last one shorter. A block is overwritten by the next."""
    block = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            yield block if count == MIB else block[:count]


def _write_first(file: BinaryIO, sources: list[Source], blocks: int) -> int:
    """Write the first copy, of at most `blocks`; return how many blocks it takes."""
    for source in sources:
        with source.path.open("rb") as binary:
            left = source.size
            while left and (piece := binary.read(min(left, MIB))):
                file.write(piece)
                left -= len(piece)
    in_copy = min(blocks, max(1, -(-file.tell() // MIB)))
    file.truncate(in_copy * MIB)
    file.seek(in_copy * MIB)
    file.flush()
    return in_copy


def _settle(file: BinaryIO) -> None:
    """To disk, so that what is measured next does not pay for it."""
    file.flush()
    os.fsync(file.fileno())


def _binaries() -> Iterator[tuple[Path, str]]:
    with suppress(ConfigError):
        yield mongod.find_binary(), "the MongoDB server"
    python = "the Python installation"
    yield Path(sys.executable).resolve(), python
    libraries = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")]
    for folder, pattern in zip(libraries, ("libpython*.so*", "lib-dynload/*.so", "**/*.so*"), strict=True):
        if folder:
            for path in sorted(Path(folder).glob(pattern)):
                yield path, python
    valkey = redis_server.find_binary()
    if valkey:
        yield valkey, "the Redis or Valkey server"
    for path in sorted(Path("/usr/bin").glob("*")):
        yield path, "programs in /usr/bin"
