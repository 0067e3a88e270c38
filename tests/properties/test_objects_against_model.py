"""Objects, versions, uploads in parts: any program of calls, on real parts, against lists of versions.

Seen to fail: where a version that is put does not hide the one before it, where a page that two parts hold counts
once, where an upload session that was completed can be given up.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from app.errors import (
    BucketExists,
    BucketNotEmpty,
    InvalidPart,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
)
from app.models.buckets import Bucket, Versioning
from app.models.catalog import Deletion, Wanted
from app.models.objects import ANYHOW, Condition, Position, Removed
from app.models.sessions import Part, PartSums, UploadSession
from app.store.listing import Listing, Query
from app.store.objects import Wish
from app.types import Entry
from app.upkeep.check import open_checker
from app.upkeep.documents import DocumentAudit
from app.upkeep.findings import Report
from app.upkeep.pace import Pace, Silence
from tests.models.builders import recount
from tests.properties.house import SIZE, House, Machine, awaited, cut, digest_of, play, shrink
from tests.properties.shelves import Kept, Shelf, content_id, etag_of, folded
from tests.support import Databases

BUCKETS = ("one", "two")
KEYS = ("a", "a/", "a/b", "a/b/c", "a0", "b", "ü/\U0001f600")
PREFIXES = ("", "a", "a/", "a/b", "ü", "x")

contents = st.builds(
    lambda letters, tail: b"".join(letter.encode() * SIZE for letter in letters) + tail,
    st.sampled_from(["", "a", "ab", "abc", "abca", "bcdabc", "dddd"]),
    st.sampled_from([b"", b"a", b"e" * (SIZE - 1)]),
)
buckets = st.sampled_from(BUCKETS)
keys = st.sampled_from(KEYS)
conditions = st.sampled_from(["anyhow", "anyhow", "absent", "same", "other", "any"])


Turn = Callable[[Position], Coroutine[Any, Any, Listing[Any]]]
"""Asks for the page of a list behind a position."""


@dataclass
class Upload:
    """An upload session, and what its parts hold by their numbers."""

    session: UploadSession
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


class ObjectMachine(Machine):
    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._shelves: dict[str, Shelf] = {}
        self._uploads: list[Upload] = []

    @initialize()
    @awaited
    async def begin(self) -> None:
        await self._house.empty()
        for name in BUCKETS:
            await self._create(name)

    # Buckets

    async def _create(self, name: str) -> None:
        await self._house.s3.buckets.create(name, "alice", {})
        self._shelves[name] = Shelf()

    @rule(name=buckets, versioning=st.sampled_from(["enabled", "suspended"]))
    @awaited
    async def set_versioning(self, name: str, versioning: Versioning) -> None:
        await self._house.s3.buckets.set_versioning(name, versioning)
        self._shelves[name].versioning = versioning

    @rule(name=buckets)
    @awaited
    async def remove(self, name: str) -> None:
        """A bucket that is empty; then there is another one of its name, without the uploads of the first one."""
        with pytest.raises(BucketExists):
            await self._house.s3.buckets.create(name, "bob", {})
        if self._shelves[name].all():
            with pytest.raises(BucketNotEmpty):
                await self._house.s3.buckets.delete(name)
            return
        await self._house.s3.buckets.delete(name)
        with pytest.raises(NoSuchBucket):
            await self._bucket(name)
        await self._create(name)
        ended = [upload for upload in self._uploads if upload.session.entry.bucket == name]
        self._uploads = [upload for upload in self._uploads if upload not in ended]
        for upload in ended:
            with pytest.raises(NoSuchUpload):
                await self._find_session(upload)
            await self._see_that_it_has_ended(upload)

    async def _bucket(self, name: str) -> Bucket:
        return await self._house.s3.buckets.find(name)

    # Objects

    @rule(name=buckets, key=keys, content=contents, condition=conditions)
    @awaited
    async def put(self, name: str, key: str, content: bytes, condition: str) -> None:
        shelf = self._shelves[name]
        wanted, refusal = self._condition(condition, shelf.newest(key))

        async def work() -> str:
            async with self._house.s3.objects.upload("alice") as upload:
                await upload.begin_file(key, "x/y")
                await upload.write(content)
                await upload.end_file()
                (file,) = (await upload.commit(Entry(name, key, etag_of(content)), wanted)).files
                return file.id

        await self._place(work, shelf, key, content, cut(content), refusal)

    async def _place(
        self,
        work: Callable[[], Coroutine[Any, Any, str]],
        shelf: Shelf,
        key: str,
        content: bytes,
        cuts: Sequence[bytes],
        refusal: type[Exception] | None,
    ) -> bool:
        if refusal:
            with pytest.raises(refusal):
                await work()
            return False
        shelf.add(key, await work(), content, cuts)
        return True

    @staticmethod
    def _condition(kind: str, newest: Kept | None) -> tuple[Condition, type[Exception] | None]:
        """A condition, and what it raises."""
        if kind == "anyhow":
            return ANYHOW, None
        if kind == "absent":
            return Condition(absent=True), PreconditionFailed if newest else None
        if newest is None:
            return Condition(etag="*" if kind == "any" else "0"), NoSuchKey
        etag = {"same": newest.etag, "other": "0", "any": "*"}[kind]
        return Condition(etag=etag), PreconditionFailed if kind == "other" else None

    @precondition(lambda self: self._files())
    @rule(data=st.data(), name=buckets, key=keys, condition=conditions)
    @awaited
    async def copy(self, data: st.DataObject, name: str, key: str, condition: str) -> None:
        source_name, source_key, kept = data.draw(st.sampled_from(self._files()))
        source = await self._house.s3.objects.find(await self._bucket(source_name), source_key, kept.name)
        shelf = self._shelves[name]
        wanted, refusal = self._condition(condition, shelf.newest(key))
        wish = Wish(Entry(name, key, kept.etag), "x/y", "alice", wanted)

        async def work() -> str:
            return (await self._house.s3.objects.copy(source, wish)).id

        assert kept.content is not None
        await self._place(work, shelf, key, kept.content, kept.cuts, refusal)

    @rule(name=buckets, wanted=st.lists(st.tuples(keys, conditions), min_size=1, max_size=4))
    @awaited
    async def delete(self, name: str, wanted: list[tuple[str, str]]) -> None:
        """Several in one transaction, where the same key may come again: each as if it were alone."""
        shelf = self._shelves[name]
        first = {key: shelf.newest(key) for key, _ in wanted}
        asked = [Wanted(key, "", self._condition(condition, first[key])[0]) for key, condition in wanted]
        outcomes = await self._house.s3.objects.delete(await self._bucket(name), asked, Deletion("alice"))
        for one, outcome in zip(asked, outcomes, strict=True):
            self._compare_deletion(shelf, one, outcome)

    @staticmethod
    def _compare_deletion(shelf: Shelf, wanted: Wanted, outcome: Any) -> None:
        newest = shelf.newest(wanted.key)
        condition = wanted.condition
        if condition.etag and newest is None:
            assert isinstance(outcome, NoSuchKey)
        elif (condition.absent and newest) or condition.etag not in ("", "*", newest.etag if newest else ""):
            assert isinstance(outcome, PreconditionFailed)
        elif shelf.versioning == "off":
            gone = shelf.versions.pop(wanted.key, [])
            assert ([one.id for one in outcome.gone], outcome.marker) == ([kept.id for kept in gone], None)
        else:
            gone = shelf.add(wanted.key, outcome.marker.id, None)
            assert [one.id for one in outcome.gone] == [kept.id for kept in gone]
            assert outcome.marker.name == shelf.versions[wanted.key][0].name

    @rule(data=st.data(), name=buckets, key=keys)
    @awaited
    async def delete_version(self, data: st.DataObject, name: str, key: str) -> None:
        there = self._shelves[name].versions.get(key, [])
        version = data.draw(st.sampled_from([*(kept.name for kept in there), "null", "0" * 24]))
        gone = [kept for kept in there if kept.name == version]
        bucket = await self._bucket(name)
        (outcome,) = await self._house.s3.objects.delete(bucket, [Wanted(key, version)], Deletion("alice"))
        assert isinstance(outcome, Removed)
        assert [one.id for one in outcome.gone] == [kept.id for kept in gone]
        assert (outcome.marker is not None) == any(kept.content is None for kept in gone)
        there[:] = [kept for kept in there if kept not in gone]
        with pytest.raises(NoSuchVersion):
            await self._house.s3.objects.find(bucket, key, version)

    # Uploads in parts

    @rule(name=buckets, key=keys)
    @awaited
    async def start(self, name: str, key: str) -> None:
        session = await self._house.s3.sessions.begin(Wish(Entry(name, key, ""), "x/y", "alice"))
        self._uploads.append(Upload(session))

    @precondition(lambda self: self._uploads)
    @rule(data=st.data(), parts=st.lists(st.tuples(st.integers(1, 4), contents), min_size=1, max_size=3))
    @awaited
    async def upload_parts(self, data: st.DataObject, parts: list[tuple[int, bytes]]) -> None:
        """The same number may come again."""
        upload = data.draw(st.sampled_from(self._uploads))
        for number, content in parts:
            await self._upload_part(upload, number, content)
        listed = await self._house.s3.sessions.parts(upload.session)
        assert {part.number: (part.id, part.size) for part in listed} == {
            number: (part.id, len(content)) for number, (part, content) in upload.parts.items()
        }

    async def _upload_part(self, upload: Upload, number: int, content: bytes) -> None:
        async with self._house.s3.sessions.upload(upload.session) as ingest:
            await ingest.begin_file("part", "x/y")
            await ingest.write(content)
            await ingest.end_file()
            part = await ingest.commit_part(upload.session, number, PartSums(etag_of(content)))
        upload.parts[number] = (part, content)

    @precondition(lambda self: self._uploads)
    @rule(data=st.data(), condition=conditions, replaced=st.booleans())
    @awaited
    async def complete(self, data: st.DataObject, condition: str, replaced: bool) -> None:
        upload = data.draw(st.sampled_from(self._uploads))
        numbers = data.draw(st.sets(st.sampled_from(sorted(upload.parts)))) if upload.parts else set()
        chosen = [upload.parts[number] for number in sorted(numbers)]
        entry = upload.session.entry
        shelf = self._shelves[entry.bucket]
        wanted, refusal = self._condition(condition, shelf.newest(entry.key))
        if replaced and numbers:
            await self._upload_part(upload, max(numbers), b"another")
            refusal = refusal or InvalidPart
        content = b"".join(body for _, body in chosen)
        made = Entry(entry.bucket, entry.key, etag_of(content))

        async def work() -> str:
            parts = [part for part, _ in chosen]
            return (await self._house.s3.sessions.complete(upload.session, parts, made, wanted)).id

        cuts = [chunk for _, body in chosen for chunk in cut(body)]
        if await self._place(work, shelf, entry.key, content, cuts, refusal):
            self._uploads.remove(upload)
            found = await self._find_session(upload)
            assert found.done == shelf.versions[entry.key][0].id
            await self._see_that_it_has_ended(upload)

    async def _find_session(self, upload: Upload) -> UploadSession:
        entry = upload.session.entry
        bucket = await self._bucket(entry.bucket)
        return await self._house.s3.sessions.find(bucket, entry.key, str(upload.session.id))

    async def _see_that_it_has_ended(self, upload: Upload) -> None:
        with pytest.raises(NoSuchUpload):
            await self._upload_part(upload, 1, b"late")
        with pytest.raises(NoSuchUpload):
            await self._house.s3.sessions.complete(upload.session, [], upload.session.entry)
        with pytest.raises(NoSuchUpload):
            await self._house.s3.sessions.abort(upload.session)

    @precondition(lambda self: self._uploads)
    @rule(data=st.data())
    @awaited
    async def abort(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self._uploads))
        self._uploads.remove(upload)
        await self._house.s3.sessions.abort(upload.session)
        with pytest.raises(NoSuchUpload):
            await self._find_session(upload)
        await self._see_that_it_has_ended(upload)

    @rule(name=buckets, prefix=st.sampled_from(PREFIXES), limit=st.integers(1, 3))
    @awaited
    async def list_uploads(self, name: str, prefix: str, limit: int) -> None:
        bucket = await self._bucket(name)
        query = Query(prefix, "", limit)

        async def turn(after: Position) -> Listing[UploadSession]:
            return await self._house.s3.sessions.list(bucket, query, after)

        listed = await self._walk(turn, lambda session: Position(session.entry.key, upload=session.id), query)
        sessions = [upload.session for upload in self._uploads if upload.session.entry.bucket == name]
        expected = sorted((one.entry.key, one.id) for one in sessions if one.entry.key.startswith(prefix))
        assert [(session.entry.key, session.id) for session in listed] == expected

    # Lists

    async def _walk(
        self,
        turn: Callable[[Position], Coroutine[Any, Any, Listing[Any]]],
        place: Callable[[Any], Position],
        query: Query,
    ) -> list[Any]:
        """All items, page after page."""
        listing = await turn(Position())
        items = list(listing.items)
        while listing.truncated:
            assert len(listing.items) == query.limit
            last = listing.items[-1]
            listing = await turn(query.after(last) if isinstance(last, str) else place(last))
            items += listing.items
        return items

    @rule(
        name=buckets,
        prefix=st.sampled_from(PREFIXES),
        delimiter=st.sampled_from(["", "/", "b"]),
        limit=st.integers(1, 4),
    )
    @awaited
    async def list_all(self, name: str, prefix: str, delimiter: str, limit: int) -> None:
        bucket, shelf = await self._bucket(name), self._shelves[name]
        query = Query(prefix, delimiter, limit)
        for listing, place, expected in (
            (self._house.s3.objects.list, lambda one: Position(one.key), shelf.seen),
            (self._house.s3.objects.list_versions, lambda one: Position(one.key, one.seq), shelf.all()),
        ):
            items = await self._walk(functools.partial(listing, bucket, query), place, query)
            shown = [item if isinstance(item, str) else (item.key, item.name, item.id) for item in items]
            assert shown == folded(expected, query)

    # Upkeep

    @rule(expired=st.booleans())
    @awaited
    async def gc(self, expired: bool) -> None:
        """Nothing that an object or a part holds is collected; sessions are, when they have expired."""
        await self._house.collector(expired=expired).run(Pace(), Silence(), sweep=False)
        ended = self._uploads if expired else []
        self._uploads = [upload for upload in self._uploads if upload not in ended]
        held = {digest_of(chunk) for _, _, kept in self._files() for chunk in kept.cuts}
        for upload in self._uploads:
            held |= {digest_of(chunk) for _, body in upload.parts.values() for chunk in cut(body)}
        assert self._house.blobs().keys() == await self._house.ids("chunks") == held
        for upload in ended:
            with pytest.raises(NoSuchUpload):
                await self._find_session(upload)
            await self._see_that_it_has_ended(upload)

    @rule()
    @awaited
    async def check(self) -> None:
        """The documents only: the blobs are looked at in the end."""
        report = Report()
        await DocumentAudit(self._house.database).run(report, Silence())
        assert report.findings == []
        await recount(self._house.database)

    @precondition(lambda self: self._files())
    @rule(data=st.data())
    @awaited
    async def read(self, data: st.DataObject) -> None:
        name, key, kept = data.draw(st.sampled_from(self._files()))
        assert kept.content is not None
        version = await self._house.s3.objects.find(await self._bucket(name), key, kept.name)
        assert (version.id, version.etag) == (kept.id, kept.etag)
        assert version.file is not None
        assert (version.file.size, version.file.content_id) == (len(kept.content), content_id(kept.cuts))
        start = data.draw(st.integers(0, max(0, len(kept.content) - 1)))
        stop = data.draw(st.integers(start, len(kept.content)))
        pieces = [bytes(piece) async for piece in self._house.s3.objects.read(version.file, start, stop)]
        assert b"".join(pieces) == kept.content[start:stop]

    @invariant()
    @awaited
    async def what_is_seen_is_the_newest(self) -> None:
        places = [(name, key) for name, shelf in self._shelves.items() for key in shelf.versions]
        seen = await asyncio.gather(*(self._find(name, key) for name, key in places))
        newest = [self._shelves[name].newest(key) for name, key in places]
        assert seen == [kept.id if kept else None for kept in newest]

    async def _find(self, name: str, key: str) -> str | None:
        with suppress(NoSuchKey):
            return (await self._house.s3.objects.find(await self._bucket(name), key)).id
        return None

    def _files(self) -> list[tuple[str, str, Kept]]:
        return [
            (name, key, kept)
            for name, shelf in self._shelves.items()
            for key, kept in shelf.all()
            if kept.content is not None
        ]

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self._house.runner.run(self._end())

    async def _end(self) -> None:
        """When all versions are deleted and all uploads have expired, nothing is left but empty buckets."""
        async with open_checker(self._house.database, self._house.stages.reader._cluster) as checker:
            report = await checker.run(Silence(), read_data=True)
        assert report.findings == []
        for name, shelf in self._shelves.items():
            wanted = [Wanted(key, kept.name) for key, kept in shelf.all()]
            bucket = await self._bucket(name)
            await self._house.s3.objects.delete(bucket, wanted, Deletion("alice"))
            await self._house.s3.buckets.delete(name)
        await self._house.collector(expired=True).run(Pace(), Silence(), sweep=True)
        assert self._house.blobs() == {}
        left = ("chunks", "pages", "files", "uploads", "upload_sessions", "upload_parts", "buckets", "bucket_stripes")
        assert [await self._house.ids(name) for name in left] == [set()] * len(left)
        await recount(self._house.database)


def test_any_program_of_calls_is_answered_as_by_lists_of_versions(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    play(ObjectMachine, databases, tmp_path, 20, 40)
