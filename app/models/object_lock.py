"""Object lock: what keeps a version from being removed, and what may become of that (S3 user guide, "Locking objects
with Object Lock").

The rules are conditions on a version's document, so that they hold in the very statement that removes or changes it,
and by the clock of the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from app.models.database import Document
from app.types import Lock, LockMode, Retention

YEAR = 365
"""Days that a year of retention has."""


@dataclass(frozen=True, slots=True)
class DefaultRetention:
    """What a version gets that says nothing itself, from when it is put on: of `days` and `years` one is 0."""

    mode: LockMode
    days: int = 0
    years: int = 0

    @classmethod
    def read(cls, document: Document) -> Self:
        return cls(document["mode"], document.get("days", 0), document.get("years", 0))

    def written(self) -> Document:
        period = {"days": self.days} if self.days else {"years": self.years}
        return {"mode": self.mode, **period}

    def begin(self, at: datetime) -> Retention:
        return Retention(self.mode, at + timedelta(days=self.days + self.years * YEAR))


def read_lock(document: Document) -> Lock:
    """That of a version, or of an upload session."""
    lock = document.get("lock", {})
    retention = Retention(lock["mode"], lock["until"]) if "mode" in lock else None
    return Lock(retention, lock.get("hold"))


def written_lock(lock: Lock) -> Document:
    """Fields of the document; none for a version that is not locked."""
    written: Document = {"mode": lock.retention.mode, "until": lock.retention.until} if lock.retention else {}
    if lock.hold is not None:
        written["hold"] = lock.hold
    return {"lock": written} if written else {}


def may_go(*, bypass: bool) -> Document:
    """A condition on versions: they may be removed; with `bypass`, also those under a retention of GOVERNANCE."""
    return {"lock.hold": {"$ne": True}, "$or": _unbound(bypass=bypass)}


def may_become(wanted: Retention | None, *, bypass: bool) -> Document:
    """A condition on versions: their retention may become this. One that binds may only become longer."""
    allowed = _unbound(bypass=bypass)
    if wanted:
        allowed.append({"lock.mode": wanted.mode, "lock.until": {"$lte": wanted.until}})
    return {"$or": allowed}


def _unbound(*, bypass: bool) -> list[Document]:
    # A version without a retention has none that comes after now, either.
    over: Document = {"$expr": {"$lte": ["$lock.until", "$$NOW"]}}
    return [over, {"lock.mode": "GOVERNANCE"}] if bypass else [over]
