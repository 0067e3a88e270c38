"""What the tests of the streams share: uploads, downloads, locks that do not lock, and a look at what is left."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.api.app import Parts
from app.coord.locks import Locks
from app.models.chunks import Chunk
from app.models.database import Collection, Database
from app.models.files import new_file_id
from app.models.ledger import Hold
from app.streams import chunker
from app.streams.buffers import BufferPool
from app.streams.ingest import Ingest, Receipt
from app.types import CHUNK_SIZE, ChunkRef, ContentName, Digest, File, Page, PageRef
from tests.models.builders import recount

MIB = 1 << 20


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).digest())


def batch_of(contents: Iterable[bytes]) -> dict[Digest, bytes]:
    return {digest_of(content): content for content in contents}


# Uploads


async def put(parts: Parts, *contents: bytes, piece: int = 100_000) -> Receipt:
    async with parts.store.upload() as upload:
        for number, content in enumerate(contents):
            await write(upload, content, piece, str(number))
        return await upload.commit()


async def write(upload: Ingest, content: bytes, piece: int = 100_000, name: str = "a") -> None:
    await upload.begin_file(name, "x/y")
    for start in range(0, len(content), piece):
        await upload.write(content[start : start + piece])
    await upload.end_file()


async def store_cut(parts: Parts, chunks: Sequence[bytes], page_chunks: int) -> File:
    """Commit a file that is cut into these chunks, in pages of so many."""
    refs = [ChunkRef(digest_of(chunk), len(chunk)) for chunk in chunks]
    await parts.store._stages.deduper.store(batch_of(chunks))
    pages = [Page.of(refs[start : start + page_chunks]) for start in range(0, len(refs), page_chunks)]
    name = ContentName()
    for ref in refs:
        name.add(ref.digest)
    listed = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
    size = sum(map(len, chunks))
    file = File(new_file_id(), "f", size, "x/y", name.id, datetime.now(UTC), "local", listed)
    await parts.store._ledger.commit_files(Hold(), [file], pages)
    return file


def cut(content: bytes, *sizes: int) -> list[bytes]:
    """The content in pieces of these sizes, and the rest, if any."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(content[at : at + size])
        at += size
    return [*pieces, content[at:]] if at < len(content) else pieces


@contextmanager
def small_chunks(parts: Parts, size: int, buffers: int = 128) -> Iterator[None]:
    """Cut uploads at steps of `size`, with memory for so many chunks."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunker, "CHUNK_SIZE", size)
        pool = BufferPool(buffers * CHUNK_SIZE, parts.store._stages.pool._most)
        patched.setattr(parts.store, "_stages", replace(parts.store._stages, pool=pool))
        yield


def pool_of(parts: Parts) -> BufferPool:
    return parts.store._stages.pool


# Downloads


async def read(parts: Parts, file: File, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(parts.store.read(file, start, file.size if stop is None else stop)) as pieces:
        return b"".join([bytes(piece) async for piece in pieces])


async def get(parts: Parts, receipt: Receipt, number: int = 0) -> bytes:
    return await read(parts, receipt.files[number])


# What is stored


def database_of(parts: Parts) -> Database:
    return parts.store._ledger._database


def blobs_on_disk(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "data" / "nodes").glob("*/??/*")}


async def documents(parts: Parts, collection: str = "chunks") -> list[dict[str, Any]]:
    return await database_of(parts)[collection].find({})


async def stored_once(parts: Parts, tmp_path: Path, chunks: Iterable[bytes]) -> None:
    """One live document a chunk, exactly the blobs that they name, and each of them good."""
    found = [Chunk.read(document) for document in await documents(parts)]
    assert {(chunk.digest, chunk.state) for chunk in found} == {(digest_of(content), "live") for content in chunks}
    assert all(len(chunk.blobs) == 1 for chunk in found)
    assert blobs_on_disk(tmp_path) == {chunk.blobs[0].name for chunk in found}
    for chunk in found:
        assert digest_of(await parts.store._stages.cluster.read(chunk.blobs[0], chunk.size)) == chunk.digest


async def nothing_open(parts: Parts) -> None:
    """No buffer is held, no upload is open, and every count agrees with the documents."""
    assert (pool_of(parts).in_use, pool_of(parts)._shares) == (0, set())
    assert await documents(parts, "uploads") == []
    await recount(database_of(parts))


# Faults


class NoLocks(Locks):
    """Everybody gets every lock, as among processes whose Redis is away."""

    async def take(self, keys: Iterable[str]) -> set[str]:
        return set(keys)

    async def release(self, keys: Iterable[str]) -> None: ...

    async def wait(self, keys: Iterable[str], timeout: float) -> None: ...


def fail_with(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


async def turns(number: int) -> None:
    """Let everything that is ready run so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Poll until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


DATABASE_CALLS = (
    "find",
    "find_one",
    "aggregate",
    "bulk_update",
    "update_one",
    "update_many",
    "insert_one",
    "insert_many",
    "delete_many",
    "find_one_and_delete",
)


def spy_on_database(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that reach the database, as they are made."""
    made: list[str] = []

    def spied(name: str) -> Callable[..., Awaitable[Any]]:
        real = getattr(Collection, name)

        async def call(self: Collection, *arguments: Any, **options: Any) -> Any:
            made.append(f"{self._collection.name}.{name}")
            return await real(self, *arguments, **options)

        return call

    for name in DATABASE_CALLS:
        monkeypatch.setattr(Collection, name, spied(name))
    return made
