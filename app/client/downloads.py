"""Files on their way down: in ranges, several at a time, each chunk verified before it is written.

A file grows in NAME.part beside its place, and takes that when it is whole. What is there already is known by its
digests: so a download goes on after any end, however it came about, and needs nothing else to be kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import pairwise
from pathlib import Path

from app.client.errors import FileExists, Garbled
from app.client.link import Answer, Link, Request
from app.client.manifests import manifest
from app.client.results import Span, StoredFile
from app.client.tasks import in_thread, together
from app.client.watch import UNWATCHED, Watch
from app.errors import MiniS3Error
from app.streams.hasher import Hasher

_BATCH = 16
"""Chunks verified in one call, each connection: as many as there are lanes to hash them in."""
_SEGMENT = 256
"""Chunks asked for in one request at the most: servers limit requests, and a broken one goes on where it was."""


class Downloader:
    def __init__(self, link: Link, hasher: Hasher, connections: int) -> None:
        self._link = link
        self._hasher = hasher
        self._connections = connections

    async def to_file(self, file: StoredFile, target: Path, *, overwrite: bool = False, watch: Watch) -> None:
        """Raises FileExists, MiniS3Error, and OSError where it can't be written."""
        if not overwrite:
            _require_absent(target)
        spans = await manifest(self._link, file)
        part = target.with_name(f"{target.name}.part")
        with _claimed(part) as descriptor:
            missing = await self._missing(descriptor, spans, watch)
            os.ftruncate(descriptor, file.size)
            places = asyncio.Semaphore(self._connections)
            async with together() as group:
                for segment in _segments(missing, self._connections):
                    group.create_task(self._fill(descriptor, file, segment, places, watch))
            await in_thread(os.fsync, descriptor)
            _put_in_place(part, target, overwrite=overwrite)

    async def stream(self, file: StoredFile, watch: Watch = UNWATCHED) -> AsyncGenerator[memoryview, None]:
        """The file's bytes in their order. Raises MiniS3Error."""
        async with aclosing(self._verified(file, await manifest(self._link, file))) as batches:
            async for _, memory in batches:
                yield memory
                watch.moved(len(memory))

    async def _missing(self, descriptor: int, spans: Sequence[Span], watch: Watch) -> list[Span]:
        """The chunks that are not in the file yet."""
        size = os.fstat(descriptor).st_size
        if not size:
            return list(spans)
        missing: list[Span] = []
        for at in range(0, len(spans), _BATCH):
            some = [span for span in spans[at : at + _BATCH] if span.stop <= size]
            chunks = await in_thread(lambda some=some: [_read(descriptor, span) for span in some])  # type: ignore[misc]
            digests = await self._hasher.digests(chunks)
            good = {span for span, digest in zip(some, digests, strict=True) if span.digest == digest}
            watch.spared(sum(span.size for span in good))
            missing += [span for span in spans[at : at + _BATCH] if span not in good]
        return missing

    async def _fill(
        self, descriptor: int, file: StoredFile, spans: Sequence[Span], places: asyncio.Semaphore, watch: Watch
    ) -> None:
        async with places, aclosing(self._verified(file, spans)) as batches:
            async for offset, memory in batches:
                await in_thread(_write, descriptor, memory, offset)
                watch.moved(len(memory))

    async def _verified(self, file: StoredFile, spans: Sequence[Span]) -> AsyncGenerator[tuple[int, memoryview], None]:
        """The bytes of spans that follow each other, in batches with their offsets; what breaks off goes on there."""
        retries = self._link.retries()
        rest = list(spans)
        while rest:
            headers = {"Range": f"bytes={rest[0].offset}-{rest[-1].stop - 1}", "If-Match": f'"{file.content_id}"'}
            try:
                async with self._link.open(Request("GET", f"/api/files/{file.id}", headers=headers)) as answer:
                    if answer.status != 206:
                        raise answer.stranger()
                    async for memory in _filled(answer, rest):
                        await self._check(memory, rest[:_BATCH])
                        yield rest[0].offset, memory
                        del rest[:_BATCH]
                        retries.moved()
            except MiniS3Error as error:
                await retries.wait(error)

    async def _check(self, memory: memoryview, spans: Sequence[Span]) -> None:
        start = spans[0].offset
        digests = await self._hasher.digests([memory[span.offset - start : span.stop - start] for span in spans])
        if digests != [span.digest for span in spans]:
            raise Garbled("Bytes of the file were changed on the way.")


async def _filled(answer: Answer, spans: Sequence[Span]) -> AsyncGenerator[memoryview, None]:
    """The body as batches of these spans. Raises Garbled where it has not as many bytes."""
    ends = [spans[min(at + _BATCH, len(spans)) - 1].stop for at in range(0, len(spans), _BATCH)]
    sizes = [stop - start for start, stop in pairwise([spans[0].offset, *ends])]
    pieces = answer.pieces()
    rest = memoryview(b"")
    async with aclosing(pieces):
        for size in sizes:
            memory, filled = memoryview(bytearray(size)), 0
            while filled < size:
                if not rest:
                    rest = memoryview(await anext(pieces, b""))
                    if not rest:
                        raise Garbled("The answer was shorter than the file.")
                taken = min(len(rest), size - filled)
                memory[filled : filled + taken] = rest[:taken]
                rest = rest[taken:]
                filled += taken
            yield memory


def _segments(spans: Sequence[Span], connections: int) -> Iterator[Sequence[Span]]:
    """Runs of chunks that follow each other, so many that all connections are busy."""
    most = max(_BATCH, min(_SEGMENT, -(-len(spans) // connections)))
    begin = 0
    for at in range(1, len(spans) + 1):
        if at == len(spans) or spans[at].offset != spans[at - 1].stop or at - begin == most:
            yield spans[begin:at]
            begin = at


@contextmanager
def _claimed(part: Path) -> Iterator[int]:
    """The file, for this download alone. Raises FileExists where another one has it."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(descriptor), part.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:  # The other one may have put the file into its place since we opened it.
            raise FileExists(f"Another download is writing {part}. Wait for it, or name another file.")
        yield descriptor
    finally:
        os.close(descriptor)


def _put_in_place(part: Path, target: Path, *, overwrite: bool) -> None:
    """Raises FileExists where another program made the target meanwhile."""
    if overwrite:
        part.replace(target)
        return
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise FileExists(f"{target} was made meanwhile. What came is in {part}.") from error
    except OSError:  # The file system knows no links.
        part.rename(target)
    else:
        part.unlink()


def _require_absent(target: Path) -> None:
    if target.exists():
        raise FileExists(f"{target} is there already.")


def _read(descriptor: int, span: Span) -> bytes:
    return os.pread(descriptor, span.size, span.offset)


def _write(descriptor: int, memory: memoryview, offset: int) -> None:
    while len(memory):
        count = os.pwrite(descriptor, memory, offset)
        memory = memory[count:]
        offset += count
