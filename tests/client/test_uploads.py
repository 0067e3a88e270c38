"""Large files: only what is missing goes over the network, and what was broken off goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.client import Client, FileChanged, Outcome, Upload, Wanted, local, pipes, sessions, uploads
from app.client.link import Request
from app.client.local import Identity, LocalFile
from app.client.memory import Memory
from app.client.results import Span
from app.types import Digest
from tests.client.tools import MIB, Counting, Middle, digests_of, written
from tests.s3.conftest import ROOT
from tests.streams.tools import turns
from tests.support import Server

pytestmark = pytest.mark.anyio

SIZE = 6 * MIB + 5


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    return written(tmp_path / "file.bin", content)


async def open_sessions(client: Client, prefix: str) -> list[str]:
    answer = await client._link.json(Request("GET", "/api/uploads", {"limit": 1000}))
    return [view["id"] for view in answer["uploads"] if view["name"].startswith(prefix)]


async def test_a_new_file_is_sent_once(client: Client, prefix: str, path: Path, content: bytes) -> None:
    watch = Counting()
    stored = await client.put(path, prefix + "a", watch=watch)
    assert (stored.how, stored.sent, stored.spared) == ("chunks", SIZE, 0)
    assert stored.file.content_type == "application/octet-stream"
    assert await client.get_bytes(stored.file) == content
    assert await client.content_id(path) == stored.file.content_id
    assert watch.totals == {"hashed": SIZE, "moved": SIZE, "spared": 0}
    assert not await open_sessions(client, prefix)


async def test_an_unchanged_file_goes_by_its_name(
    middle: Middle, prefix: str, path: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is it read, nor are its chunks listed."""
    async with Client(middle.url, ROOT, cache=tmp_path / "cache") as client:
        await client.put(path, prefix + "a")
        monkeypatch.delattr(LocalFile, "fill")
        before, watch = middle.sent, Counting()
        stored = await client.put(path, prefix + "b", watch=watch)
        assert (stored.how, stored.sent, stored.spared) == ("content", 0, SIZE)
        assert middle.sent - before < 2000
        assert watch.totals == {"hashed": 0, "moved": 0, "spared": SIZE}
        assert await client.get_bytes(stored.file) == content


async def test_without_a_memory_an_unchanged_file_is_read_and_not_sent(
    store_server: Server, client: Client, prefix: str, path: Path, content: bytes
) -> None:
    await client.put(path, prefix + "a")
    watch = Counting()
    async with Client(store_server.url, ROOT) as forgetful:
        stored = await forgetful.put(path, prefix + "b", watch=watch)
    assert (stored.how, stored.sent) == ("chunks", 0)
    assert watch.totals == {"hashed": SIZE, "moved": 0, "spared": SIZE}
    assert await client.get_bytes(stored.file) == content


async def test_of_a_changed_file_the_changed_chunks_are_sent(
    middle: Middle, prefix: str, path: Path, content: bytes, tmp_path: Path
) -> None:
    async with Client(middle.url, ROOT, cache=tmp_path / "cache") as client:
        await client.put(path, prefix + "a")
        changed = bytearray(content)
        changed[3 * MIB + 17] ^= 1
        written(path, changed)
        before = middle.sent
        stored = await client.put(path, prefix + "a")
        assert (stored.how, stored.sent, stored.spared) == ("chunks", MIB, SIZE - MIB)
        assert middle.sent - before < MIB + 10_000
        assert await client.get_bytes(stored.file) == changed


async def test_a_file_that_the_server_lost_is_sent_without_being_hashed_again(
    client: Client, prefix: str, path: Path, content: bytes
) -> None:
    first = await client.put(path, prefix + "a")
    await client.delete(first.file.id)
    watch = Counting()
    stored = await client.put(path, prefix + "a", watch=watch)
    assert watch.totals == {"hashed": 0, "moved": SIZE, "spared": 0}
    assert await client.get_bytes(stored.file) == content


async def test_what_others_stored_is_sent_all_the_same(
    store_server: Server, client: Client, key_for: object, prefix: str, path: Path, content: bytes
) -> None:
    await client.put(path, prefix + "a")
    keys = key_for("--owner", "another")  # type: ignore[operator]
    async with Client(store_server.url, keys) as other:
        stored = await other.put(path, prefix + "a")
        assert stored.sent == SIZE
        assert await other.get_bytes(stored.file) == content


async def test_what_repeats_inside_a_file_is_sent_once(client: Client, prefix: str, tmp_path: Path) -> None:
    content = os.urandom(MIB) * 20 + b"end"
    stored = await client.put(written(tmp_path / "file", content), prefix + "a")
    assert (stored.sent, stored.spared) == (MIB + 3, 19 * MIB)
    assert await client.get_bytes(stored.file) == content


async def test_a_list_in_several_batches_and_parts(
    client: Client, prefix: str, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "FIRST", 1)
    monkeypatch.setattr(uploads, "ASKED", 3)
    monkeypatch.setattr(local, "_MOST", 1)
    monkeypatch.setattr(uploads, "_PART", 2 * MIB)
    stored = await client.put(path, prefix + "a")
    assert stored.sent == SIZE
    assert await client.get_bytes(stored.file) == content


