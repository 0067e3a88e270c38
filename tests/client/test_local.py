"""Local files: their chunks, and that a change while they are read does not go unnoticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from app.client import FileChanged, NotRegular, files_below, prefix_of
from app.client import local as local_module
from app.client.local import LocalFile, Scanner, content_id_of, opened
from app.client.results import Span
from app.streams.hasher import Hasher
from tests.client.tools import MIB, digests_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    made = Hasher()
    yield made
    made.close()


@pytest.fixture
def scanner(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> Scanner:
    """One that reads two chunks at a time."""
    monkeypatch.setattr(local_module, "_MOST", 2)
    return Scanner(hasher)


async def spans_of(scanner: Scanner, file: LocalFile) -> list[Span]:
    spans: list[Span] = []
    await scanner.scan(file, spans.extend)
    return spans


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 4 * MIB + 3, 5 * MIB])
async def test_a_file_is_cut_as_the_server_cuts_it(scanner: Scanner, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    with opened(path) as file:
        spans = await spans_of(scanner, file)
        assert [span.digest for span in spans] == digests_of(content)
        assert [span.offset for span in spans] == list(range(0, size, MIB))
        assert sum(span.size for span in spans) == size
        assert b"".join([bytes(piece) async for piece in file.read(spans)]) == content
    if size <= MIB:
        assert content_id_of(spans) == hashlib.sha256(content).hexdigest()


async def test_several_files_are_scanned_after_each_other(scanner: Scanner, tmp_path: Path) -> None:
    contents = [os.urandom(3 * MIB + number) for number in range(3)]
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with opened(path) as file:
            assert [span.digest for span in await spans_of(scanner, file)] == digests_of(content)


@pytest.mark.parametrize("change", ["truncated", "longer", "overwritten", "set back"])
async def test_a_change_while_it_is_read_is_noticed(scanner: Scanner, tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(5 * MIB))
    before = path.stat()

    def found(_spans: Sequence[Span]) -> None:
        if change == "truncated":
            os.truncate(path, MIB)
            return
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END if change == "longer" else os.SEEK_SET)
            file.write(b"other bytes")
        if change == "set back":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with opened(path) as file, pytest.raises(FileChanged, match="changed while it was read"):
        await scanner.scan(file, found)


async def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(NotRegular, match="no regular file"), opened(path):
            pass
    with pytest.raises(FileNotFoundError), opened(tmp_path / "none"):
        pass


def test_the_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a/deep/y.tmp", "a/deep/z", "cache/1", "cache/2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "a" / "fifo")
    skipped: list[Path] = []
    found = list(files_below(tmp_path, skipped.append))
    assert [name for _, name in found] == ["b", "a/x", "a/deep/y.tmp", "a/deep/z", "cache/1", "cache/2"]
    assert all(path == tmp_path / name for path, name in found)
    assert sorted(path.name for path in skipped) == ["fifo", "link", "round"]
    assert [name for _, name in files_below(tmp_path, skipped.append, ["*.tmp", "cache", "a/x"])] == ["b", "a/deep/z"]


@pytest.mark.parametrize(
    ("folder", "prefix"), [("tree", "tree/"), ("a/tree", "tree/"), (".", ""), ("..", ""), ("/", ""), ("tree/", "tree/")]
)
def test_names_begin_with_that_of_the_folder(folder: str, prefix: str) -> None:
    assert prefix_of(Path(folder)) == prefix
