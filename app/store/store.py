"""What the store does: put, get, list, describe, delete. The HTTP faces translate to this."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import dataclass

from app.errors import NotFound
from app.models.catalog import Catalog
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.files import Cursor, Files, Whose
from app.models.keys import Permission
from app.models.pages import Pages
from app.store.access import EVERYONE, Caller
from app.streams.egress import Egress, PlacedChunk
from app.streams.ingest import Ingest, Stages, open_ingest
from app.types import Digest, File, Page, PageId


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
    """The files of the native API, as one caller sees them: `seen_by` says who. What the server does by itself is
    done for everyone.

    All calls raise DatabaseUnavailable, and Forbidden where the caller may not; those with an id raise NotFound, also
    for files of others.
    """

    def __init__(self, stages: Stages, egress: Egress, files: Files, pages: Pages, catalog: Catalog) -> None:
        self._stages = stages
        self._egress = egress
        self._files = files
        self._pages = pages
        self._catalog = catalog
        self._caller = EVERYONE

    def seen_by(self, caller: Caller) -> Store:
        seen = copy(self)
        seen._caller = caller
        return seen

    @property
    def _chunks(self) -> Chunks:
        return self._stages.chunks

    def upload(self) -> AbstractAsyncContextManager[Ingest]:
        """As `open_ingest`."""
        return open_ingest(self._stages, self._caller.owner)

    def may_name(self, name: str) -> None:
        """Raises Forbidden where the caller may not upload a file of this name."""
        self._caller.require("write", key=name)

    async def file(self, file_id: str) -> File:
        return await self._visible(file_id, "read")

    async def _visible(self, file_id: str, permission: Permission) -> File:
        file = await self._files.find(file_id)
        if file is None or not self._caller.sees(file.owner):
            raise NotFound("There is no file with this id.")
        self._caller.require(permission, *_place(file))
        return file

    async def content(self, content_id: str) -> File:
        """A file with this content that the caller may read; which, if several have it, is left open."""
        prefixes = self._caller.prefixes_in("")
        file = await self._files.find_by_content(content_id, self._whose(prefixes)) if prefixes else None
        if file is None:
            raise NotFound("No file has this content.")
        self._caller.require("read", *_place(file))
        return file

    def _whose(self, prefixes: tuple[str, ...]) -> Whose:
        """The files with such names that the caller sees. Who is limited to some sees none of other buckets here."""
        owner = None if self._caller.sees_all else self._caller.owner
        return Whose(owner, prefixes, native=bool(self._caller.scopes))

    def read(self, file: File, start: int, stop: int) -> AsyncGenerator[memoryview, None]:
        """As `Egress.read`."""
        return self._egress.read(file, start, stop)

    async def list_files(self, limit: int, after: Cursor | None, prefix: str) -> Listing:
        self._caller.require("list", key=prefix)
        files = await self._files.newest(limit + 1, after, prefix, self._whose(("",)))
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
        """Raises ObjectLocked where it is a version of an object that may not be removed."""
        if not self._caller.is_root:
            await self._visible(file_id, "delete")
        if await self._catalog.delete_file(file_id) is None:
            raise NotFound("There is no file with this id.")


def _place(file: File) -> tuple[str, str]:
    """What scopes of keys know the file by: its bucket, and its key there or, where it is native, its name."""
    return (file.entry.bucket, file.entry.key) if file.entry else ("", file.name)
