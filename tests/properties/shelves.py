"""What a bucket holds, as lists of versions say it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.models.buckets import Versioning
from app.store.listing import Query
from app.types import ContentName
from tests.properties.house import digest_of


def etag_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def content_id(cuts: Sequence[bytes]) -> str:
    name = ContentName()
    for chunk in cuts:
        name.add(digest_of(chunk))
    return name.id


@dataclass(frozen=True)
class Kept:
    """A version as the model knows it; without `content`, a delete marker."""

    name: str
    id: str
    content: bytes | None
    cuts: tuple[bytes, ...] = ()

    @property
    def etag(self) -> str:
        return etag_of(self.content) if self.content is not None else ""


@dataclass
class Shelf:
    """A bucket as the model knows it: the versions of each key, the newest first."""

    versioning: Versioning = "off"
    versions: dict[str, list[Kept]] = field(default_factory=dict)

    def newest(self, key: str) -> Kept | None:
        """None where that is a delete marker, too."""
        there = self.versions.get(key, [])
        return there[0] if there and there[0].content is not None else None

    def add(self, key: str, file_id: str, content: bytes | None, cuts: Sequence[bytes] = ()) -> list[Kept]:
        """The versions that there are no more."""
        there = self.versions.setdefault(key, [])
        enabled = self.versioning == "enabled"
        gone = [] if enabled else [kept for kept in there if kept.name == "null"]
        there[:] = [kept for kept in there if kept not in gone]
        there.insert(0, Kept(file_id if enabled else "null", file_id, content, tuple(cuts)))
        return gone

    @property
    def seen(self) -> list[tuple[str, Kept]]:
        """The objects that a list without versions shows."""
        return [(key, kept) for key, kept in self.all() if kept is self.newest(key)]

    def all(self) -> list[tuple[str, Kept]]:
        return [(key, kept) for key in sorted(self.versions) for kept in self.versions[key]]


def folded(entries: Sequence[tuple[str, Kept]], query: Query) -> list[Any]:
    """What a list shows: common prefixes as text, each once, and keys with their versions."""
    shown: list[Any] = []
    for key, kept in entries:
        if not key.startswith(query.prefix):
            continue
        common, delimiter, _ = key[len(query.prefix) :].partition(query.delimiter or "\0")
        item = query.prefix + common + delimiter if delimiter else (key, kept.name, kept.id)
        if item not in shown:
            shown.append(item)
    return shown
