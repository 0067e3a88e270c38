"""Who holds how much: bytes that only one part of the names holds, and bytes that several share.

Chunks are counted in slices, as `documents` does, so that memory is bounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.models.chunks import Chunks
from app.models.database import Database, Session
from app.models.files import Files
from app.models.pages import Pages
from app.types import Digest, File, Page, PageId
from app.upkeep.documents import slices
from app.upkeep.pace import Progress

_BATCH = 200
"""Pages read together."""

_OTHERS = None
"""The group of files that are not asked about: what they hold too is shared."""


@dataclass(slots=True)
class Group:
    """Files whose names begin alike. `logical` are their sizes added; `unique` the bytes of chunks
    that no other group holds; `shared` those that others hold too, each chunk once."""

    prefix: str
    files: int = 0
    logical: int = 0
    unique: int = 0
    shared: int = 0


@dataclass(slots=True)
class Count:
    """Which groups hold each chunk of a slice: sets of groups are numbered, and their bytes summed."""

    sets: list[frozenset[str | None]] = field(default_factory=lambda: [frozenset()])
    bytes: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    _holders: dict[Digest, int] = field(default_factory=dict)
    _numbers: dict[frozenset[str | None], int] = field(default_factory=dict)
    _joined: dict[tuple[int, str | None], int] = field(default_factory=dict)

    def add(self, digest: Digest, size: int, group: str | None) -> None:
        before = self._holders.get(digest, 0)
        after = self._joined.get((before, group))
        if after is None:
            after = self._joined[before, group] = self._number(self.sets[before] | {group})
        if after != before:
            self._holders[digest] = after
            self.bytes[before] -= size if before else 0
            self.bytes[after] += size

    def _number(self, groups: frozenset[str | None]) -> int:
        if groups not in self._numbers:
            self._numbers[groups] = len(self.sets)
            self.sets.append(groups)
        return self._numbers[groups]


class Usage:
    """Calls raise DatabaseUnavailable and SnapshotTooOld."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._files = Files(database)
        self._pages = Pages(database)
        self._chunks = Chunks(database)

    async def run(self, prefix: str, depth: int, progress: Progress) -> tuple[list[Group], Group]:
        """The groups of files whose names begin with `prefix`, cut after `depth` more slashes, the largest
        first, and their total. Files that lie directly at the prefix are a group of that name."""
        groups: dict[str, Group] = {}
        total = Group(prefix)
        ranges = list(slices(await self._chunks.count()))
        progress.stage("files", await self._files.count() * len(ranges))
        for first, last in ranges:
            async with self._database.snapshot() as session:
                count = Count()
                async for files in self._files.stream(session=session):
                    named = [(file, group_of(file.name, prefix, depth)) for file in files]
                    if not first:
                        _add_files(named, groups, total)
                    await self._count_chunks(named, first, last, count, session)
                    progress.advance(len(files))
            _add_bytes(count, groups, total)
        return sorted(groups.values(), key=lambda group: (-group.unique - group.shared, group.prefix)), total

    async def _count_chunks(
        self, named: Sequence[tuple[File, str | None]], first: int, last: int, count: Count, session: Session
    ) -> None:
        held = list({(ref.id, group) for file, group in named for ref in file.pages})
        for at in range(0, len(held), _BATCH):
            batch = held[at : at + _BATCH]
            packed: dict[PageId, bytes] = await self._pages.packed({page_id for page_id, _ in batch}, session)
            for page_id, group in batch:
                for digest, size in Page.entries(packed.get(page_id, b"")):
                    if first <= digest[0] <= last:
                        count.add(digest, size, group)


def group_of(name: str, prefix: str, depth: int) -> str | None:
    """The group of a file, None for those that do not begin with `prefix`."""
    if not name.startswith(prefix):
        return _OTHERS
    folders = name[len(prefix) :].split("/")[:-1][:depth]
    return prefix + "".join(folder + "/" for folder in folders)


def _add_files(named: Sequence[tuple[File, str | None]], groups: dict[str, Group], total: Group) -> None:
    for file, name in named:
        if name is not _OTHERS:
            for group in (groups.setdefault(name, Group(name)), total):
                group.files += 1
                group.logical += file.size


def _add_bytes(count: Count, groups: dict[str, Group], total: Group) -> None:
    for number, size in count.bytes.items():
        holders = count.sets[number]
        ours = [groups[name] for name in holders if name is not _OTHERS and name in groups]
        for group in ours:
            group.unique += size if len(holders) == 1 else 0
            group.shared += size if len(holders) > 1 else 0
        if ours:
            total.unique += 0 if _OTHERS in holders else size
            total.shared += size if _OTHERS in holders else 0
