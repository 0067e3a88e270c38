"""What the store does: put, get, list, describe, delete. The HTTP faces translate to this."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.errors import NotFound
from app.models.catalog import Catalog
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.files import Cursor, Files
from app.models.pages import Pages
from app.streams.egress import Egress, PlacedChunk
from app.streams.ingest import Ingest, Stages, open_ingest
from app.types import Digest, File, Page, PageId

OWNER = "local"
"""Until there are access keys, everything has one owner."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`next` is the cursor of the following page, None on the last."""

    files: list[File]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """`unique` is the number of bytes that the store would hold less without this file."""

    file: File
    chunks: int
    unique: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`next` is the number of the first chunk that is not listed, None at the end."""

    file: File
    chunks: list[PlacedChunk]
    next: int | None


class Store:
    """All calls raise DatabaseUnavailable; those with an id raise NotFound."""

    def __init__(self, stages: Stages, egress: Egress, files: Files, pages: Pages, catalog: Catalog) -> None:
        self._stages = stages
        self._egress = egress
        self._files = files
        self._pages = pages
        self._catalog = catalog

    @property
    def _chunks(self) -> Chunks:
        return self._stages.chunks

    def upload(self) -> AbstractAsyncContextManager[Ingest]:
        """As `open_ingest`."""
        return open_ingest(self._stages, OWNER)

    async def file(self, file_id: str) -> File:
        return _found(await self._files.find(file_id), "There is no file with this id.")

    async def content(self, content_id: str) -> File:
        """A file with this content; which, if several have it, is left open."""
        return _found(await self._files.find_by_content(content_id), "No file has this content.")

    def read(self, file: File, start: int, stop: int) -> AsyncGenerator[memoryview, None]:
        """As `Egress.read`."""
        return self._egress.read(file, start, stop)

    async def list_files(self, limit: int, after: Cursor | None, prefix: str) -> Listing:
        files = await self._files.newest(limit + 1, after, prefix)
        last = files[limit - 1] if len(files) > limit else None
        return Listing(files[:limit], Cursor(last.created_at, last.id) if last else None)

    async def info(self, file_id: str) -> FileInfo:
        """Exact while nothing changes. Reads each page and chunk document of the file, and the pages
        of files that were deleted a moment ago and still count as holders of their chunks."""
        file = await self.file(file_id)
        own = [page for page, refs in (await self._pages.refs({ref.id for ref in file.pages})).items() if refs == 1]
        held: Counter[Digest] = Counter()
        several: dict[Digest, Chunk] = {}
        unique = 0
        for page_id in own:
            for chunk in (await self._chunks.find(await self._held_by(page_id))).values():
                if chunk.refs == 1:
                    unique += chunk.size
                else:
                    held[chunk.digest] += 1
                    several[chunk.digest] = chunk
        if several:
            async for pages in self._pages.unreleased():
                for released in pages:
                    held.update({digest for digest, _ in Page.entries(released.packed)} & several.keys())
        unique += sum(chunk.size for chunk in several.values() if chunk.refs == held[chunk.digest])
        return FileInfo(file, sum(page.chunks for page in file.pages), unique)

    async def _held_by(self, page_id: PageId) -> set[Digest]:
        page = await self._pages.read(page_id)
        return {ref.digest for ref in page.chunks} if page else set()

    async def manifest(self, file_id: str, after: int, limit: int) -> Manifest:
        file = await self.file(file_id)
        chunks = await self._egress.list_chunks(file, after, limit)
        total = sum(page.chunks for page in file.pages)
        following = after + len(chunks)
        return Manifest(file, chunks, following if chunks and following < total else None)

    async def delete(self, file_id: str) -> None:
        _found(await self._catalog.delete_file(file_id), "There is no file with this id.")


def _found(file: File | None, otherwise: str) -> File:
    if file is None:
        raise NotFound(otherwise)
    return file
