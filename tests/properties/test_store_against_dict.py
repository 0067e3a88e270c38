"""The whole store against a dict of contents: any program of calls, on real parts, compared after each.

Seen to fail: with a check that does not compare sizes; with a collector that keeps released pages, or
that claims live chunks only.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from app.errors import NotFound, UploadInterrupted
from app.models.tallies import NodeTally, Tallies
from app.streams.ingest import Ingest
from app.upkeep.pace import Pace, Silence
from app.upkeep.usage import Usage
from tests.models.builders import recount
from tests.properties.house import SIZE, awaited, play, shrink
from tests.properties.model import KINDS, Kind, Model, Named
from tests.support import Databases

BLOCKS = ("a", "b", "c", "aab", "abc", "abc", "bcd", "ddd")
"""Letters stand for whole chunks; three of them are a full page where they come at a page's start."""

TAILS = (b"", b"a", b"a" * (SIZE - 1), b"e" * (SIZE - 1))
PREFIXES = ("", "a", "a/", "ab", "c")
UNKNOWN = ("0" * 24, "", "no id")

contents = st.builds(
    lambda blocks, tail: b"".join(letter.encode() * SIZE for letter in "".join(blocks)) + tail,
    st.lists(st.sampled_from(BLOCKS), max_size=4),
    st.sampled_from(TAILS),
)
forms = st.lists(st.tuples(st.sampled_from(["a", "a/b", "ab", "b", ""]), contents), min_size=1, max_size=3)
pieces = st.sampled_from([1, SIZE - 1, SIZE, 5 * SIZE + 1])


