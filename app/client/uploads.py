"""Large files: what the server has of one is found out before anything of it is sent.

    local file -> recalled, or scanned -> batches of chunks -> `missing` -> parts of what is missing -> complete

A file that did not change since it was last seen goes by its content id, without being read. Everything that is sent
may be sent again. What was broken off goes on in the same session, where the client has a memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from time import time_ns
from typing import Any, Protocol

from app.client.errors import FileChanged
from app.client.link import Link
from app.client.local import LocalFile, Scanner, content_id_of
from app.client.memory import Memory
from app.client.results import Span, Upload
from app.client.sessions import Session, uploads_of
from app.client.tasks import together
from app.client.watch import Watch, watched
from app.errors import (
    ChunksMissing,
    ContentUnknown,
    DigestMismatch,
    MiniS3Error,
    NoSuchUpload,
    RateLimited,
    Unavailable,
    UploadStalled,
)
from app.types import CHUNK_SIZE, Digest

FIRST, ASKED = 64, 512
"""Chunks asked for at once, at first and at the most: few requests, and the first bytes go out while the rest of the
file is read."""
_PART = 16 << 20
_PARTS = 1000
"""Bytes of a part at the least, and parts that a file has at the most, about: what is lost when one is broken off,
against requests, which servers limit."""
_ROUNDS = 3
"""How often chunks are sent again that the server lost meanwhile."""


class Source(Protocol):
    """Where the bytes of chunks are read from."""

    def read(self, spans: Sequence[Span]) -> AsyncIterator[memoryview]:
        """One piece for each of them."""


class Negotiation:
    """One file on its way into a session. Chunks are offered in any order, each once."""

    def __init__(self, session: Session, sending: asyncio.Semaphore, watch: Watch, part: int = _PART) -> None:
        """`sending`: how many bodies go out at once, of all files together; `part`: bytes of one at the most."""
        self._session = session
        self._sending = sending
        self._watch = watch
        self._part = max(1, part // CHUNK_SIZE)
        self._seen: set[Digest] = set()
        self.sent = 0

    async def offer(self, source: Source, spans: Sequence[Span]) -> None:
        """Send those of the chunks that the server misses; all but the file's last are as long as chunks are."""
        new = list({span.digest: span for span in spans if span.digest not in self._seen}.values())
        self._seen.update(span.digest for span in new)
        missing = await self._session.missing(new) if new else set()
        wanted = [span for span in new if span.digest in missing]
        self._watch.spared(sum(span.size for span in spans) - sum(span.size for span in wanted))
        async with together() as group:
            for part in _parts(wanted, self._part):
                group.create_task(self._send(source, part))

    async def _send(self, source: Source, part: Sequence[Span]) -> None:
        async with self._sending:
            size = sum(span.size for span in part)
            if self._session.takes_parts:
                await self._session.send(watched(lambda: source.read(part), self._watch), size)
            else:
                for span in part:
                    await self._send_chunk(source, span)
                self._watch.moved(size)
            self.sent += size

    async def _send_chunk(self, source: Source, span: Span) -> None:
        await self._session.send_chunk(span, lambda: source.read([span]))

    async def complete(self, source: Source | None, spans: Sequence[Span]) -> Any:
        """The server's answer. What it lost since it was offered is sent once more, chunk by chunk, from the source
        if there is one. Raises ChunksMissing."""
        for _ in range(_ROUNDS):
            try:
                return await self._session.complete(spans)
            except ChunksMissing as error:
                lost = {span.digest: span for span in spans if span.digest in error.digests}
                if source is None or not lost:
                    raise
                for span in lost.values():
                    await self._send_chunk(source, span)
                    self.sent += span.size
        return await self._session.complete(spans)


class Uploader:
    """Uploads large local files."""

    def __init__(self, link: Link, scanner: Scanner, memory: Memory | None, sending: asyncio.Semaphore) -> None:
        self._link = link
        self._scanner = scanner
        self._memory = memory
        self._sending = sending

    async def upload(self, file: LocalFile, name: str, content_type: str, watch: Watch) -> Upload:
        """Raises MiniS3Error, and OSError where the file can't be read."""
        account = self._link.account
        place = "\n".join((account.url, account.access_key, str(file.path.absolute()), name))
        session = await self._resumed(place, file)
        while True:
            resumed = session is not None
            session = session or await Session.begin(self._link, name, content_type, file.size)
            if self._memory:
                self._memory.begin(place, file.identity, session.id)
            try:
                upload = await self._into(session, file, watch)
            except NoSuchUpload:
                if not resumed:
                    raise
                session = None
                continue
            except MiniS3Error as error:
                if not isinstance(error, Unavailable | UploadStalled | RateLimited):
                    await self._give_up(place, session)
                raise
            if self._memory:
                self._memory.end(place)
            return upload

    async def _resumed(self, place: str, file: LocalFile) -> Session | None:
        begun = self._memory.begun(place, file.identity) if self._memory else None
        if begun is None:
            return None
        try:
            return await Session.resume(self._link, begun)
        except NoSuchUpload:
            return None

    async def _give_up(self, place: str, session: Session) -> None:
        if self._memory:
            self._memory.end(place)
        with suppress(MiniS3Error):
            await session.abort()

    async def _into(self, session: Session, file: LocalFile, watch: Watch) -> Upload:
        if session.done:
            return uploads_of(await session.complete(()), "chunks", [0])[0]
        path = file.path
        spans = self._memory.recall(path, file.identity) if self._memory else None
        if spans is not None:
            with suppress(ContentUnknown):
                answer = await session.complete_by_content(content_id_of(spans))
                watch.spared(file.size)
                return uploads_of(answer, "content", [0])[0]
        negotiation = Negotiation(session, self._sending, watch, max(_PART, file.size // _PARTS))
        try:
            if spans is not None:
                await _offer_all(negotiation, file, spans)
            else:
                spans = await self._scanned(file, negotiation, watch)
            file.check()
            answer = await negotiation.complete(file, spans)
        except DigestMismatch as error:
            if self._memory:
                self._memory.forget(path)
            raise FileChanged(f"{path} changed while it was read. Nothing of it was stored; try it again.") from error
        return uploads_of(answer, "chunks", [negotiation.sent])[0]

    async def _scanned(self, file: LocalFile, negotiation: Negotiation, watch: Watch) -> list[Span]:
        began = time_ns()
        spans: list[Span] = []
        offered, batch = 0, FIRST
        async with together() as group:

            def found(some: Sequence[Span]) -> None:
                nonlocal offered, batch
                spans.extend(some)
                watch.hashed(sum(span.size for span in some))
                if len(spans) - offered >= batch:
                    group.create_task(negotiation.offer(file, spans[offered:]))
                    offered, batch = len(spans), min(2 * batch, ASKED)

            await self._scanner.scan(file, found)
            if self._memory:
                self._memory.remember(file.path, file.identity, spans, began)
            await negotiation.offer(file, spans[offered:])
        return spans


async def _offer_all(negotiation: Negotiation, source: Source, spans: Sequence[Span]) -> None:
    async with together() as group:
        for at in range(0, len(spans), ASKED):
            group.create_task(negotiation.offer(source, spans[at : at + ASKED]))


def _parts(spans: Sequence[Span], most: int) -> Iterator[Sequence[Span]]:
    for at in range(0, len(spans), most):
        yield spans[at : at + most]
