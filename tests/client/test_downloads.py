"""Downloads: verified, in ranges, and resumed from whatever is there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.client import Client, FileExists, MiniS3Error, NotFound, StoredFile, Unavailable, Upload
from app.errors import Damaged
from tests.client.tools import MIB, Counting, Heard, Middle
from tests.s3.conftest import ROOT
from tests.support import Server, blob_of

pytestmark = pytest.mark.anyio

SIZE = 40 * MIB + 5


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(scope="module")
def large(store_server: Server, content: bytes) -> StoredFile:
    answer = store_server.client.post("/api/upload", files={"file": ("large.bin", content)}, auth=ROOT)
    return StoredFile.parse(answer.json()["file"])


async def test_a_large_file_comes_in_ranges(middle: Middle, large: StoredFile, content: bytes, tmp_path: Path) -> None:
    target, watch = tmp_path / "got", Counting()
    async with Client(middle.url, ROOT, jobs=3) as client:
        assert await client.get(large.id, target, watch=watch) == large
    assert target.read_bytes() == content
    assert watch.totals == {"hashed": 0, "moved": SIZE, "spared": 0}
    assert list(tmp_path.iterdir()) == [target]
    assert middle.requests.count(f"GET /api/files/{large.id}") == 3


HALF = 20 * MIB


@pytest.mark.parametrize(
    ("left", "spared"),
    [
        (lambda content: content[:HALF], HALF),
        (lambda content: content[: HALF + 1], HALF),
        (lambda content: content[:HALF] + bytes(SIZE - HALF), HALF),
        (lambda content: bytes(HALF) + content[HALF:], SIZE - HALF),
        (lambda content: content[:HALF] + b"?" + content[HALF + 1 :] + b"of something longer", SIZE - MIB),
        (lambda content: b"of another file", 0),
        (lambda content: content, SIZE),
    ],
    ids=["begun", "torn", "first half", "second half", "one chunk bad", "other", "whole"],
)
async def test_it_goes_on_with_what_is_there(
    client: Client,
    large: StoredFile,
    content: bytes,
    tmp_path: Path,
    left: Callable[[bytes], bytes],
    spared: int,
) -> None:
    (tmp_path / "got.part").write_bytes(left(content))
    watch = Counting()
    await client.get(large, tmp_path / "got", watch=watch)
    assert (tmp_path / "got").read_bytes() == content
    assert watch.totals == {"hashed": 0, "moved": SIZE - spared, "spared": spared}
    assert not (tmp_path / "got.part").exists()


def once(change: Callable[[bytes], bytes | None], after: int) -> Heard:
    """Changes one piece of what is answered, when so many bytes were."""
    passed = 0

    def heard(piece: bytes) -> bytes | None:
        nonlocal passed
        before, passed = passed, passed + len(piece)
        return change(piece) if before < after <= passed else piece

    return heard


def flipped(piece: bytes) -> bytes:
    return piece[:-1] + bytes([piece[-1] ^ 1])


@pytest.mark.parametrize("change", [flipped, lambda _piece: None], ids=["changed", "broken off"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_goes_wrong_on_the_way_is_fetched_again(
    middle: Middle,
    large: StoredFile,
    content: bytes,
    tmp_path: Path,
    change: Callable[[bytes], bytes | None],
    streamed: bool,
) -> None:
    waited: list[MiniS3Error] = []
    async with Client(middle.url, ROOT, waiting=lambda error, _seconds: waited.append(error)) as client:
        middle.heard = once(change, 30 * MIB)
        if streamed:
            assert await client.get_bytes(large) == content
        else:
            await client.get(large, tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == content
    assert waited
    assert all(isinstance(error, Unavailable) for error in waited)


async def test_what_goes_wrong_each_time_ends_and_keeps_what_is_good(
    middle: Middle, client: Client, large: StoredFile, content: bytes, tmp_path: Path
) -> None:
    async with Client(middle.url, ROOT, patience=0.3, jobs=1) as unlucky:
        await unlucky.ping()
        passed = 0

        def heard(piece: bytes) -> bytes | None:
            nonlocal passed
            passed += len(piece)
            return piece if passed < 20 * MIB else None

        middle.heard = heard
        with pytest.raises(Unavailable):
            await unlucky.get(large, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    watch = Counting()
    await client.get(large, tmp_path / "got", watch=watch)
    assert (tmp_path / "got").read_bytes() == content
    assert watch.totals["spared"] == 16 * MIB, "one batch"


async def test_nothing_is_overwritten_unless_it_is_wished(
    client: Client, large: StoredFile, content: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "got"
    target.write_text("mine")
    with pytest.raises(FileExists, match="is there already"):
        await client.get(large, target)
    assert target.read_text() == "mine"
    await client.get(large, target, overwrite=True)
    assert target.read_bytes() == content


async def test_a_file_that_is_made_meanwhile_stays(
    middle: Middle, large: StoredFile, tmp_path: Path, content: bytes
) -> None:
    target = tmp_path / "got"

    def making(piece: bytes) -> bytes:
        target.write_text("mine")
        return piece

    middle.heard = once(making, 30 * MIB)
    async with Client(middle.url, ROOT) as client:
        with pytest.raises(FileExists, match=r"made meanwhile.*got\.part"):
            await client.get(large, target)
    assert target.read_text() == "mine"
    assert (tmp_path / "got.part").read_bytes() == content


async def test_two_downloads_do_not_write_the_same_file(client: Client, large: StoredFile, tmp_path: Path) -> None:
    with (tmp_path / "got.part").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FileExists, match="Another download"):
            await client.get(large, tmp_path / "got")


async def test_a_part_that_was_put_in_its_place_meanwhile_is_not_written_to(
    client: Client, large: StoredFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, target = tmp_path / "got.part", tmp_path / "got"
    part.write_text("of another download")
    lock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        part.rename(target)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileExists, match="Another download"):
        await client.get(large, target)
    assert target.read_text() == "of another download"


async def test_a_disk_that_fails_is_no_fault_of_the_network(
    client: Client, large: StoredFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, memory: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        await client.get(large, tmp_path / "got")


async def test_a_file_that_is_deleted_or_damaged(
    client: Client, store_server: Server, prefix: str, tmp_path: Path
) -> None:
    deleted: Upload = await client.put_bytes(b"x", prefix + "deleted")
    await client.delete(deleted.file.id)
    damaged = (await client.put_bytes(os.urandom(1000), prefix + "damaged")).file
    blob_of(store_server, damaged.content_id).write_bytes(b"?" * 1000)
    for file, error in ((deleted.file, NotFound), (damaged, Damaged)):
        with pytest.raises(error):
            await client.get(file, tmp_path / "got")
        assert not (tmp_path / "got").exists()


async def test_a_stream_may_be_left(client: Client, large: StoredFile, content: bytes) -> None:
    pieces = client.stream(large)
    first = bytes(await anext(pieces))
    await pieces.aclose()
    assert content.startswith(first)
