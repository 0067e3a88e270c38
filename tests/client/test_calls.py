"""The client's calls on a real server, and what becomes of its errors."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from app import errors
from app.client import (
    Ambiguous,
    BlockingClient,
    Client,
    ConfigError,
    MiniS3Error,
    NoMiniS3,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from app.client.errors import translated
from app.client.link import Account
from tests.client.tools import MIB, Middle
from tests.e2e.helpers import KeyFor
from tests.s3.conftest import ROOT
from tests.support import Server

pytestmark = pytest.mark.anyio


async def test_a_file_from_its_upload_to_its_end(client: Client, prefix: str) -> None:
    content = os.urandom(3000)
    stored = await client.put_bytes(content, prefix + "a b?&#%/ü.txt")
    assert (stored.how, stored.sent, stored.spared) == ("whole", 3000, 0)
    file = stored.file
    assert (file.name, file.size, file.content_type) == (prefix + "a b?&#%/ü.txt", 3000, "text/plain")
    assert await client.get_bytes(file.id) == content
    assert [one async for one in client.files(prefix)] == [file]
    details = await client.info(file.id)
    assert (details.file, details.chunks, details.unique_bytes) == (file, 1, 3000)
    assert [span.digest.hex() for span in await client.manifest(file)] == [file.content_id]
    assert await client.find(file.name) == await client.find(file.id) == file
    await client.delete(file.id)
    with pytest.raises(NotFound, match="no file with this id"):
        await client.info(file.id)
    with pytest.raises(NotFound, match="name or id"):
        await client.find(file.name)


async def test_an_empty_file(client: Client, prefix: str) -> None:
    stored = await client.put_bytes(b"", prefix + "empty")
    assert await client.get_bytes(stored.file) == b""
    assert await client.manifest(stored.file) == []


async def test_a_name_that_several_files_have(client: Client, prefix: str) -> None:
    older, newer = [(await client.put_bytes(content, prefix + "a")).file for content in (b"1", b"2")]
    await client.put_bytes(b"3", prefix + "a2")
    with pytest.raises(Ambiguous) as caught:
        await client.find(prefix + "a")
    assert caught.value.candidates == (newer, older)
    assert newer.id in caught.value.message
    assert await client.find(prefix + "a", newest=True) == newer
    assert await client.named(prefix + "a") == [newer, older]


async def test_lists_go_on_over_pages(client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.client._PAGE", 2)
    for number in range(5):
        await client.put_bytes(b"x", f"{prefix}{number}")
    assert [file.name async for file in client.files(prefix)] == [f"{prefix}{number}" for number in (4, 3, 2, 1, 0)]


async def test_the_whole_store(client: Client, prefix: str) -> None:
    before = await client.statistics()
    await client.put_bytes(os.urandom(1000), prefix + "a")
    assert before.files >= 0
    assert before.view["dedupRatio"] >= 0
    assert await client.ping() > 0


async def test_keys_are_heeded(store_server: Server, key_for: KeyFor, prefix: str) -> None:
    for keys, told in ((("", ""), "needs an access key"), ((ROOT[0], "another-secret"), "secret")):
        async with Client(store_server.url, keys) as stranger:
            with pytest.raises(Unauthenticated, match=told):
                await stranger.put_bytes(b"x", prefix + "a")
            with pytest.raises(Unauthenticated):
                await stranger.ping()
    async with Client(store_server.url, key_for("--owner", "writer", "--allow", "write")) as writer:
        assert await writer.ping() > 0
        with pytest.raises(errors.Forbidden):
            [file async for file in writer.files()]


@pytest.mark.parametrize(
    ("url", "keys", "told"),
    [
        ("127.0.0.1:3000", ("", ""), "no address"),
        ("ftp://host", ("", ""), "no address"),
        ("http://", ("", ""), "no address"),
        ("http://host/?a=b", ("", ""), "no address"),
        ("http://me:secret@host", ("", ""), "holds no keys"),
        ("http://host", ("key", ""), "go together"),
    ],
)
def test_what_can_be_no_account_is_refused(url: str, keys: tuple[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Account(url, *keys)
    assert "my-secret" not in repr(Account("http://host", "key", "my-secret"))


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.link._FIRST_CONTACT", 0.3)
    async with Client("http://127.0.0.1:9", patience=1000) as client:
        with pytest.raises(Unreachable, match=r"can't be reached: Connection refused\. Is"):
            await client.ping()


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", NoMiniS3, "not as Mini-S3 does"),
        (b"HTTP/1.1 403 No\r\nContent-Type: application/xml\r\nContent-Length: 3\r\n\r\n<a>", NoMiniS3, "S3 API"),
        (b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", NoMiniS3, "answered 302"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", Unavailable, "502"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable, "can't be reached"),
    ],
)
async def test_what_answers_and_is_no_mini_s3(
    middle: Middle, answer: bytes, error: type[MiniS3Error], told: str
) -> None:
    middle.heard = lambda _: answer
    async with Client(middle.url, ROOT, patience=0.2) as client:
        with pytest.raises(error, match=told):
            [file async for file in client.files()]


OTHERS = (MiniS3Error, errors.RangeNotSatisfiable, errors.BucketExists, errors.ChunksMissing)
ONES_OF_THE_SERVER = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, MiniS3Error) and kind not in OTHERS
]


@pytest.mark.parametrize("kind", ONES_OF_THE_SERVER, ids=lambda kind: kind.code)
def test_an_error_is_here_what_it_was_there(kind: type[MiniS3Error]) -> None:
    error = translated(400, {"code": kind.code, "detail": "what went wrong"}, {"Retry-After": "7"})
    assert type(error) is kind
    assert error.message == "what went wrong"
    if isinstance(error, errors.RateLimited):
        assert error.retry_after == 7


@pytest.mark.parametrize(
    "code", ["internal-error", "what-a-later-server-says", "range-not-satisfiable", "ambiguous-name"]
)
def test_an_error_that_is_not_known_keeps_its_code(code: str) -> None:
    error = translated(418, {"code": code, "detail": "words"}, {})
    assert isinstance(error, Refused)
    assert (error.code, error.status, error.message) == (code, 418, "words")


def test_the_chunks_that_are_missing_are_told() -> None:
    error = translated(409, {"code": "chunks-missing", "detail": "words", "missing": ["ab" * 32]}, {})
    assert isinstance(error, errors.ChunksMissing)
    assert error.digests == [b"\xab" * 32]


async def test_a_server_that_goes_and_comes_back(middle: Middle, prefix: str) -> None:
    """Connections break in the middle of answers, three times."""
    waited: list[MiniS3Error] = []
    async with Client(middle.url, ROOT, waiting=lambda error, _seconds: waited.append(error)) as client:
        stored = await client.put_bytes(b"x", prefix + "a")
        middle.heard = lambda piece: piece if len(waited) >= 3 else None
        assert (await client.info(stored.file.id)).file == stored.file
    assert len(waited) == 3
    assert all(isinstance(error, Unreachable) for error in waited)


async def test_what_is_given_up_is_not_waited_for_again(middle: Middle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.link._FIRST_CONTACT", 0.0)
    waited: list[float] = []
    async with Client(middle.url, ROOT, patience=0.4, waiting=lambda _error, seconds: waited.append(seconds)) as client:
        await client.ping()
        middle.heard = lambda _: None
        with pytest.raises(Unreachable):
            await client.info("a")
        assert waited
        waited.clear()
        with pytest.raises(Unreachable):
            await client.info("a")
        assert not waited
        middle.heard = bytes
        await client.ping()


async def test_a_rate_limit_is_kept(middle: Middle, prefix: str) -> None:
    refusal = b'{"code":"rate-limited","detail":"Only 1 a minute"}'
    head = (
        b"HTTP/1.1 429 Too Many\r\nContent-Type: application/problem+json\r\nRetry-After: %d\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    waited: list[float] = []

    def waiting(error: MiniS3Error, seconds: float) -> None:
        if isinstance(error, errors.RateLimited):  # And not where an answer came in two pieces.
            waited.append(seconds)

    def limiting(seconds: int, times: int) -> Callable[[bytes], bytes]:
        return lambda piece: head % (seconds, len(refusal)) + refusal if len(waited) < times else piece

    async with Client(middle.url, ROOT, waiting=waiting) as client:
        middle.heard = limiting(0, 3)
        await client.put_bytes(b"x", prefix + "a")
        assert waited == [0, 0, 0]
        middle.heard = limiting(86_400, 4)
        with pytest.raises(errors.RateLimited):
            await client.put_bytes(b"x", prefix + "a")
        assert waited == [0, 0, 0], "nobody waits for a day"


# ---- the face without an event loop


def _public(kind: type) -> dict[str, Any]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: member for name, member in found if not name.startswith("_")}


def test_the_blocking_client_has_the_same_calls() -> None:
    theirs, ours = _public(Client), _public(BlockingClient)
    assert set(theirs) - set(ours) == {"put_stream"}
    for name in ours.keys() - {"close"}:
        assert inspect.signature(ours[name]) == inspect.signature(theirs[name]), name
        assert ours[name].__doc__ == theirs[name].__doc__, name
        assert not inspect.iscoroutinefunction(ours[name]), name
        assert not inspect.isasyncgenfunction(ours[name]), name


def test_the_blocking_client_at_work(store_server: Server, prefix: str, tmp_path: Path) -> None:
    with BlockingClient(store_server.url, ROOT) as client:
        names = [f"{prefix}{number}" for number in range(3)]
        for name in names:
            client.put_bytes(name.encode(), name)
        assert [file.name for file in client.files(prefix)] == names[::-1]
        files = client.files(prefix)
        next(files)
        files.close()  # type: ignore[attr-defined]
        client.get(client.find(names[1]), tmp_path / "got")
        assert (tmp_path / "got").read_text() == names[1]
        assert b"".join(map(bytes, client.stream(client.find(names[2])))) == names[2].encode()
        with pytest.raises(NotFound):
            client.find(prefix)
    client.close()


async def test_streams_of_any_pieces(client: Client, prefix: str) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for piece in (b"", b"a" * 1000, b"", b"b" * (MIB - 1001), b"c"):
            yield piece

    stored = await client.put_stream(pieces(), prefix + "a")
    assert await client.get_bytes(stored.file) == b"a" * 1000 + b"b" * (MIB - 1001) + b"c"
