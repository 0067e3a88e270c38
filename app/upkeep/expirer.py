"""Lifecycle rules carried out: what they let expire is removed, hidden, or given up.

    bucket by bucket ── uploads in parts ── versions, by key ── what is due, in small transactions

What a page of versions shows may be otherwise a moment later. Each transaction looks again, and leaves alone what is
not as it was found, and everything where the rules are others (`Catalog.expire`). Whoever crashes leaves a note of how
far the round was; the next one goes on there, and what is done already it finds no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from time import monotonic

from app.errors import MiniS3Error
from app.faults import pause
from app.logs import get_logger
from app.metrics import note_expired
from app.models.buckets import Bucket, Buckets
from app.models.catalog import Catalog, Due
from app.models.database import Database
from app.models.leases import Lease
from app.models.lifecycle import SETTING, rules_of
from app.models.objects import Objects, Position, Removed
from app.models.rounds import NAME, Round, Rounds
from app.models.sessions import UploadSessions
from app.upkeep.due import Reckoner, Rules
from app.upkeep.holding import Keeper, holding
from app.upkeep.pace import Pace
from app.upkeep.walk import TakenOver

log = get_logger(__name__)

PAGE = 500
"""Versions, or uploads, read together."""
TOGETHER = 50
"""Versions that expire in one transaction: whoever changes the same bucket may have to wait for it."""

_NOTE = 2.0
"""Seconds between two notes of how far a round is."""


class Expirer:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, pace: Pace, now: datetime | None = None) -> Round | None:
        """A round, or what is left of the last one; None if somebody else is at it. What expires by `now` is due, by
        the time of the database's clock if none is given. Raises DatabaseUnavailable, TakenOver."""
        async with holding(Lease(self._database, NAME)) as keeper:
            if keeper is None:
                return None
            last = await Rounds(self._database).last()
            done = last if last and not last.over else Round()
            await _Turn(self._database, keeper, pace, done).run(now or await self._database.now())
            return done


class _Changed(Exception):
    """The bucket, or its rules, are others than they were a moment ago: the next round sees to it."""


class _Turn:
    """What one process does of a round."""

    def __init__(self, database: Database, keeper: Keeper, pace: Pace, done: Round) -> None:
        self._rounds = Rounds(database)
        self._buckets = Buckets(database)
        self._objects = Objects(database)
        self._sessions = UploadSessions(database)
        self._catalog = Catalog(database)
        self._keeper = keeper
        self._pace = pace
        self._done = done
        self._noted = monotonic()

    async def run(self, now: datetime) -> None:
        done = self._done
        await self._note()
        try:
            while bucket := await self._buckets.first_with(SETTING, done.bucket):
                if bucket.name != done.bucket:
                    done.bucket, done.key = bucket.name, ""
                await self._see_to(bucket, now)
                # This is the name that comes next, were there a bucket of that name.
                done.bucket, done.key = f"{bucket.name}\0", ""
            done.over = True
        finally:
            with suppress(MiniS3Error):
                await self._note()

    async def _see_to(self, bucket: Bucket, now: datetime) -> None:
        try:
            rules = Rules(rules_of(bucket))
            for prefix in rules.prefixes(lambda rule: rule.upload_days is not None):
                await self._expire_uploads(bucket, prefix, rules, now)
            for prefix in rules.prefixes(lambda rule: rule.is_about_versions):
                await self._expire_versions(bucket, prefix, Reckoner(rules, now))
        except _Changed:
            log.info("bucket changed, its lifecycle rules are carried out later", bucket=bucket.name)
        except MiniS3Error:
            raise
        except Exception:
            # One bucket that can't be coped with must not hold up the others for ever.
            log.exception("bucket passed over", bucket=bucket.name)

    async def _expire_uploads(self, bucket: Bucket, prefix: str, rules: Rules, now: datetime) -> None:
        position = Position()
        while uploads := await self._sessions.page(bucket.name, prefix, position, PAGE):
            for upload in uploads:
                ends = [rule.upload_expiry(upload.created_at) for rule in rules.about(upload.entry.key)]
                if any(at and at <= now for at in ends):
                    ended = await self._catalog.expire_session(bucket, upload.id)
                    if ended is None:
                        raise _Changed
                    self._done.uploads += ended
                    note_expired("uploads", int(ended))
                    await self._go_on()
            position = Position(uploads[-1].entry.key, upload=uploads[-1].id)
            await self._go_on()

    async def _expire_versions(self, bucket: Bucket, prefix: str, reckoner: Reckoner) -> None:
        """Those behind the key that the round has come to. It comes to a key when all versions of it are seen to."""
        position = Position(self._done.key)
        while versions := await self._objects.versions(bucket.name, prefix, position, PAGE):
            last = versions[-1]
            await self._expire([due for version in versions for due in reckoner.take(version)], bucket)
            self._done.seen += len(versions)
            self._done.key = next((one.key for one in reversed(versions) if one.key != last.key), self._done.key)
            position = Position(last.key, last.seq)
            await self._go_on()
        await self._expire(reckoner.finish(), bucket)
        self._done.key = position.key

    async def _expire(self, due: Sequence[Due], bucket: Bucket) -> None:
        for start in range(0, len(due), TOGETHER):
            some = due[start : start + TOGETHER]
            await pause("due-found")
            outcomes = await self._catalog.expire(bucket, some)
            if outcomes is None:
                raise _Changed
            for one, outcome in zip(some, outcomes, strict=True):
                self._count(one, outcome)
            await pause("expired")
            await self._go_on()

    def _count(self, due: Due, outcome: Removed | MiniS3Error) -> None:
        done = self._done
        if isinstance(outcome, MiniS3Error):
            done.kept += 1
        elif due.state == "lone":
            done.markers += len(outcome.gone)
            note_expired("markers", len(outcome.gone))
        else:
            hidden = due.state == "current" and outcome.marker is not None
            done.hidden += hidden
            done.removed += len(outcome.gone)
            note_expired("hidden", int(hidden))
            note_expired("removed", len(outcome.gone))

    async def _go_on(self) -> None:
        if not self._keeper.held:
            raise TakenOver("Another process may be at the same lifecycle rules by now.")
        if monotonic() - self._noted >= _NOTE:
            await self._note()
        await self._pace.rest()

    async def _note(self) -> None:
        now = monotonic()
        self._done.seconds += now - self._noted
        self._noted = now
        await self._rounds.note(self._done)
