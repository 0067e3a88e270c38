"""Lifecycle rules of buckets: what expires, and when (S3 user guide, "Managing the lifecycle of objects").

    settings.lifecycle: {rules: [the fields of a `Rule`], minimum}

Ages are counted in days, and end at the midnight, in UTC, that follows. `minimum` is the smallest size of objects that
would get another storage class; there are none here, and it is only kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.models.buckets import Bucket
from app.types import File

SETTING = "lifecycle"

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects a rule is about: those with keys that begin so, with all these tags, each a name and a value, and
    of more, or less, than so many bytes. What is None, or empty, says nothing."""

    prefix: str | None = None
    tags: Sequence[Sequence[str]] = ()
    over: int | None = None
    under: int | None = None

    def takes(self, key: str, file: File | None) -> bool:
        """Without a file, it is a delete marker, which has no bytes and no tags."""
        size = file.size if file else 0
        tags: Mapping[str, str] = file.entry.tags if file and file.entry else {}
        return (
            key.startswith(self.prefix or "")
            and (self.over is None or size > self.over)
            and (self.under is None or size < self.under)
            and all(tags.get(name) == value for name, value in self.tags)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What is not None is done.

    The current version expires `days` after it was created, or from `date` on, and with it a delete marker that is all
    that is left of its object; with `lone_markers`, such a marker expires at once. Other versions expire
    `noncurrent_days` after the next version was created, but for the newest `newer_noncurrent` ones. An upload in
    parts expires `upload_days` after it was begun. In a `legacy` rule the prefix stands beside the filter's place.
    """

    id: str
    enabled: bool
    filter: Filter
    legacy: bool = False
    days: int | None = None
    date: datetime | None = None
    lone_markers: bool | None = None
    noncurrent_days: int | None = None
    newer_noncurrent: int | None = None
    upload_days: int | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Rule:
        return cls(**{**document, "filter": Filter(**document["filter"])})

    @property
    def is_about_versions(self) -> bool:
        """Rather than about uploads in parts only."""
        return bool(self.days or self.date or self.lone_markers or self.noncurrent_days)

    def expiry(self, created_at: datetime) -> datetime | None:
        """When the current version expires, if it does."""
        return self.date if self.days is None else _midnight_after(created_at, self.days)

    def marker_expiry(self, created_at: datetime) -> datetime | None:
        """When a delete marker expires of whose object nothing else is left."""
        return created_at if self.lone_markers else self.expiry(created_at)

    def noncurrent_expiry(self, since: datetime) -> datetime | None:
        """When a version expires that is no more the current one since then."""
        return None if self.noncurrent_days is None else _midnight_after(since, self.noncurrent_days)

    def upload_expiry(self, begun_at: datetime) -> datetime | None:
        return None if self.upload_days is None else _midnight_after(begun_at, self.upload_days)


def _midnight_after(moment: datetime, days: int) -> datetime:
    """The first midnight, in UTC, after so many days: after the whole last day where one is at midnight."""
    try:
        at = moment.astimezone(UTC) + timedelta(days=days + 1)
    except OverflowError:
        return _LAST
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When something expires, and by which rule."""

    at: datetime
    rule: str


def rules_of(bucket: Bucket) -> list[Rule]:
    """All rules of a bucket, as they were put."""
    return list(map(Rule.read, _documents(bucket)))


def _documents(bucket: Bucket) -> Sequence[Mapping[str, Any]]:
    documents: Sequence[Mapping[str, Any]] = bucket.settings.get(SETTING, {}).get("rules", ())
    return documents


def _rules_for(bucket: Bucket, key: str) -> Iterator[Rule]:
    """Those that may be about a key: the others are not even read, for there may be a thousand."""
    for document in _documents(bucket):
        if document["enabled"] and key.startswith(document["filter"]["prefix"] or ""):
            yield Rule.read(document)


def expiry_of(bucket: Bucket, key: str, file: File) -> Expiry | None:
    """When a file expires that is the current version of its object: the earliest time, by the first of the rules
    that say so."""
    found = [
        Expiry(at, rule.id)
        for rule in _rules_for(bucket, key)
        if rule.filter.takes(key, file) and (at := rule.expiry(file.created_at))
    ]
    return min(found, key=lambda expiry: expiry.at, default=None)


def upload_expiry_of(bucket: Bucket, key: str, begun_at: datetime) -> Expiry | None:
    """When an upload in parts expires."""
    found = [Expiry(at, rule.id) for rule in _rules_for(bucket, key) if (at := rule.upload_expiry(begun_at))]
    return min(found, key=lambda expiry: expiry.at, default=None)
