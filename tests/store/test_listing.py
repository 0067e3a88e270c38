"""Lists that fold keys, against the same lists made the plain way, and how much is read for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from app.models.objects import Position
from app.store.listing import Listing, Query, list_folded

KEYS = st.text(alphabet="ab/\U0010ffff", max_size=6)
ENTRIES = st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=40, unique=True)
QUERIES = st.builds(
    Query, prefix=st.text("ab/\U0010ffff", max_size=3), delimiter=st.text("ab/", max_size=2), limit=st.integers(0, 12)
)
PLACES = st.builds(Position, KEYS) | st.builds(Position, KEYS.filter(bool), past=st.just(True))

Entry = tuple[str, int]
"""A key, and the number of one of its versions: the greatest comes first."""


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry[0], -entry[1]))


def place_of(entry: Entry) -> Position:
    return Position(entry[0], entry[1])


def meets(condition: dict[str, Any], key: str) -> bool:
    """As a database reads it."""
    tests = {
        "$gt": lambda bound: key > bound,
        "$gte": lambda bound: key >= bound,
        "$lt": lambda bound: key < bound,
        "$in": lambda values: key in values,
        "$type": lambda kind: kind == "string",
    }
    return all(tests[name](value) for name, value in condition.items())


@dataclass
class Shelf:
    """Entries as the collection of objects gives them, which counts what is read."""

    entries: list[Entry]
    prefix: str
    read: int = 0
    queries: list[int] = field(default_factory=list)

    async def fetch(self, after: Position, limit: int) -> list[Entry]:
        assert limit > 0
        condition = after.condition(self.prefix)
        older = [entry for entry in self.entries if entry[0] == after.key and after.seq is not None]
        found = [entry for entry in older if after.seq is not None and entry[1] < after.seq]
        found += [entry for entry in self.entries if meets(condition, entry[0])]
        self.queries.append(limit)
        self.read += len(found[:limit])
        return found[:limit]


def listed(entries: Sequence[Entry], query: Query, after: Position) -> tuple[Listing[Entry], Shelf]:
    shelf = Shelf(in_order(entries), query.prefix)
    return asyncio.run(list_folded(query, after, shelf.fetch, place_of)), shelf


def lies_behind(entry: Entry, place: Position) -> bool:
    key, seq = entry
    if place.past:
        return key > place.key and not key.startswith(place.key)
    if key == place.key:
        return place.seq is not None and seq < place.seq
    return key > place.key


def plainly(entries: Sequence[Entry], query: Query, after: Position) -> list[Entry | str]:
    """All that is to be listed, without a limit."""
    items: list[Entry | str] = []
    for entry in in_order(entries):
        key = entry[0]
        if not key.startswith(query.prefix) or not lies_behind(entry, after):
            continue
        rest = key[len(query.prefix) :]
        if query.delimiter and query.delimiter in rest:
            common = query.prefix + rest.partition(query.delimiter)[0] + query.delimiter
            if common not in items:
                items.append(common)
        else:
            items.append(entry)
    return items


@given(entries=ENTRIES, query=QUERIES, after=PLACES)
@example(entries=[("a", 0)], query=Query(limit=1), after=Position())
@example(entries=[("a/a", 0), ("a/b", 0), ("b", 0)], query=Query("", "/", 1), after=Position())
@example(entries=[("\U0010ffff/a", 0), ("\U0010ffff/b", 0)], query=Query("", "/", 1), after=Position())
def test_a_page_is_the_beginning_of_the_plain_list(entries: list[Entry], query: Query, after: Position) -> None:
    listing, _ = listed(entries, query, after)
    wanted = plainly(entries, query, after)
    assert list(listing.items) == wanted[: query.limit]
    assert listing.truncated == (len(wanted) > query.limit > 0)
    assert listing.prefixes == [item for item in listing.items if isinstance(item, str)]
    assert listing.entries == [item for item in listing.items if not isinstance(item, str)]


@given(entries=ENTRIES, query=QUERIES.filter(lambda query: query.limit > 0))
def test_pages_one_after_the_other_are_the_whole_list(entries: list[Entry], query: Query) -> None:
    items: list[Entry | str] = []
    after, truncated = Position(), True
    while truncated:
        listing, _ = listed(entries, query, after)
        items += listing.items
        truncated = listing.truncated
        assert listing.items or not truncated
        if truncated:
            last = listing.items[-1]
            after = query.after(last) if isinstance(last, str) else place_of(last)
    assert items == plainly(entries, query, Position())


@given(entries=ENTRIES, query=QUERIES, after=PLACES)
def test_what_is_read_is_bounded_by_what_is_listed(entries: list[Entry], query: Query, after: Position) -> None:
    listing, shelf = listed(entries, query, after)
    most = len(listing.items) + listing.truncated
    assert shelf.read <= 3 * (query.limit + 1)
    assert len(shelf.queries) <= most + 1
    assert max(shelf.queries, default=0) <= query.limit + 1 or max(shelf.queries) == 2


def test_what_lies_behind_a_fold_is_not_read() -> None:
    entries = [(f"{folder}/{number:05}", 0) for folder in "abc" for number in range(2000)]
    listing, shelf = listed(entries, Query("", "/", 10), Position())
    assert (listing.items, listing.truncated) == (["a/", "b/", "c/"], False)
    assert shelf.read <= 11 + 2 + 2
    assert shelf.queries == [11, 2, 2, 2]


def test_nothing_is_asked_for() -> None:
    listing, shelf = listed([("a", 0)], Query(limit=0), Position())
    assert (listing.items, listing.truncated, shelf.queries) == ([], False, [])


def test_the_place_behind_an_item() -> None:
    query = Query("p/", "/")
    assert query.after("") == Position()
    assert query.after("p/a") == Position("p/a")
    assert query.after("p/a/") == Position("p/a/", past=True)
    assert query.after("p/a/b") == Position("p/a/b")
    assert query.after("p/") == Position("p/")
