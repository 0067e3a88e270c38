"""Upload sessions: any program of parts, chunks, lists, lies and appended bytes, on real parts, against what a session
holds.

Seen to fail: where a chunk of another account is known, where a list is not compared with what the session holds, or
without the sizes, where merged bundles are not given back, where bytes are appended by who began first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from app.errors import (
    ChunksMissing,
    ContentUnknown,
    DigestMismatch,
    InvalidPart,
    NoSuchUpload,
    OffsetMismatch,
    SizeMismatch,
)
from app.models.sessions import Kind, PartSums, UploadSession
from app.store.access import PERMISSIONS, Caller
from app.store.uploads import Made, Plan, UploadStore
from app.types import ChunkRef, Digest
from app.upkeep.check import open_checker
from app.upkeep.documents import DocumentAudit
from app.upkeep.findings import Report
from app.upkeep.pace import Pace, Silence
from tests.models.builders import recount
from tests.properties.house import PAGE, SIZE, House, Machine, awaited, chunks_of, cut, digest_of, play, shrink
from tests.properties.shelves import content_id
from tests.support import Databases

CALLERS = {name: Caller(name, name.upper(), PERMISSIONS - {"admin"}) for name in ("alice", "bob")}

CHUNKS = [*(letter.encode() * SIZE for letter in "abcdefgh"), b"a", b"ab", b"h" * (SIZE - 1)]
"""Few, so that what sessions and files hold is often the same."""

owners = st.sampled_from(sorted(CALLERS))
chunks = st.sampled_from(CHUNKS)
runs = st.lists(chunks, max_size=8)
contents = runs.map(b"".join)
bodies = st.lists(chunks, min_size=1, max_size=5).map(b"".join)


@dataclass
class Upload:
    """An upload session as the model knows it: its parts, or what was appended, and the chunks that it holds beside
    those of its parts."""

    owner: str
    session: UploadSession
    parts: dict[int, bytes] = field(default_factory=dict)
    appended: list[bytes] = field(default_factory=list)
    held: dict[Digest, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.appended))

    @property
    def chunks(self) -> dict[Digest, bytes]:
        """All that it holds."""
        return self.held | {digest_of(chunk): chunk for body in self.parts.values() for chunk in cut(body)}


@dataclass(frozen=True)
class Kept:
    """A file; `cuts` is how it was cut."""

    owner: str
    content: bytes
    cuts: tuple[bytes, ...]


class SessionMachine(Machine):
    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._files: dict[str, Kept] = {}
        self._uploads: list[Upload] = []

    @initialize()
    @awaited
    async def begin(self) -> None:
        await self._house.empty()

    def _seen(self, owner: str) -> UploadStore:
        return self._house.uploads.seen_by(CALLERS[owner])

    async def _any(self, data: st.DataObject, kind: Kind) -> Upload:
        """An open session of this kind; a new one where there is none, and now and then."""
        there = [one for one in self._uploads if one.session.kind == kind]
        chosen = data.draw(st.sampled_from([*there, None]))
        return chosen or await self._start(data.draw(owners), kind, None)

    async def _start(self, owner: str, kind: Kind, size: int | None) -> Upload:
        upload = Upload(owner, await self._seen(owner).begin(Plan(kind, "name", "x/y", size)))
        self._uploads.append(upload)
        return upload

    # Files

    @rule(owner=owners, content=contents)
    @awaited
    async def put(self, owner: str, content: bytes) -> None:
        async with self._house.store.seen_by(CALLERS[owner]).upload() as upload:
            await upload.begin_file("a", "x/y")
            await upload.write(content)
            await upload.end_file()
            (file,) = (await upload.commit()).files
        self._files[file.id] = Kept(owner, content, tuple(cut(content)))

    @precondition(lambda self: self._files)
    @rule(data=st.data())
    @awaited
    async def delete(self, data: st.DataObject) -> None:
        file_id = data.draw(st.sampled_from(sorted(self._files)))
        owner = self._files.pop(file_id).owner
        await self._house.store.seen_by(CALLERS[owner]).delete(file_id)

    # Sessions

    @rule(owner=owners, kind=st.sampled_from(["file", "tus"]), size=st.sampled_from([0, SIZE]))
    @awaited
    async def announce(self, owner: str, kind: Kind, size: int) -> None:
        await self._start(owner, kind, size)

    @precondition(lambda self: self._uploads)
    @rule(data=st.data())
    @awaited
    async def abort(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self._uploads))
        await self._seen(upload.owner).abort(upload.session)
        self._uploads.remove(upload)
        await self._see_that_it_has_ended(upload)

    async def _see_that_it_has_ended(self, upload: Upload) -> None:
        seen = self._seen(upload.owner)
        for call in (
            lambda: seen.find_open(upload.session.kind, str(upload.session.id)),
            lambda: seen.abort(upload.session),
            lambda: self._send(upload, 1, b"late"),
            lambda: self._append(upload, upload.size, b"late"),
        ):
            with pytest.raises(NoSuchUpload):
                await call()

    # Parts

    @rule(data=st.data(), parts=st.lists(st.tuples(st.integers(1, 4), bodies), min_size=1, max_size=3))
    @awaited
    async def send_parts(self, data: st.DataObject, parts: list[tuple[int, bytes]]) -> None:
        """In any order, at the same time where the numbers differ, and again."""
        upload = await self._any(data, "file")
        last = dict(parts)
        for number, body in parts:
            if body is not last[number]:
                await self._send(upload, number, body)
        await asyncio.gather(*(self._send(upload, number, body) for number, body in last.items()))
        upload.parts |= last
        found = await self._seen(upload.owner).parts(upload.session)
        assert [(part.number, part.size) for part in found] == [(n, len(b)) for n, b in sorted(upload.parts.items())]

    async def _send(self, upload: Upload, number: int, body: bytes) -> None:
        async with self._seen(upload.owner).upload(upload.session) as ingest:
            await ingest.begin_file("part", "x/y")
            await ingest.write(body)
            await ingest.end_file()
            await ingest.commit_part(upload.session, number, PartSums("e"))

    @rule(data=st.data(), everything=st.booleans())
    @awaited
    async def complete(self, data: st.DataObject, everything: bool) -> None:
        upload = await self._any(data, "file")
        numbers = None if everything else data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
        chosen = sorted(upload.parts) if numbers is None else numbers
        refusal: type[Exception] | None = None
        if not set(chosen) <= upload.parts.keys() or (not chosen and upload.session.size != 0):
            refusal = InvalidPart
        bodies = [upload.parts.get(number, b"") for number in chosen]
        cuts = [chunk for body in bodies for chunk in cut(body)]
        await self._make(upload, lambda seen: seen.complete(upload.session, numbers), cuts, refusal)

    async def _make(
        self,
        upload: Upload,
        work: Callable[[UploadStore], Coroutine[Any, Any, Made]],
        cuts: Sequence[bytes],
        refusal: type[Exception] | None,
    ) -> None:
        """A file comes out of a session, or what was expected, or a complaint about the announced size."""
        content = b"".join(cuts)
        if refusal is None and upload.session.size not in (None, len(content)):
            refusal = SizeMismatch
        seen = self._seen(upload.owner)
        if refusal:
            with pytest.raises(refusal):
                await work(seen)
            return
        made = await work(seen)
        assert (made.just_now, made.file.owner, made.file.name) == (True, upload.owner, "name")
        assert (made.file.size, made.file.content_id) == (len(content), content_id(cuts))
        self._files[made.file.id] = Kept(upload.owner, content, tuple(cuts))
        self._uploads.remove(upload)
        done = await seen.find(upload.session.kind, str(upload.session.id))
        assert (await seen.complete(done)).file == made.file
        with pytest.raises(NoSuchUpload):
            await seen.abort(done)

    # Chunks

    @rule(data=st.data(), sent=st.lists(st.tuples(chunks, chunks), min_size=1, max_size=4))
    @awaited
    async def send_chunks(self, data: st.DataObject, sent: list[tuple[bytes, bytes]]) -> None:
        """At the same time; those whose bytes are not those of the digest leave nothing behind."""
        upload = await self._any(data, "file")
        outcomes = await asyncio.gather(*(self._send_chunk(upload, *one) for one in sent), return_exceptions=True)
        for (named, body), outcome in zip(sent, outcomes, strict=True):
            if named == body:
                assert outcome is None
                upload.held[digest_of(named)] = named
            else:
                assert isinstance(outcome, DigestMismatch)

    async def _send_chunk(self, upload: Upload, named: bytes, body: bytes) -> None:
        async with self._seen(upload.owner).upload_chunk(upload.session, digest_of(named)) as ingest:
            await ingest.write(body)

    @rule(data=st.data(), asked=st.dictionaries(chunks, st.sampled_from([0, 0, 0, 1]), min_size=1))
    @awaited
    async def ask(self, data: st.DataObject, asked: dict[bytes, int]) -> None:
        """What is known is exactly what the session holds, or files of the account; of another size it is not."""
        upload = await self._any(data, "file")
        theirs = [kept for kept in self._files.values() if kept.owner == upload.owner]
        stored = {digest_of(chunk): chunk for kept in theirs for chunk in kept.cuts}
        known, before = stored | upload.chunks, upload.chunks
        missing = await self._seen(upload.owner).missing(
            upload.session, {digest_of(chunk): len(chunk) + lie for chunk, lie in asked.items()}
        )
        expected = {digest_of(chunk) for chunk, lie in asked.items() if lie or digest_of(chunk) not in known}
        assert missing == expected
        upload.held |= {
            digest: known[digest] for digest in map(digest_of, asked) if digest not in missing | set(before)
        }

    @rule(data=st.data(), sent=runs, others=runs, lie=st.sampled_from([0, 0, -1, 1]))
    @awaited
    async def complete_list(self, data: st.DataObject, sent: list[bytes], others: list[bytes], lie: int) -> None:
        """Of what the session holds, in any order and number; of other chunks, or of other sizes, never."""
        upload = await self._any(data, "file")
        for chunk in set(sent):
            await self._send_chunk(upload, chunk, chunk)
            upload.held[digest_of(chunk)] = chunk
        ours = sorted(upload.chunks.values())
        listed = data.draw(st.lists(st.sampled_from(ours), max_size=3 * PAGE)) if ours else []
        if data.draw(st.booleans()):
            listed += others
        refs = [ChunkRef(digest_of(chunk), len(chunk)) for chunk in listed]
        if lie and refs:
            refs[-1] = ChunkRef(refs[-1].digest, refs[-1].size + lie)
        true = {ChunkRef(digest, len(chunk)) for digest, chunk in upload.chunks.items()}
        lacking = {ref.digest for ref in refs if ref not in true}

        async def lists() -> AsyncIterator[Sequence[ChunkRef]]:
            for at in range(0, len(refs), 2):
                yield refs[at : at + 2]

        await self._make(
            upload,
            lambda seen: seen.complete_listed(upload.session, lists()),
            listed,
            ChunksMissing if lacking else None,
        )
        assert await self._house.ids("uploads") == set()

    @rule(data=st.data(), other=contents)
    @awaited
    async def complete_alike(self, data: st.DataObject, other: bytes) -> None:
        """A file of the account gives its content; one of another account does not."""
        upload = await self._any(data, "file")
        cuts = data.draw(st.sampled_from([tuple(cut(other)), *(kept.cuts for kept in self._files.values())]))
        wanted = content_id(cuts)
        ours = any(kept.owner == upload.owner and content_id(kept.cuts) == wanted for kept in self._files.values())
        refusal = None if ours else ContentUnknown
        await self._make(upload, lambda seen: seen.complete_alike(upload.session, wanted), cuts, refusal)

    # Appended bytes

    @rule(data=st.data(), pieces=st.lists(bodies, min_size=1, max_size=4), wrong=st.sampled_from([0, 0, 0, 1]))
    @awaited
    async def append(self, data: st.DataObject, pieces: list[bytes], wrong: int) -> None:
        """Each in a request of its own. Cut are they as if the file had come at once, and where they end."""
        upload = await self._any(data, "tus")
        for piece in pieces:
            if wrong:
                with pytest.raises(OffsetMismatch):
                    await self._append(upload, upload.size + wrong, piece)
                continue
            await self._append(upload, upload.size, piece)
            room = SIZE - upload.size % SIZE
            upload.appended += [piece[:room], *cut(piece[room:])]
            found = await self._seen(upload.owner).find_open("tus", str(upload.session.id))
            assert found.offset == upload.size

    async def _append(self, upload: Upload, offset: int, body: bytes) -> None:
        async with self._seen(upload.owner).append(upload.session, offset) as appender:
            await appender.write(body)
            await appender.finish()

    @rule(data=st.data(), first=bodies, second=bodies)
    @awaited
    async def append_twice(self, data: st.DataObject, first: bytes, second: bytes) -> None:
        """At the same time: who began last goes on, and nothing of the other is kept."""
        upload = await self._any(data, "tus")
        seen = self._seen(upload.owner)
        async with seen.append(upload.session, upload.size) as one:
            await one.write(first[:1])
            async with seen.append(upload.session, upload.size) as other:
                with pytest.raises(OffsetMismatch):
                    await one.finish()
                await other.write(second)
                await other.finish()
        room = SIZE - upload.size % SIZE
        upload.appended += [second[:room], *cut(second[room:])]

    @rule(data=st.data())
    @awaited
    async def end(self, data: st.DataObject) -> None:
        upload = await self._any(data, "tus")
        refusal = InvalidPart if not upload.appended and upload.session.size != 0 else None
        await self._make(upload, lambda seen: seen.complete(upload.session), upload.appended, refusal)

    # Upkeep

    @rule(expired=st.sampled_from([False, False, True]))
    @awaited
    async def gc(self, expired: bool) -> None:
        """What a session holds stays, and no more than that; it goes when the session expires."""
        await self._house.collector(expired=expired).run(Pace(), Silence(), sweep=False)
        ended = self._uploads if expired else []
        self._uploads = [upload for upload in self._uploads if upload not in ended]
        held = {digest_of(chunk) for kept in self._files.values() for chunk in kept.cuts}
        for upload in self._uploads:
            held |= upload.held.keys() | chunks_of(*upload.parts.values()).keys()
            held |= {digest_of(chunk) for chunk in upload.appended}
        assert self._house.blobs().keys() == await self._house.ids("chunks") == held
        for upload in ended:
            await self._see_that_it_has_ended(upload)
        report = Report()
        await DocumentAudit(self._house.database).run(report, Silence())
        assert report.findings == []
        await recount(self._house.database)

    @precondition(lambda self: self._files)
    @rule(data=st.data())
    @awaited
    async def read(self, data: st.DataObject) -> None:
        file_id = data.draw(st.sampled_from(sorted(self._files)))
        await self._compare(file_id)

    async def _compare(self, file_id: str) -> None:
        kept = self._files[file_id]
        file = await self._house.store.file(file_id)
        pieces = [bytes(piece) async for piece in self._house.store.read(file, 0, file.size)]
        assert b"".join(pieces) == kept.content

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self._house.runner.run(self._end())

    async def _end(self) -> None:
        """All files read right; when they are deleted, and the sessions have expired, nothing is left."""
        for file_id in self._files:
            await self._compare(file_id)
        async with open_checker(self._house.database, self._house.stages.reader._cluster) as checker:
            assert (await checker.run(Silence(), read_data=True)).findings == []
        for file_id in self._files:
            await self._house.store.delete(file_id)
        await self._house.collector(expired=True).run(Pace(), Silence(), sweep=True)
        assert self._house.blobs() == {}
        left = ("chunks", "pages", "files", "uploads", "upload_sessions", "upload_parts")
        assert [await self._house.ids(name) for name in left] == [set()] * len(left)
        await recount(self._house.database)


def test_any_program_of_calls_is_answered_as_by_what_sessions_hold(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    for name in ("models.sessions", "store.merging", "store.negotiation"):
        monkeypatch.setattr(f"app.{name}.PAGE_CHUNKS", PAGE)
    monkeypatch.setattr("app.store.merging._SMALL", 3)
    monkeypatch.setattr("app.store.appending._PART", 2 * SIZE)
    # So many pages that hold the same chunk are nowhere but here.
    monkeypatch.setattr("app.models.holdings._LOOKED_AT", 1000)
    play(SessionMachine, databases, tmp_path, 15, 30)
