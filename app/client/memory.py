"""What a client remembers of local files: the digests of their chunks, and uploads that were broken off.

It is a cache in SQLite: losing it costs time only, and it is made anew where it can't be read. It is keyed as backup
tools do it, by path, size, times, inode and device, and heeds what Git calls racily clean: a file that was written
to less than two seconds before it was read may be written to again without its time telling.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

from app.client.local import Identity
from app.client.results import Span
from app.types import CUTTING, ChunkRef, Page

T = TypeVar("T")

_RACY = 2_000_000_000
"""Nanoseconds: the coarsest times that file systems in use keep are of two seconds."""
_KEPT = 180 * 86_400
"""Seconds for which a file is remembered that was not asked for again."""
_PATIENCE = 10.0
"""Seconds for which another process may hold the database."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, identity BLOB NOT NULL, chunks BLOB NOT NULL, seal BLOB NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_used ON files (used);
CREATE TABLE IF NOT EXISTS uploads (
    place BLOB PRIMARY KEY, identity BLOB NOT NULL, session TEXT NOT NULL, begun INTEGER NOT NULL
) WITHOUT ROWID;
"""


def usual_place() -> Path:
    """Below XDG_CACHE_HOME (XDG Base Directory Specification), one for each way of cutting."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return root / "mini-s3" / f"files-{hashlib.sha256(CUTTING).hexdigest()[:8]}.sqlite"


class Memory:
    """None of its calls fails: what can't be read is not known, and what can't be written is forgotten."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def recall(self, path: Path, identity: Identity) -> list[Span] | None:
        """The chunks of the file, if it is the one that was remembered."""
        key, known = _key(path), _packed(identity)
        row = self._try(
            lambda database: database.execute(
                "UPDATE files SET used = ? WHERE path = ? AND identity = ? RETURNING chunks, seal",
                (int(time.time()), key, known),
            ).fetchone()
        )
        if row is None or _seal(key, known, row[0]) != row[1]:
            return None
        spans, offset = [], 0
        for digest, size in Page.entries(row[0]):
            spans.append(Span(offset, size, digest))
            offset += size
        return spans if offset == identity.size else None

    def remember(self, path: Path, identity: Identity, spans: Sequence[Span], read_at: int) -> None:
        """What the file holds, which was read from `read_at` (nanoseconds since 1970) on, and did not change since."""
        if identity.modified > read_at - _RACY:
            return
        key, known = _key(path), _packed(identity)
        chunks = Page.of([ChunkRef(span.digest, span.size) for span in spans]).pack()
        row = (key, known, chunks, _seal(key, known, chunks), int(time.time()))
        self._try(lambda database: database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row))

    def forget(self, path: Path) -> None:
        self._try(lambda database: database.execute("DELETE FROM files WHERE path = ?", (_key(path),)))

    def begun(self, place: str, identity: Identity) -> str | None:
        """The session that an upload of this file, to that place, was broken off in."""
        row = self._try(
            lambda database: database.execute(
                "SELECT session FROM uploads WHERE place = ? AND identity = ?", (place.encode(), _packed(identity))
            ).fetchone()
        )
        return str(row[0]) if row else None

    def begin(self, place: str, identity: Identity, session: str) -> None:
        row = (place.encode(), _packed(identity), session, int(time.time()))
        self._try(lambda database: database.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", row))

    def end(self, place: str) -> None:
        self._try(lambda database: database.execute("DELETE FROM uploads WHERE place = ?", (place.encode(),)))

    def close(self) -> None:
        if self._database:
            self._database.close()
            self._database = None

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        try:
            return work(self._opened())
        except sqlite3.OperationalError:  # It is locked, or the disk is full, or nobody may write there.
            return None
        except sqlite3.DatabaseError:  # It is none.
            self.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            return None
        except OSError:
            return None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            database = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
            self._database = database
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(_SCHEMA)
            old = int(time.time()) - _KEPT
            database.execute("DELETE FROM files WHERE used < ?", (old,))
            database.execute("DELETE FROM uploads WHERE begun < ?", (old,))
        return self._database


def _key(path: Path) -> bytes:
    return os.fsencode(path.absolute())


def _packed(identity: Identity) -> bytes:
    values: tuple[Any, ...] = astuple(identity)
    return b" ".join(b"%d" % value for value in values)


def _seal(*parts: bytes) -> bytes:
    """Tells a row that a disk or a crash made of others."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
