"""The transactions that take objects out of buckets, and those that end upload sessions.

Each keeps the counts of holders and the tallies in step with the documents, as those of `ledger` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.errors import InvalidPart, MiniS3Error, NoSuchUpload
from app.models.buckets import Bucket, Buckets
from app.models.database import Database, Session
from app.models.files import Files
from app.models.lifecycle import SETTING
from app.models.objects import ANYHOW, Arrival, Condition, Objects, Removed, Version, bucket_for, bucket_of
from app.models.pages import Pages
from app.models.sessions import Part, SessionId, UploadSession, UploadSessions, holders
from app.models.tallies import Tallies, Tally
from app.types import File, FileId, PageId


@dataclass(frozen=True, slots=True)
class Wanted:
    """To be deleted: a version for good, or the object, which leaves a delete marker where versions are kept."""

    key: str
    version: str = ""
    condition: Condition = ANYHOW


@dataclass(frozen=True, slots=True)
class Due:
    """A version that expires by lifecycle rules, as it was when this was found: the `current` one; a `noncurrent`
    one; or a `lone` delete marker, which is all that is left of its object. `newer` are those versions of the object
    because of which a noncurrent one is to go: when one of them is gone, it stays."""

    version: Version
    state: Literal["current", "noncurrent", "lone"]
    newer: Sequence[FileId] = ()


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deletes, and so owns delete markers; with `bypass` also what is under a retention of GOVERNANCE."""

    owner: str
    bypass: bool = False


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
        for each, in their order: ObjectLocked for versions that may not be removed. Raises NoSuchBucket."""
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
        return await self._objects.remove(version, session, bypass=deletion.bypass)

    async def expire(self, bucket: Bucket, due: Sequence[Due]) -> list[Removed | MiniS3Error] | None:
        """Do in one transaction what the lifecycle rules of a bucket ask for: of what is due, versions are removed for
        good, but a current one is hidden by a delete marker of the bucket's owner where versions are kept. What is not
        as it was found stays. An outcome for each, in their order; None if the bucket, or its rules, are others by now.

        Of each object the noncurrent versions come before the current one.
        """
        now = await self._database.now()

        async def work(session: Session) -> list[Removed | MiniS3Error] | None:
            held = await self._held_as_it_was(bucket, session)
            if held is None:
                return None
            still = await self._still(due, session)
            outcomes: list[Removed | MiniS3Error] = []
            for one in due:
                try:
                    version = still.get(one.version.id)
                    outcomes.append(await self._expire(held, version, now, session) if version else Removed())
                except MiniS3Error as error:
                    outcomes.append(error)
            await self._release(outcomes, session)
            return outcomes

        return await self._database.transaction(work)

    async def _held_as_it_was(self, bucket: Bucket, session: Session) -> Bucket | None:
        """The bucket, if it has the lifecycle rules that it had."""
        held = (await self._buckets.hold({bucket.name}, session)).get(bucket.name)
        return held if held and held.settings.get(SETTING) == bucket.settings.get(SETTING) else None

    async def _still(self, due: Sequence[Due], session: Session) -> dict[FileId, Version]:
        """Those of the versions that are as they were found."""
        found = await self._objects.by_ids({one.version.id for one in due}, session)
        newer = await self._objects.hold({file_id for one in due for file_id in one.newer}, session)
        still: dict[FileId, Version] = {}
        for one in due:
            version = found.get(one.version.id)
            if version is None or version.tags != one.version.tags:
                continue
            if (
                (one.state == "current" and version.listed)
                or (one.state == "noncurrent" and newer.issuperset(one.newer))
                or (one.state == "lone" and await self._objects.is_alone(version, session))
            ):
                still[version.id] = version
        return still

    async def _expire(self, bucket: Bucket, version: Version, now: datetime, session: Session) -> Removed:
        if version.listed and bucket.versioning != "off":
            return await self._objects.put_marker(bucket, version.key, bucket.owner, now, session)
        return await self._objects.remove(version, session)

    async def delete_file(self, file_id: str) -> File | None:
        """Remove a file, whichever way it came; None if there is no such file. Raises ObjectLocked."""

        async def work(session: Session) -> File | None:
            version = await self._objects.by_id(file_id, session)
            if version is None or version.file is None:
                return None
            await self._release([await self._objects.remove(version, session)], session)
            return version.file

        return await self._database.transaction(work)

    async def begin(self, upload: UploadSession) -> None:
        """Begin an upload session. Raises NoSuchBucket."""
        name = upload.entry.bucket

        async def work(session: Session) -> None:
            bucket_of(name, await self._buckets.hold({name} - {""}, session))
            await self._sessions.create(upload, session)

        await self._database.transaction(work)

    async def complete(
        self, upload: UploadSession, file: File, parts: Sequence[Part], condition: Condition = ANYHOW
    ) -> File:
        """Let a file take the place of the parts that it consists of, and of all other parts of the session; the file
        as it is then. Raises NoSuchUpload, InvalidPart if one of the parts was replaced meanwhile, and for objects
        NoSuchBucket, ObjectLocked, NotLockable and what the condition raises."""

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
        bucket = bucket_for(entry, buckets)
        place = (entry.bucket, entry.key)
        present = (await self._objects.present([place], buckets, session)).get(place)
        condition.check(entry.key, present)
        return await self._objects.make_way(file, entry, present, bucket, session)

    async def end_session(self, upload: SessionId, stale_since: datetime | None = None) -> bool:
        """Give up an upload session that is open, or one, also if it is done, that made no progress since then; what
        its parts held is released at once. False if it is not so."""
        return await self._database.transaction(lambda session: self._end(upload, session, stale_since))

    async def expire_session(self, bucket: Bucket, upload: SessionId) -> bool | None:
        """Give up an upload session, as lifecycle rules of its bucket ask for. False if it is not open; None if the
        bucket, or its rules, are others by now."""

        async def work(session: Session) -> bool | None:
            held = await self._held_as_it_was(bucket, session)
            return await self._end(upload, session) if held else None

        return await self._database.transaction(work)

    async def _end(self, upload: SessionId, session: Session, stale_since: datetime | None = None) -> bool:
        if not await self._sessions.remove(upload, session, stale_since=stale_since):
            return False
        changes: Counter[PageId] = Counter()
        changes.subtract(holders(await self._sessions.take_parts(upload, session)))
        await self._pages.refer(changes, session)
        return True

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
