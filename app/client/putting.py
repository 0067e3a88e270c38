"""What is stored how: small files in forms, large ones by their chunks, and many at the same time."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns

from app.client import forms
from app.client.forms import Small
from app.client.link import Link
from app.client.local import LocalFile, Scanner, content_id_of, opened
from app.client.memory import Memory
from app.client.pipes import Pipe, batches
from app.client.results import Span, Upload
from app.client.tasks import in_thread, together
from app.client.uploads import Uploader
from app.client.watch import UNWATCHED, Watch
from app.errors import BadRequest, MiniS3Error, Unavailable
from app.streams.hasher import Hasher
from app.types import CHUNK_SIZE, ContentId

DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A local file that is to be stored under this name; without a content type it gets that of its name's ending."""

    path: Path
    name: str
    content_type: str = ""
    watch: Watch = field(default=UNWATCHED, compare=False)

    @property
    def kind(self) -> str:
        return self.content_type or mimetypes.guess_type(self.name)[0] or DEFAULT_TYPE

    @property
    def size(self) -> int:
        """Bytes; 0 where that can't be told, which comes out when the file is opened."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many files: an upload, or an error."""

    wanted: Wanted
    result: Upload | MiniS3Error | OSError


Done = Callable[[Outcome], None]


class Putter:
    def __init__(self, link: Link, hasher: Hasher, memory: Memory | None, jobs: int) -> None:
        """`jobs`: files, and bodies of requests, on their way at the same time."""
        self._link = link
        self._memory = memory
        self._jobs = jobs
        self._scanner = Scanner(hasher)
        sending = asyncio.Semaphore(jobs)
        self._uploader = Uploader(link, self._scanner, memory, sending)
        self._pipe = Pipe(link, hasher, sending)

    async def put(self, wanted: Wanted) -> Upload:
        """Raises MiniS3Error and OSError."""
        _require_text(wanted.name)
        with opened(wanted.path) as file:
            if file.size > CHUNK_SIZE:
                return await self._uploader.upload(file, wanted.name, wanted.kind, wanted.watch)
            small = await _small(wanted, file)
        return (await forms.send(self._link, [small]))[0]

    async def put_all(self, wanted: Iterable[Wanted], done: Done) -> None:
        """Store many files. `done` hears of each as soon as it is over."""
        places = asyncio.Semaphore(self._jobs)
        async with together() as group:
            for some in _grouped(wanted):
                await places.acquire()
                group.create_task(self._put_some(some, done)).add_done_callback(lambda _: places.release())

    async def put_stream(self, pieces: AsyncIterable[bytes], wanted: Wanted) -> Upload:
        """Store what is not in a file: of `wanted` the path does not count. Raises MiniS3Error."""
        _require_text(wanted.name)
        source = batches(pieces)
        first = await anext(source)
        if len(first) <= CHUNK_SIZE:
            small = Small(wanted.name, wanted.kind, bytes(first), wanted.watch)
            return (await forms.send(self._link, [small]))[0]

        async def every() -> AsyncGenerator[memoryview, None]:
            yield first
            async for batch in source:
                yield batch

        return await self._pipe.upload(every(), wanted.name, wanted.kind, wanted.watch)

    async def content_id(self, path: Path, watch: Watch) -> ContentId:
        """That of a local file, remembered or computed. Raises FileChanged, NotRegular and OSError."""
        with opened(path) as file:
            spans = self._memory.recall(path, file.identity) if self._memory else None
            if spans is None:
                spans = await self._scanned(file, watch)
            else:
                watch.spared(file.size)
            return content_id_of(spans)

    async def _scanned(self, file: LocalFile, watch: Watch) -> list[Span]:
        spans: list[Span] = []
        began = time_ns()

        def found(some: Sequence[Span]) -> None:
            spans.extend(some)
            watch.hashed(sum(span.size for span in some))

        await self._scanner.scan(file, found)
        if self._memory:
            self._memory.remember(file.path, file.identity, spans, began)
        return spans

    async def _put_some(self, some: Sequence[Wanted], done: Done) -> None:
        """Small files in one form; where that is refused, they go one by one, to find out which is at fault."""
        if len(some) > 1:
            some = await self._put_form(some, done)
        for wanted in some:
            try:
                done(Outcome(wanted, await self.put(wanted)))
            except (MiniS3Error, OSError) as error:
                done(Outcome(wanted, error))

    async def _put_form(self, some: Sequence[Wanted], done: Done) -> Sequence[Wanted]:
        """Those that are left to be stored one by one."""
        smalls = []
        for wanted in some:
            try:
                _require_text(wanted.name)
                with opened(wanted.path) as file:
                    smalls.append((wanted, await _small(wanted, file)))
            except (MiniS3Error, OSError) as error:
                done(Outcome(wanted, error))
        if not smalls:
            return ()
        try:
            uploads = await forms.send(self._link, [small for _, small in smalls])
        except Unavailable as error:
            for wanted, _ in smalls:
                done(Outcome(wanted, error))
            return ()
        except MiniS3Error:
            return [wanted for wanted, _ in smalls]
        for (wanted, _), upload in zip(smalls, uploads, strict=True):
            done(Outcome(wanted, upload))
        return ()


def _grouped(wanted: Iterable[Wanted]) -> Iterable[Sequence[Wanted]]:
    """Large files alone, small ones together, in their order but for that."""
    small: list[Wanted] = []
    total = 0
    for one in wanted:
        size = one.size
        if size > CHUNK_SIZE:
            yield [one]
            continue
        if small and (len(small) == forms.MOST_FILES or total + size > forms.MOST_BYTES):
            yield small
            small, total = [], 0
        small.append(one)
        total += size
    if small:
        yield small


async def _small(wanted: Wanted, file: LocalFile) -> Small:
    content = bytearray(file.size)
    await in_thread(file.fill, memoryview(content), 0)
    file.check()
    return Small(wanted.name, wanted.kind, bytes(content), wanted.watch)


def _require_text(name: str) -> None:
    """Raises BadRequest where the name of a local file is no text, which others could not read."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"The name {name!r} is not in UTF-8: store the file under another one.") from error
