"""The transactions that take objects out of buckets, and those that end upload sessions.

Each keeps the counts of holders and the tallies in step with the documents, as those of `ledger` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import InvalidPart, MiniS3Error, NoSuchUpload
from app.models.buckets import Bucket, Buckets
from app.models.database import Database, Session
from app.models.files import Files
from app.models.objects import ANYHOW, Arrival, Condition, Objects, Removed, Version, bucket_of
from app.models.pages import Pages
from app.models.sessions import Part, SessionId, UploadSession, UploadSessions, holders
from app.models.tallies import Tallies, Tally
from app.types import File, PageId

Judge = Callable[[Version], MiniS3Error | None]
"""Why a version may not be removed for good, if so."""


def permit(version: Version) -> None:
    """A `Judge` that lets everything be removed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """To be deleted: a version for good, or the object, which leaves a delete marker where versions are kept."""

    key: str
    version: str = ""
    condition: Condition = ANYHOW


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deletes, and so owns delete markers, and what may not be."""

    owner: str
    judge: Judge = permit


class Catalog:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buckets = Buckets(database)
        self._files = Files(database)
        self._objects = Objects(database)
        self._pages = Pages(database)
        self._sessions = UploadSessions(database)
        self._tallies = Tallies(database)

    async def delete(self, bucket: str, wanted: Sequence[Wanted], deletion: Deletion) -> list[Removed | MiniS3Error]:
        """Delete objects, or versions, of a bucket in one transaction; what is not there is no error. An outcome
        for each, in their order. Raises NoSuchBucket."""
        now = await self._database.now()

        async def work(session: Session) -> list[Removed | MiniS3Error]:
            held = bucket_of(bucket, await self._buckets.hold({bucket} - {""}, session))
            outcomes: list[Removed | MiniS3Error] = []
            for one in wanted:
                try:
                    outcomes.append(await self._delete(held, one, deletion, now, session))
                except MiniS3Error as error:
                    outcomes.append(error)
            await self._release(outcomes, session)
            return outcomes

        return await self._database.transaction(work)

    async def _delete(
        self, bucket: Bucket | None, wanted: Wanted, deletion: Deletion, now: datetime, session: Session
    ) -> Removed:
        name = bucket.name if bucket else ""
        if wanted.version:
            version = await self._objects.version(name, wanted.key, wanted.version, session)
        else:
            present = await self._objects.present([(name, wanted.key)], {name: bucket} if bucket else {}, session)
            version = present.get((name, wanted.key))
        wanted.condition.check(wanted.key, version)
        if not wanted.version and bucket and bucket.versioning != "off":
            return await self._objects.put_marker(bucket, wanted.key, deletion.owner, now, session)
        if version is None:
            return Removed()
        if refusal := deletion.judge(version):
            raise refusal
        return await self._objects.remove(version, session)

    async def delete_file(self, file_id: str, judge: Judge = permit) -> File | None:
        """Remove a file, whichever way it came; None if there is no such file. Raises what `judge` says."""

        async def work(session: Session) -> File | None:
            version = await self._objects.by_id(file_id, session)
            if version is None or version.file is None:
                return None
            if refusal := judge(version):
                raise refusal
            await self._release([await self._objects.remove(version, session)], session)
            return version.file

        return await self._database.transaction(work)

    async def complete(
        self, upload: UploadSession, file: File, parts: Sequence[Part], condition: Condition = ANYHOW
    ) -> File:
        """Let a file take the place of the parts that it consists of, and of all other parts of the session; the file
        as it is then. Raises NoSuchUpload, InvalidPart if one of the parts was replaced meanwhile, and for objects
        NoSuchBucket and what the condition raises."""

        async def work(session: Session) -> File:
            if not await self._sessions.touch(upload.id, session):
                raise NoSuchUpload("There is no such upload any more: it was completed, given up, or it expired.")
            arrival = await self._arrival(file, condition, session)
            taken = await self._sessions.take_parts(upload.id, session)
            if not {part.id for part in parts} <= {part.id for part in taken}:
                raise InvalidPart("A part was uploaded again meanwhile.")
            changes = Counter({ref.id for ref in file.pages})
            changes.subtract(holders(taken))
            await self._settle(changes, [arrival.file], arrival.gone, session)
            await self._files.insert([(arrival.file, arrival.seq)], session)
            await self._sessions.finish(upload.id, file.id, session)
            return arrival.file

        return await self._database.transaction(work)

    async def _arrival(self, file: File, condition: Condition, session: Session) -> Arrival:
        """Make way for a file, where it is an object and may be put."""
        entry = file.entry
        if entry is None:
            return Arrival(file)
        buckets = await self._buckets.hold({entry.bucket} - {""}, session)
        bucket = bucket_of(entry.bucket, buckets)
        place = (entry.bucket, entry.key)
        present = (await self._objects.present([place], buckets, session)).get(place)
        condition.check(entry.key, present)
        return await self._objects.make_way(file, entry, present, bucket, session)

    async def end_session(self, upload: SessionId, stale_since: datetime | None = None) -> bool:
        """Give up an upload session that is open, or one, also if it is done, that made no progress since then; what
        its parts held is released at once. False if it is not so."""

        async def work(session: Session) -> bool:
            if not await self._sessions.remove(upload, session, stale_since=stale_since):
                return False
            changes: Counter[PageId] = Counter()
            changes.subtract(holders(await self._sessions.take_parts(upload, session)))
            await self._pages.refer(changes, session)
            return True

        return await self._database.transaction(work)

    async def _release(self, outcomes: Iterable[Removed | MiniS3Error], session: Session) -> None:
        gone = [version for outcome in outcomes if isinstance(outcome, Removed) for version in outcome.gone]
        await self._settle(Counter(), [], gone, session)

    async def _settle(
        self, changes: Counter[PageId], files: Sequence[File], gone: Iterable[Version], session: Session
    ) -> None:
        """Files come and versions go: change the references of pages by that, and the totals."""
        left = [version.file for version in gone if version.file]
        for file in left:
            changes.subtract({ref.id for ref in file.pages})
        await self._pages.refer({page: refs for page, refs in changes.items() if refs}, session)
        tally = Tally(len(files) - len(left), sum(file.size for file in files) - sum(file.size for file in left))
        if tally != Tally():
            await self._tallies.record(tally, session)
