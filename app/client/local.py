"""Local files: what tells whether one was changed, their bytes, and their chunks' digests."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from app.client.errors import FileChanged, NotRegular
from app.client.results import Span
from app.client.tasks import in_thread
from app.streams.hasher import Hasher
from app.types import CHUNK_SIZE, ContentId, ContentName

_LANES = 16
"""Chunks that one core hashes side by side at the most."""
_MOST = 64
"""Chunks read at a time at the most; the next ones are read meanwhile."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file system tells of a file's bytes without reading them; times are nanoseconds since 1970.

    Programs can set `modified` back, but not `changed`.
    """

    size: int
    modified: int
    changed: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


class LocalFile:
    """An open file of which the bytes are meant that it had when it was opened."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.identity = Identity.of(os.fstat(descriptor))

    @property
    def size(self) -> int:
        return self.identity.size

    def fill(self, memory: memoryview, offset: int) -> None:
        """Read as many bytes as `memory` has. Raises FileChanged where there are fewer."""
        while len(memory):
            count = os.preadv(self._descriptor, [memory], offset)
            if count == 0:
                raise self._change()
            memory = memory[count:]
            offset += count

    async def read(self, spans: Sequence[Span]) -> AsyncIterator[memoryview]:
        """The bytes of these spans, one after the other."""
        for span in spans:
            memory = memoryview(bytearray(span.size))
            await in_thread(self.fill, memory, span.offset)
            yield memory

    def check(self) -> None:
        """Raises FileChanged where the file was written to since it was opened."""
        if Identity.of(os.fstat(self._descriptor)) != self.identity:
            raise self._change()

    def _change(self) -> FileChanged:
        return FileChanged(f"{self.path} changed while it was read. Nothing of it was stored; try it again.")


@contextmanager
def opened(path: Path) -> Iterator[LocalFile]:
    """Raises NotRegular and OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegular(f"{path} is no regular file.")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield LocalFile(path, descriptor)
    finally:
        os.close(descriptor)


class Scanner:
    """Finds the chunks of files, one file at a time: hashing takes all cores as it is."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._turn = asyncio.Lock()
        self._at_once = min(_MOST, _LANES * (os.cpu_count() or 1)) * CHUNK_SIZE
        self._spare: list[mmap] = []

    async def scan(self, file: LocalFile, found: Callable[[Sequence[Span]], None]) -> None:
        """Tell of all chunks, a batch at a time. Raises FileChanged where the file was changed until the end."""
        async with self._turn:
            # A scan that is cancelled leaves a thread at work, and does not give its memory back.
            buffers = [self._spare.pop() if self._spare else mmap(-1, self._at_once) for _ in range(2)]
            read = await self._read(file, buffers[0], 0)
            while read:
                offset, chunks = read
                following = offset + sum(map(len, chunks))
                buffers.reverse()
                digests, read = await asyncio.gather(
                    self._hasher.digests(chunks), self._read(file, buffers[0], following)
                )
                spans = []
                for chunk, digest in zip(chunks, digests, strict=True):
                    spans.append(Span(offset, len(chunk), digest))
                    offset += len(chunk)
                found(spans)
            file.check()
            self._spare += buffers

    async def _read(self, file: LocalFile, buffer: mmap, offset: int) -> tuple[int, list[memoryview]] | None:
        """The next chunks of the file, from `offset` on, in this buffer; None at its end."""
        size = min(self._at_once, file.size - offset)
        if size <= 0:
            return None
        memory = memoryview(buffer)[:size]
        await in_thread(file.fill, memory, offset)
        return offset, cut(memory)


def cut(memory: memoryview) -> list[memoryview]:
    """The chunks of these bytes, which begin where a chunk does."""
    return [memory[at : at + CHUNK_SIZE] for at in range(0, len(memory), CHUNK_SIZE)]


def content_id_of(spans: Sequence[Span]) -> ContentId:
    name = ContentName()
    for span in spans:
        name.add(span.digest)
    return name.id
