"""Folders: which files are in one, what they are called on a server, and what it takes to make that the same there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from app.client.client import Client
from app.client.putting import Wanted
from app.client.results import StoredFile
from app.client.watch import Watch
from app.errors import MiniS3Error

Skipped = Callable[[Path], None]
"""Hears of links, sockets and the like: a link may lead anywhere, and round in circles."""


def files_below(folder: Path, skipped: Skipped, exclude: Sequence[str] = ()) -> Iterator[tuple[Path, str]]:
    """The regular files in a folder and in those below it, each with its path from there, with slashes; without what
    one of the patterns of `exclude` matches. Raises OSError."""
    waiting = [(folder, "")]
    while waiting:
        here, below = waiting.pop()
        folders = []
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path, name = Path(entry.path), below + entry.name
                if _matches(name, exclude):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append((path, f"{name}/"))
                elif entry.is_file(follow_symlinks=False):
                    yield path, name
                else:
                    skipped(path)
        waiting += reversed(folders)


def prefix_of(folder: Path) -> str:
    """What names of files in a folder begin with: its own name, as `cp -r` has it; nothing for `.` and `..`."""
    return "" if folder.name in ("", "..") else f"{folder.name}/"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the path or its last part."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern) for pattern in patterns)


def _left_out(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the path, or a folder on it."""
    parts = name.split("/")
    return any(_matches("/".join(parts[:count]), patterns) for count in range(1, len(parts) + 1))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files count. With `keep` none is replaced, and the newest one of a name has to be the same."""

    exclude: Sequence[str]
    keep: bool
    skipped: Skipped


@dataclass(slots=True)
class Plan:
    """What it takes to make the files below a prefix those of a folder.

    `replaced` are files that go when the file with their name is there; `extra` those that no local file goes with.
    """

    upload: list[Wanted] = field(default_factory=list)
    replaced: dict[str, list[StoredFile]] = field(default_factory=dict)
    extra: list[StoredFile] = field(default_factory=list)
    same: int = 0
    failed: list[tuple[Path, MiniS3Error | OSError]] = field(default_factory=list)


async def plan(client: Client, folder: Path, prefix: str, selection: Selection, watch: Watch) -> Plan:
    """Compare the files of a folder with those of the same name on the server, by size and content id. Objects in
    buckets of the S3 API do not count there.

    Where a name has several files one that is the same is enough, and the others are replaced. Raises MiniS3Error,
    and OSError where a folder can't be read.
    """
    there: dict[str, list[StoredFile]] = {}
    async for file in client.files(prefix):
        if not file.bucket and not _left_out(file.name.removeprefix(prefix), selection.exclude):
            there.setdefault(file.name, []).append(file)
    made = Plan()
    for path, below in files_below(folder, selection.skipped, selection.exclude):
        wanted = Wanted(path, prefix + below)
        candidates = there.pop(wanted.name, [])
        considered = candidates[:1] if selection.keep else candidates
        try:
            same = await _same(client, wanted, considered, watch)
        except (MiniS3Error, OSError) as error:
            made.failed.append((path, error))
            continue
        others = [] if selection.keep else [file for file in candidates if file is not same]
        if others:
            made.replaced[wanted.name] = others
        if same:
            made.same += 1
        else:
            made.upload.append(wanted)
    made.extra = [file for files in there.values() for file in files]
    return made


async def _same(client: Client, wanted: Wanted, candidates: Sequence[StoredFile], watch: Watch) -> StoredFile | None:
    """The one of them that holds what the local file holds, which is read only if one is as long."""
    likely = [file for file in candidates if file.size == wanted.size]
    content = await client.content_id(wanted.path, watch=watch) if likely else None
    return next((file for file in likely if file.content_id == content), None)