def _start(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.match(name)
    return match.group() if match else None


class StoreMachine(Model):
    @initialize(form=forms)
    @awaited
    async def begin(self, form: list[Named]) -> None:
        await self._house.empty()
        await self._put(form, SIZE)

    @rule(form=forms, piece=pieces)
    @awaited
    async def put(self, form: list[Named], piece: int) -> None:
        await self._put(form, piece)

    @precondition(lambda self: self._files)
    @rule(data=st.data(), content=contents)
    @awaited
    async def overwrite(self, data: st.DataObject, content: bytes) -> None:
        """There are no keys yet: a client puts the new content and deletes the old."""
        old = self._any_file(data)
        await self._put([(self._files[old][0], content)], SIZE)
        await self._delete(old)

    @rule(form=forms, piece=pieces, most=st.integers(0, 5 * SIZE))
    @awaited
    async def break_off(self, form: list[Named], piece: int, most: int) -> None:
        """The last file is not written to its end."""
        *whole, (name, content) = form
        with pytest.raises(ConnectionResetError):
            async with self._house.store.upload() as upload:
                await self._write(upload, whole, piece)
                await upload.begin_file(name, "x/y")
                await self._write_body(upload, content[:most], piece)
                self._lingering |= await self._held_by_uploads()
                raise ConnectionResetError
        await self._see_what_healed(form)

    @rule(form=forms, piece=pieces)
    @awaited
    async def go_on(self, form: list[Named], piece: int) -> None:
        """Write whole files into an upload that stays open."""
        if not self._open:
            self._open, self._written, self._disturbed = Ingest(self._house.stages, "local"), [], False
        self._written += form
        try:
            await self._write(self._open, form, piece)
        except UploadInterrupted:
            assert self._disturbed
            await self._give_up(self._open)
        else:
            # The pages of earlier files are held now, and with them chunks that were lost meanwhile stored again.
            await self._see_what_healed(self._written)

    @precondition(lambda self: self._open)
    @rule(commit=st.booleans())
    @awaited
    async def end(self, commit: bool) -> None:
        upload = self._open
        assert upload
        try:
            if not commit:
                raise UploadInterrupted("by the client")
            receipt = await upload.commit()
        except UploadInterrupted:
            assert self._disturbed or not commit
            await self._give_up(upload)
        else:
            self._open = None
            self._committed(receipt.files, self._written)
            # A chunk that was lost while the upload held a page with it stays so, unless a further page has it too.
            await self._see_what_healed(self._written)

    @precondition(lambda self: self._files)
    @rule(data=st.data())
    @awaited
    async def read(self, data: st.DataObject) -> None:
        file_id = self._any_file(data)
        size = len(self._files[file_id][1])
        start = data.draw(st.integers(0, max(0, size - 1)))
        await self._read(file_id, start, data.draw(st.integers(min(start + 1, size), size)))
        await self._describe(file_id)

    @rule(limit=st.integers(1, 4), prefix=st.sampled_from(PREFIXES), unknown=st.sampled_from(UNKNOWN))
    @awaited
    async def list_files(self, limit: int, prefix: str, unknown: str) -> None:
        """Newest first, page after page."""
        listing = await self._house.store.list_files(limit, None, prefix)
        listed = listing.files
        while listing.next:
            assert len(listing.files) == limit
            listing = await self._house.store.list_files(limit, listing.next, prefix)
            listed = [*listed, *listing.files]
        fitting = [(file_id, *named) for file_id, named in self._files.items() if named[0].startswith(prefix)]
        assert [(file.id, file.name, file.size) for file in reversed(listed)] == [
            (file_id, name, len(content)) for file_id, name, content in fitting
        ]
        with pytest.raises(NotFound):
            await self._house.store.delete(unknown)

    @rule(prefix=st.sampled_from(PREFIXES), depth=st.integers(0, 2))
    @awaited
    async def tell_usage(self, prefix: str, depth: int) -> None:
        """Each group of names alone against all other files, counted by brute force."""
        pattern = re.compile(f"{re.escape(prefix)}([^/]*/){{0,{depth}}}")
        groups = {_start(pattern, name) for name, _ in self._files.values()} - {None}
        expected = {group: self._group(lambda name, group=group: _start(pattern, name) == group) for group in groups}
        found, total = await Usage(self._house.database).run(prefix, depth, Silence())
        assert {group.prefix: (group.files, group.logical, group.unique, group.shared) for group in found} == expected
        everything = self._group(lambda name: name.startswith(prefix))
        assert (total.files, total.logical, total.unique, total.shared) == everything

    @precondition(lambda self: self._files)
    @rule(data=st.data())
    @awaited
    async def delete(self, data: st.DataObject) -> None:
        await self._delete(self._any_file(data))
        if self._files:
            await self._describe(self._any_file(data))

    @rule(fold=st.booleans())
    @awaited
    async def release(self, fold: bool) -> None:
        """What the server does by itself within seconds."""
        await self._house.collector().release_pages(Pace())
        self._lingering = {}
        if fold:
            await Tallies(self._house.database).fold()

    @rule(sweep=st.booleans(), expired=st.booleans())
    @awaited
    async def gc(self, sweep: bool, expired: bool) -> None:
        await self._gc(sweep=sweep, expired=expired)

    @rule(crash=st.booleans())
    @awaited
    async def restart(self, crash: bool) -> None:
        """Close all parts and open them again. What a crash left of an upload stays in the database."""
        if self._open and crash:
            self._open = None
            self._crashed += 1
        elif self._open:
            await self._give_up(self._open)
        await self._house.close()
        await self._house.open()

    @precondition(lambda self: self._house.blobs().keys() - self._bad.keys())
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    @awaited
    async def lose(self, data: st.DataObject, kind: Kind) -> None:
        """Damage a blob: exactly the files that have its chunk can't be read any more."""
        blobs = {digest: path for digest, path in self._house.blobs().items() if digest not in self._bad}
        digest = data.draw(st.sampled_from(list(blobs)))
        content = blobs[digest].read_bytes()
        if kind == "blob-missing":
            blobs[digest].unlink()
        elif kind == "blob-size":
            os.truncate(blobs[digest], len(content) - 1)
        else:
            blobs[digest].write_bytes(bytes([content[0] ^ 1]) + content[1:])
        self._bad[digest] = kind
        await self._read_all()

    @rule(read_data=st.booleans(), repair=st.booleans())
    @awaited
    async def check(self, read_data: bool, repair: bool) -> None:
        await self._check(read_data=read_data, repair=repair)
        await self._read_all()

    @precondition(lambda self: self._bad or self._lost)
    @rule()
    @awaited
    async def heal(self) -> None:
        """After a repair, a put of the lost chunks makes all files good again."""
        await self._check(read_data=True, repair=True)
        lost = [("healing", chunk) for digest, chunk in self._held().items() if digest in self._lost]
        if lost:
            await self._put(lost, SIZE)
        assert not self._unreadable & self._held().keys()
        await self._read_all()

    @invariant()
    @awaited
    async def statistics_agree(self) -> None:
        await self._compare_statistics()

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self._house.runner.run(self._end())
        elif self._open:  # A step has failed, and says more; or Hypothesis has broken the program off.
            self._house.runner.run(self._open.abort())

    async def _end(self) -> None:
        """When all files are deleted and collected, nothing is left."""
        await self._check(read_data=True, repair=False)
        if self._open:
            await self._give_up(self._open)
        for file_id in list(self._files):
            await self._delete(file_id)
        await self._gc(sweep=True, expired=True)
        assert self._house.blobs() == {}
        assert [await self._house.ids(name) for name in ("chunks", "pages", "files", "uploads")] == [set()] * 4
        await self._compare_statistics()
        nodes = (await Tallies(self._house.database).read()).nodes
        assert [tally for tally in nodes.values() if tally != NodeTally()] == []
        await recount(self._house.database)
        assert (self._house.stages.pool.in_use, self._house.stages.pool._shares) == (0, set())


@pytest.mark.parametrize("part", range(3))
def test_any_program_of_calls_is_answered_as_by_a_dict(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """In parts, so that several processes share them."""
    shrink(monkeypatch)
    play(StoreMachine, databases, tmp_path, 7, 40)