async def test_when_there_are_no_more_parts_chunks_go_one_by_one(
    middle: Middle, prefix: str, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PART", 2 * MIB)
    monkeypatch.setattr(sessions, "MOST_PARTS", 2)
    watch = Counting()
    async with Client(middle.url, ROOT, jobs=1) as client:
        stored = await client.put(path, prefix + "a", watch=watch)
        assert stored.sent == watch.totals["moved"] == SIZE
        assert await client.get_bytes(stored.file) == content
    assert len([one for one in middle.requests if "/chunks/" in one]) == 3


@pytest.mark.parametrize("wrong", [0, 3, 6])
async def test_a_memory_that_is_wrong_makes_no_wrong_file(
    client: Client, prefix: str, path: Path, content: bytes, tmp_path: Path, wrong: int
) -> None:
    """The server has none of what it says. The file is not stored, and what was remembered is forgotten."""
    digests = digests_of(content)
    digests[wrong] = os.urandom(32)
    spans = [Span(at * MIB, min(MIB, SIZE - at * MIB), Digest(digest)) for at, digest in enumerate(digests)]
    memory = Memory(tmp_path / "cache" / "files.sqlite")
    memory.remember(path, Identity.of(path.stat()), spans, path.stat().st_mtime_ns + 10_000_000_000)
    memory.close()
    with pytest.raises(FileChanged):
        await client.put(path, prefix + "a")
    assert not await client.named(prefix + "a")
    assert not await open_sessions(client, prefix)
    assert await client.get_bytes((await client.put(path, prefix + "a")).file) == content


@pytest.mark.parametrize("when", ["hashed", "moved"])
async def test_a_file_that_changes_meanwhile_is_not_stored(client: Client, prefix: str, path: Path, when: str) -> None:
    class Changing(Counting):
        def hashed(self, size: int) -> None:
            self.change("hashed")

        def moved(self, size: int) -> None:
            self.change("moved")

        def change(self, now: str) -> None:
            if now == when:
                with path.open("r+b") as file:
                    file.write(os.urandom(100))

    with pytest.raises(FileChanged):
        await client.put(path, prefix + "a", watch=Changing())
    assert not await client.named(prefix + "a")
    assert not await open_sessions(client, prefix)


async def test_a_new_file_that_was_just_written_is_not_trusted(client: Client, prefix: str, tmp_path: Path) -> None:
    """It could be written to again within the same tick."""
    path = written(tmp_path / "fresh", os.urandom(SIZE), age=0)
    await client.put(path, prefix + "a")
    assert (await client.put(path, prefix + "a")).how == "chunks"


class Stopping(Counting):
    """Tells when so many bytes were sent."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.there = asyncio.Event()
        self._at = at

    def moved(self, size: int) -> None:
        super().moved(size)
        if self.totals["moved"] >= self._at:
            self.there.set()


@pytest.mark.parametrize("remembered", [True, False])
async def test_what_was_broken_off_goes_on(
    store_server: Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    """What came in whole parts is not sent again. Without a memory all is."""
    monkeypatch.setattr(uploads, "_PART", MIB)
    content = os.urandom(20 * MIB)
    path = written(tmp_path / "file", content)
    cache = tmp_path / "cache" if remembered else None
    stopping = Stopping(10 * MIB)
    async with Client(store_server.url, ROOT, cache=cache, jobs=1) as client:
        task = asyncio.create_task(client.put(path, prefix + "a", watch=stopping))
        await stopping.there.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not await client.named(prefix + "a")
    async with Client(store_server.url, ROOT, cache=cache) as client:
        stored = await client.put(path, prefix + "a")
        assert await client.get_bytes(stored.file) == content
        if remembered:
            assert stored.sent <= 11 * MIB
            assert stored.spared >= 9 * MIB
        else:
            assert stored.sent == 20 * MIB


@pytest.mark.parametrize("ending", ["given up", "other file"])
async def test_an_upload_that_can_not_go_on_begins_anew(
    client: Client, prefix: str, path: Path, content: bytes, tmp_path: Path, ending: str
) -> None:
    account = client._link.account
    place = "\n".join((account.url, account.access_key, str(path), prefix + "a"))
    answer = await client._link.json(Request.with_json("POST", "/api/uploads", {"name": prefix + "a", "size": SIZE}))
    memory = Memory(tmp_path / "cache" / "files.sqlite")
    memory.begin(place, Identity.of(path.stat()), answer["id"])
    memory.close()
    if ending == "given up":
        await client._link.json(Request("DELETE", f"/api/uploads/{answer['id']}"))
    else:
        content = os.urandom(SIZE - 1)
        written(path, content)
    stored = await client.put(path, prefix + "a")
    assert await client.get_bytes(stored.file) == content


async def test_an_upload_that_was_done_when_its_client_died_is_not_done_twice(
    client: Client, prefix: str, path: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "end", lambda *_: None)
        first = await client.put(path, prefix + "a")
    assert (await client.put(path, prefix + "a")).file == first.file
    assert (await client.put(path, prefix + "a")).file != first.file
    assert len(await client.named(prefix + "a")) == 2


async def test_a_connection_that_keeps_breaking(
    middle: Middle, prefix: str, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third answer is lost: what was asked may have happened."""
    monkeypatch.setattr(uploads, "_PART", MIB)
    answers = 0

    def losing(piece: bytes) -> bytes | None:
        nonlocal answers
        answers += 1
        return piece if answers % 3 else None

    middle.heard = losing
    async with Client(middle.url, ROOT) as client:
        stored = await client.put(path, prefix + "a")
        middle.heard = bytes
        assert await client.get_bytes(stored.file) == content
        assert len(await client.named(prefix + "a")) == 1
    assert answers > 10


async def test_many_files_at_once(client: Client, prefix: str, tmp_path: Path) -> None:
    contents = {f"{prefix}{number}": os.urandom(number * MIB // 2) for number in range(8)}
    wanted = [Wanted(written(tmp_path / name, content), name) for name, content in contents.items()]
    outcomes: list[Outcome] = []
    await client.put_all(wanted, outcomes.append)
    assert all(isinstance(outcome.result, Upload) for outcome in outcomes), outcomes
    assert {file.name: await client.get_bytes(file) async for file in client.files(prefix)} == contents


# ---- pipes


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "BATCH", 2 * MIB)


async def in_pieces(content: bytes, size: int) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 2 * MIB, 4 * MIB, 9 * MIB + 7])
async def test_what_comes_through_a_pipe_is_cut_as_files_are(
    client: Client, prefix: str, size: int, tmp_path: Path
) -> None:
    content, watch = os.urandom(size), Counting()
    stored = await client.put_stream(in_pieces(content, 100_001), prefix + "a", watch=watch)
    assert await client.get_bytes(stored.file) == content
    assert stored.file.content_id == await client.content_id(written(tmp_path / "file", content))
    assert stored.sent == watch.totals["moved"] == size


