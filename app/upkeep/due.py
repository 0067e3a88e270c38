"""What is due by the lifecycle rules of a bucket, of versions that go by one after the other. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from app.models.catalog import Due
from app.models.lifecycle import Rule
from app.models.objects import Version
from app.types import FileId


class Rules:
    """The rules of a bucket that are enabled, to be found by key, however many there are."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_prefix: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.enabled:
                self._by_prefix.setdefault(rule.filter.prefix or "", []).append(rule)
        self._lengths = sorted(set(map(len, self._by_prefix)))

    def about(self, key: str) -> list[Rule]:
        """Those whose prefix the key has."""
        prefixes = (key[:length] for length in self._lengths if length <= len(key))
        return [rule for prefix in prefixes for rule in self._by_prefix.get(prefix, ())]

    def prefixes(self, is_meant: Callable[[Rule], bool]) -> list[str]:
        """How the keys begin that rules of a kind are about, in their order. No key begins in two of these ways."""
        found: list[str] = []
        for prefix, rules in sorted(self._by_prefix.items()):
            if any(map(is_meant, rules)) and not (found and prefix.startswith(found[-1])):
                found.append(prefix)
        return found


class Reckoner:
    """Takes the versions of a bucket, by key, those of each key from the newest on, and tells which are due by now.

    Of the versions of a key it remembers the first one, the last one, and those that stay, as far as a rule asks how
    many these are.
    """

    def __init__(self, rules: Rules, now: datetime) -> None:
        self._all = rules
        self._now = now
        self._newest: Version | None = None
        self._last: Version | None = None
        self._rules: list[Rule] = []
        self._staying: list[FileId] = []
        self._most = 0

    def take(self, version: Version) -> list[Due]:
        """What is known to be due with this version: itself, or the newest one of the key before."""
        due: list[Due] = []
        if self._newest and self._last and version.key == self._newest.key:
            due = self._noncurrent(version, self._newest, since=self._last.created_at)
            if not due and len(self._staying) < self._most:
                self._staying.append(version.id)
        else:
            due = self.finish()
            self._newest = version
            self._rules = self._all.about(version.key)
            self._most = max((rule.newer_noncurrent or 0 for rule in self._rules), default=0)
            self._staying = []
        self._last = version
        return due

    def _noncurrent(self, version: Version, newest: Version, since: datetime) -> list[Due]:
        for rule in self._rules:
            newer = rule.newer_noncurrent or 0
            at = rule.noncurrent_expiry(since) if len(self._staying) >= newer else None
            if at and at <= self._now and rule.filter.takes(version.key, version.file):
                return [Due(version, "noncurrent", (newest.id, *self._staying[:newer]))]
        return []

    def finish(self) -> list[Due]:
        """What is due when all versions of the last key have been taken: its newest one, perhaps."""
        newest, self._newest = self._newest, None
        if newest is None or (newest.file is None and newest is not self._last):
            return []
        for rule in self._rules:
            at = (rule.expiry if newest.file else rule.marker_expiry)(newest.created_at)
            if at and at <= self._now and rule.filter.takes(newest.key, newest.file):
                return [Due(newest, "current" if newest.file else "lone")]
        return []
