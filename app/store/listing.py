"""Lists by key, with keys that share a beginning folded into one item, in time that does not depend on how many
are folded: what lies behind a fold is sought, not read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.models.objects import Position

T = TypeVar("T")

_LEAST = 2
"""Items read at least in one query."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: up to `limit` items of keys that begin with `prefix`; those in which the `delimiter`
    follows later on are folded up to it."""

    prefix: str = ""
    delimiter: str = ""
    limit: int = 1000

    def fold(self, key: str) -> str | None:
        """The common prefix that stands for the key, if one does."""
        if not self.delimiter or not key.startswith(self.prefix):
            return None
        at = key.find(self.delimiter, len(self.prefix))
        return None if at < 0 else key[: at + len(self.delimiter)]

    def after(self, key: str) -> Position:
        """The place behind an item that was listed: behind a key, or past a common prefix."""
        return Position(key, past=bool(key) and self.fold(key) == key)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Items in their order, common prefixes as strings; `truncated` if others follow."""

    items: Sequence[T | str]
    truncated: bool

    @property
    def prefixes(self) -> list[str]:
        return [item for item in self.items if isinstance(item, str)]

    @property
    def entries(self) -> list[T]:
        return [item for item in self.items if not isinstance(item, str)]


Fetch = Callable[[Position, int], Awaitable[Sequence[T]]]
"""Reads up to so many entries behind a position."""


async def list_folded(query: Query, after: Position, fetch: Fetch[T], key_of: Callable[[T], Position]) -> Listing[T]:
    """One page. `key_of` tells the position of an entry."""
    items: list[T | str] = []
    fold: str | None = None
    batch = query.limit + 1 if query.limit else 0
    while batch:
        found = await fetch(after, batch)
        before = len(items)
        for entry in found:
            common = query.fold(key_of(entry).key)
            if common is None:
                items.append(entry)
            elif common != fold:
                items.append(common)
            fold = common
            if len(items) > query.limit:
                return Listing(items[: query.limit], truncated=True)
        if len(found) < batch:
            break
        after = Position(fold, past=True) if fold else key_of(found[-1])
        # Where most of what was read was folded, less is read at a time.
        batch = max(_LEAST, min(query.limit + 1 - len(items), 2 * (len(items) - before)))
    return Listing(items, truncated=False)