@pytest.mark.usefixtures("small_batches")
async def test_of_what_comes_again_through_a_pipe_only_the_difference_is_sent(
    client: Client, prefix: str, content: bytes
) -> None:
    await client.put_stream(in_pieces(content, MIB), prefix + "a")
    changed = content[: 3 * MIB] + b"?" + content[3 * MIB + 1 :]
    stored = await client.put_stream(in_pieces(changed, MIB), prefix + "a")
    assert (stored.sent, stored.spared) == (MIB, SIZE - MIB)
    assert await client.get_bytes(stored.file) == changed


@pytest.mark.usefixtures("small_batches")
async def test_a_pipe_that_fails_stores_nothing(client: Client, prefix: str) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield os.urandom(5 * MIB)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        await client.put_stream(failing(), prefix + "a")
    assert not await client.named(prefix + "a")


@pytest.mark.parametrize("kind", ["pipe", "file", "nothing"])
async def test_what_a_descriptor_gives(tmp_path: Path, kind: str) -> None:
    content = b"" if kind == "nothing" else os.urandom(3 * MIB)
    writing: asyncio.Future[None] | None = None
    if kind == "pipe":
        descriptor, theirs = os.pipe()
        writing = asyncio.get_running_loop().run_in_executor(None, _write_all, theirs, content)
    else:
        descriptor = os.open(written(tmp_path / "file", content) if content else "/dev/null", os.O_RDONLY)
    assert b"".join([piece async for piece in pipes.pieces_of(descriptor)]) == content
    if writing:
        await writing
    os.close(descriptor)


@pytest.mark.timeout(20)
async def test_a_pipe_is_read_only_when_it_has_something() -> None:
    """Nothing else would go on meanwhile."""
    ours, theirs = os.pipe()
    pieces = pipes.pieces_of(ours)
    for number in range(100):
        os.write(theirs, b"first")
        following = asyncio.ensure_future(anext(pieces))
        await turns(number % 5)
        assert await following == b"first"
        following = asyncio.ensure_future(anext(pieces))
        await turns(5)
        os.write(theirs, b"second")
        assert await following == b"second"
    await pieces.aclose()
    os.close(ours)
    os.close(theirs)


def _write_all(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


# ---- any file after any other


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    versions=st.lists(
        st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.binary(min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    )
)
async def test_any_version_after_any_other(
    client: Client, prefix: str, tmp_path: Path, versions: list[tuple[list[int], bytes]]
) -> None:
    known: set[bytes] = set()
    salt = os.urandom(16)  # The server knows what examples before stored.
    path = tmp_path / salt.hex()
    for number, (chunks, tail) in enumerate(versions):
        pieces = [*(salt + bytes([chunk]) * (MIB - 16) for chunk in chunks), salt + tail]
        content = b"".join(pieces)
        new = set(pieces) - known
        stored = await client.put(written(path, content, age=100 - number), prefix + salt.hex())
        assert await client.get_bytes(stored.file) == content
        assert stored.sent == sum(map(len, new))
        known |= new
