"""What is remembered of local files, and when it is not believed."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from app.client.local import Identity
from app.client.memory import Memory, usual_place
from app.client.results import Span
from app.types import CHUNK_SIZE, Digest

SPANS = [Span(0, CHUNK_SIZE, Digest(b"a" * 32)), Span(CHUNK_SIZE, 7, Digest(b"b" * 32))]
SECOND = 1_000_000_000
OLD = Identity(CHUNK_SIZE + 7, modified=100 * SECOND, changed=100 * SECOND, inode=5, device=6)
PATH = Path("/a/file")
LATER = 200 * SECOND


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "files.sqlite"


def remembering(place: Path, read_at: int = LATER) -> Memory:
    memory = Memory(place)
    memory.remember(PATH, OLD, SPANS, read_at)
    return memory


def test_a_file_is_remembered_by_the_next_process(place: Path) -> None:
    remembering(place).close()
    assert Memory(place).recall(PATH, OLD) == SPANS
    assert Memory(place).recall(Path("/another/file"), OLD) is None


@pytest.mark.parametrize("what", ["size", "modified", "changed", "inode", "device"])
def test_a_file_that_differs_in_anything_is_another_one(place: Path, what: str) -> None:
    memory = remembering(place)
    assert memory.recall(PATH, replace(OLD, **{what: getattr(OLD, what) + 1})) is None
    assert memory.recall(PATH, OLD) == SPANS


@pytest.mark.parametrize(("read_after", "known"), [(2 * SECOND, True), (2 * SECOND - 1, False), (-SECOND, False)])
def test_what_was_written_just_before_it_was_read_is_not_remembered(place: Path, read_after: int, known: bool) -> None:
    """It may be written to once more within the same tick of the file system's clock."""
    memory = remembering(place, read_at=OLD.modified + read_after)
    assert (memory.recall(PATH, OLD) is not None) == known


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET chunks = zeroblob(length(chunks))",
        "UPDATE files SET path = CAST('/another/file' AS BLOB)",
        "UPDATE files SET identity = CAST(replace(CAST(identity AS TEXT), ' 5 ', ' 9 ') AS BLOB)",
        "UPDATE files SET chunks = substr(chunks, 1, 36)",
    ],
)
def test_a_row_that_was_damaged_is_not_believed(place: Path, change: str) -> None:
    remembering(place).close()
    with sqlite3.connect(place) as database:
        assert database.execute(change).rowcount == 1
    memory = Memory(place)
    for path in (PATH, Path("/another/file")):
        for identity in (OLD, replace(OLD, inode=9)):
            assert memory.recall(path, identity) is None


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_database_is_made_anew(place: Path, content: bytes) -> None:
    place.parent.mkdir()
    place.write_bytes(content)
    memory = Memory(place)
    assert memory.recall(PATH, OLD) is None
    memory.remember(PATH, OLD, SPANS, LATER)
    assert memory.recall(PATH, OLD) == SPANS


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = remembering(tmp_path / "file" / "below" / "files.sqlite")
    assert memory.recall(PATH, OLD) is None
    assert memory.begun("place", OLD) is None


def test_a_file_can_be_forgotten(place: Path) -> None:
    memory = remembering(place)
    memory.forget(PATH)
    assert memory.recall(PATH, OLD) is None


def test_what_was_not_asked_for_in_half_a_year_goes(place: Path) -> None:
    remembering(place).close()
    with sqlite3.connect(place) as database:
        database.execute("UPDATE files SET used = used - 86400 * 179")
    memory = Memory(place)
    assert memory.recall(PATH, OLD) == SPANS, "which counts as asking"
    memory.close()
    with sqlite3.connect(place) as database:
        database.execute("UPDATE files SET used = used - 86400 * 181")
    assert Memory(place).recall(PATH, OLD) is None


def test_an_upload_that_was_broken_off_is_known_by_its_place_and_its_file(place: Path) -> None:
    memory = Memory(place)
    memory.begin("server\nkey\n/a/file\nname", OLD, "session-1")
    assert Memory(place).begun("server\nkey\n/a/file\nname", OLD) == "session-1"
    assert memory.begun("server\nkey\n/a/file\nother", OLD) is None
    assert memory.begun("server\nkey\n/a/file\nname", replace(OLD, changed=1)) is None
    memory.end("server\nkey\n/a/file\nname")
    assert memory.begun("server\nkey\n/a/file\nname", OLD) is None


def test_several_programs_use_it_at_once(place: Path) -> None:
    memories = [Memory(place) for _ in range(4)]
    for number, memory in enumerate(memories):
        memory.remember(Path(f"/{number}"), OLD, SPANS, LATER)
    for memory in memories:
        assert all(memory.recall(Path(f"/{number}"), OLD) == SPANS for number in range(4))


def test_paths_need_not_be_text(place: Path) -> None:
    path = Path(os.fsdecode(b"/tmp/\xff\xfe"))
    memory = Memory(place)
    memory.remember(path, OLD, SPANS, LATER)
    assert memory.recall(path, OLD) == SPANS


@pytest.mark.parametrize(("value", "expected"), [("/var/cache/me", "/var/cache/me"), ("relative", ""), ("", "")])
def test_its_usual_place_is_where_caches_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert usual_place().parent == Path(expected or tmp_path / ".cache") / "mini-s3"
