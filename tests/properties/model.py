"""What a dict of contents says that the store must answer.

Beside the files, the model knows which pages of deleted files are not released yet, and which chunks
were damaged on disk. From these follows what every call must answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from app.errors import Damaged, NotFound
from app.models.chunks import Chunks
from app.models.tallies import Tallies
from app.streams.ingest import Ingest
from app.types import Digest, File, FileId, PageId
from app.upkeep.check import open_checker
from app.upkeep.pace import Pace, Silence
from tests.properties.house import SIZE, Held, House, chunks_of, cut, digest_of, pages_of, size_of

Named = tuple[str, bytes]
"""A name and a content."""

Kind = Literal["blob-missing", "blob-size", "blob-wrong"]
KINDS: tuple[Kind, ...] = ("blob-missing", "blob-size", "blob-wrong")


class Model(RuleBasedStateMachine):
    """Calls of the store, each compared with what it must answer."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self._files: dict[FileId, Named] = {}  # in the order of their commits
        self._lingering: Held = {}  # chunks of pages that nobody holds, and that were not released yet
        self._bad: dict[Digest, Kind] = {}  # live chunks whose blob was damaged
        self._lost: set[Digest] = set()  # chunks that a repair has called lost
        self._pages: dict[PageId, Held] = {}  # every page that may have been written
        self._open: Ingest | None = None  # an upload that goes on for several steps,
        self._written: list[Named] = []  # what was written into it,
        self._disturbed = False  # and whether chunks may have been taken from it meanwhile
        self._crashed = 0  # uploads that nobody has ended

    async def _compare_statistics(self) -> None:
        held = self._held() | await self._held_by_uploads() | self._lingering
        offered = {digest: chunk for digest, chunk in held.items() if digest not in self._lost}
        tally = await Tallies(self._house.database).read()
        logical = sum(len(content) for _, content in self._files.values())
        assert (tally.files, tally.logical) == (len(self._files), logical)
        assert (tally.chunks, tally.bytes) == (len(held), size_of(held))
        assert sum(node.chunks for node in tally.nodes.values()) == len(offered)
        assert sum(node.bytes for node in tally.nodes.values()) == size_of(offered)
        assert len(await self._house.ids("uploads")) <= self._crashed + bool(self._open)

    # Calls, and what they mean for the model

    async def _write(self, upload: Ingest, form: Iterable[Named], piece: int) -> None:
        for name, content in form:
            await upload.begin_file(name, "x/y")
            await self._write_body(upload, content, piece)
            await upload.end_file()
            self._lost -= chunks_of(content).keys()

    async def _write_body(self, upload: Ingest, content: bytes, piece: int) -> None:
        self._pages |= pages_of(content)
        for part in cut(content, piece):
            await upload.write(part)

    async def _put(self, form: list[Named], piece: int) -> None:
        chunks = chunks_of(*(content for _, content in form))
        found = await Chunks(self._house.database).find(chunks)
        new = {digest: chunk for digest, chunk in chunks.items() if digest not in found or digest in self._lost}
        async with self._house.store.upload() as upload:
            await self._write(upload, form, piece)
            receipt = await upload.commit()
        assert (receipt.counts.new, receipt.counts.stored) == (len(new), size_of(new))
        self._committed(receipt.files, form)
        self._lost -= chunks.keys()

    def _committed(self, files: Sequence[File], form: Sequence[Named]) -> None:
        assert [(file.name, file.size) for file in files] == [(name, len(content)) for name, content in form]
        self._files |= {file.id: named for file, named in zip(files, form, strict=True)}

    async def _give_up(self, upload: Ingest) -> None:
        self._open = None
        self._lingering |= await self._held_by_uploads()
        await upload.abort()
        await self._see_what_healed(self._written)

    async def _see_what_healed(self, form: Iterable[Named]) -> None:
        """How much of an upload was stored before its end is left open."""
        found = await Chunks(self._house.database).find(self._lost)
        healed = {digest for digest in self._lost if found[digest].state == "live"}
        assert healed <= chunks_of(*(content for _, content in form)).keys()
        self._lost -= healed

    async def _delete(self, file_id: FileId) -> None:
        await self._house.store.delete(file_id)
        self._lingering |= chunks_of(self._files.pop(file_id)[1])
        for call in (self._house.store.delete, self._house.store.info):
            with pytest.raises(NotFound):
                await call(file_id)

    async def _read_all(self) -> None:
        for file_id, (_, content) in self._files.items():
            await self._read(file_id, 0, len(content))

    async def _read(self, file_id: FileId, start: int, stop: int) -> None:
        """Right to the last byte; or Damaged, and what came before is right."""
        name, content = self._files[file_id]
        file = await self._house.store.file(file_id)
        assert (file.name, file.size) == (name, len(content))
        touched = chunks_of(content[start // SIZE * SIZE : -(-stop // SIZE) * SIZE]).keys()
        got = b""
        try:
            async with aclosing(self._house.store.read(file, start, stop)) as sent:
                async for piece in sent:
                    got += piece
        except Damaged:
            assert touched & self._unreadable
            assert content[start:stop].startswith(got)
        else:
            assert got == content[start:stop]
            assert not touched & self._unreadable

    async def _describe(self, file_id: FileId) -> None:
        """`unique` is what the store would hold less without the file, counted by brute force."""
        content = self._files[file_id][1]
        others = self._held(but=file_id) | await self._held_by_uploads()
        alone = {digest: chunk for digest, chunk in chunks_of(content).items() if digest not in others}
        info = await self._house.store.info(file_id)
        assert (info.file.size, info.chunks, info.unique) == (len(content), len(cut(content)), size_of(alone))
        same = await self._house.store.content(info.file.content_id)
        assert self._files[same.id][1] == content
        listed = (await self._house.store.manifest(file_id, 1, 5)).chunks
        assert [placed.ref.digest for placed in listed] == [digest_of(chunk) for chunk in cut(content)[1:6]]

    async def _gc(self, *, sweep: bool, expired: bool) -> None:
        house = self._house
        done = await house.collector(expired=expired).run(Pace(), Silence(), sweep=sweep)
        assert done.unnamed == 0
        self._disturbed, self._lingering = True, {}
        self._crashed = 0 if expired else self._crashed
        held = self._held() | await self._held_by_uploads()
        self._bad = {digest: kind for digest, kind in self._bad.items() if digest in held}
        self._lost &= held.keys()
        pages = {page for _, content in self._files.values() for page in pages_of(content)}
        assert await house.ids("pages") == pages | set(await self._pages_of_uploads())
        assert await house.ids("chunks") == held.keys()
        missing = {digest for digest, kind in self._bad.items() if kind == "blob-missing"}
        assert house.blobs().keys() == held.keys() - self._lost - missing

    async def _check(self, *, read_data: bool, repair: bool) -> None:
        """Exactly the known damage is found, and exactly the files that it touches. None of it can be
        mended from what is on the nodes; a repair calls those chunks lost whose blobs it found bad."""
        async with open_checker(self._house.database, self._house.stages.reader._cluster) as checker:
            report = await checker.run(Silence(), read_data=read_data, repair=repair)
        bad = {digest: kind for digest, kind in self._bad.items() if read_data or kind != "blob-wrong"}
        held = self._held() | await self._held_by_uploads() | self._lingering
        known = [*bad.items(), *((digest, "chunk-lost") for digest in self._lost & held.keys())]
        assert sorted((finding.digest, finding.kind) for finding in report.findings) == sorted(known)
        found = {digest for digest, _ in known}
        touched = [file_id for file_id, (_, content) in self._files.items() if found & chunks_of(content).keys()]
        assert sorted(file.id for file in report.touched) == touched
        assert report.mended == []
        if repair:
            self._bad = {digest: kind for digest, kind in self._bad.items() if digest not in bad}
            self._lost |= bad.keys()
            self._disturbed = True

    # The model's answers

    def _any_file(self, data: st.DataObject) -> FileId:
        return data.draw(st.sampled_from(list(self._files)))

    @property
    def _unreadable(self) -> set[Digest]:
        return self._bad.keys() | self._lost

    def _group(self, ours: Callable[[str], bool]) -> tuple[int, int, int, int]:
        """Files, logical, unique and shared bytes of those whose names are ours."""
        contents = [content for name, content in self._files.values() if ours(name)]
        held = chunks_of(*contents)
        others = chunks_of(*(content for name, content in self._files.values() if not ours(name)))
        unique = size_of({digest: chunk for digest, chunk in held.items() if digest not in others})
        return len(contents), sum(map(len, contents)), unique, size_of(held) - unique

    def _held(self, but: FileId | None = None) -> Held:
        return chunks_of(*(content for file_id, (_, content) in self._files.items() if file_id != but))

    async def _pages_of_uploads(self) -> list[PageId]:
        documents = await self._house.database["uploads"].find({})
        return [PageId(page) for document in documents for page in document["pages"]]

    async def _held_by_uploads(self) -> Held:
        """How many pages an open upload holds is left open: its document says it."""
        return {digest: chunk for page in await self._pages_of_uploads() for digest, chunk in self._pages[page].items()}
