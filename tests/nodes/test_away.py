"""Node servers that die, hang, or are not what they were taken for."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.errors import BlobDamaged, BlobMissing, ConfigError, NodeError, NodeFull
from app.nodes import http_link, http_node
from app.nodes.base import Node
from app.nodes.durable import TEMPORARY
from app.nodes.http_link import Link
from app.nodes.http_node import HttpNode
from app.nodes.http_site import HttpSite
from app.nodes.identity import identify
from app.types import Blob, Digest, NodeId, new_generation
from tests.node_servers import TOKEN, NodeServer, claimed, node_server
from tests.support import PATIENCE, eventually

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is given up soon."""
    monkeypatch.setattr(http_node, "_BLOB", 1.0)
    monkeypatch.setattr(http_node, "_FOLDER", 1.0)


def blob_for(content: bytes) -> Blob:
    return Blob(NodeId("n"), Digest(hashlib.sha256(content).digest()), new_generation())


def every_call(node: Node, blob: Blob) -> list[Awaitable[object]]:
    return [
        node.write(blob_for(bytes(MIB)), bytes(MIB)),
        node.read(blob, MIB),
        node.unlink([blob_for(b"z")]),
        node.quarantine(blob_for(b"z")),
        node.list_blobs(blob.digest[0]),
        node.space(),
    ]


async def all_fail(node: Node, blob: Blob) -> None:
    """With NodeError itself: a blob on a node that does not answer is neither missing nor damaged."""
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(*every_call(node, blob), return_exceptions=True)
    assert [type(error) for error in errors] == [NodeError] * len(errors), errors
    assert TOKEN not in str(errors)


@pytest.mark.parametrize("end", [NodeServer.kill, NodeServer.stop])
async def test_a_server_that_ended_is_told_and_found_again(tmp_path: Path, end: Callable[[NodeServer], object]) -> None:
    content = os.urandom(MIB)
    blob = blob_for(content)
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        await node.write(blob, content)
        await asyncio.to_thread(end, server)
        await all_fail(node, blob)
        await asyncio.to_thread(server.start)
        assert await node.read(blob, MIB) == content
        await node.write(blob_for(content), content)
        await node.close()


async def test_a_server_that_hangs_is_given_up_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(MIB)
    blob = blob_for(content)
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        await node.write(blob, content)
        server.pause()
        for _ in range(3):
            await all_fail(node, blob)
        server.go_on()
        assert await node.read(blob, MIB) == content
        await node.write(blob, content)
        await node.close()


async def test_a_server_that_hangs_in_mid_blob(tmp_path: Path) -> None:
    """The write fails in time, and what came of it is not stored."""
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        server.pause()
        with pytest.raises(NodeError):
            await node.write(blob_for(bytes(MIB)), bytes(MIB))
        server.go_on()
        await node.space()
        await node.close()

        def stored() -> list[Path]:
            return [path for path in server.directory.glob("??/*") if not path.name.startswith(TEMPORARY)]

        eventually(lambda: server.events("client gone in mid-body") or stored())
        assert all(path.stat().st_size == MIB for path in stored())


async def test_calls_on_a_closed_node_fail(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        server.pause()
        calls = asyncio.gather(*every_call(node, blob_for(b"x")), return_exceptions=True)
        await asyncio.sleep(0)
        await node.close()
        await node.close()
        assert {type(error) for error in await calls} == {NodeError}
        await all_fail(node, blob_for(b"x"))


async def test_a_disk_that_is_gone_there_is_not_taken_for_lost_blobs(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        blob = blob_for(b"x")
        await node.write(blob, b"x")
        server.directory.rename(tmp_path / "aside")
        for mounted in (False, True):
            if mounted:
                server.directory.mkdir()
            *errors, _ = await asyncio.gather(*every_call(node, blob), return_exceptions=True)
            assert [type(error) for error in errors] == [NodeError] * 5
            assert all("Is its disk mounted" in str(error) for error in errors)
        server.directory.rmdir()
        (tmp_path / "aside").rename(server.directory)
        assert await node.read(blob, 1) == b"x"
        await node.close()


async def test_an_address_that_leads_to_another_node(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server:
        await (await claimed(server, "other")).close()
        node = HttpSite(server.url, TOKEN).open(NodeId("n"))
        await all_fail(node, blob_for(b"x"))
        await node.close()


async def test_many_are_unlinked_in_several_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_node, "_FOLDER", 30.0)
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        blobs = [blob_for(b"x") for _ in range(2001)]
        for blob in (blobs[0], blobs[-1]):
            await node.write(blob, b"x")
        await node.unlink(blobs)
        assert await node.list_blobs(blobs[0].digest[0]) == []
        assert len([line for line in server.events("request") if line["path"] == "/v1/unlink"]) == 3
        await node.close()


# Servers that answer what a node server never would


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives one of these answers to each connection, the last one for ever, and hangs up."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def http(status: int, body: bytes = b"", kind: str = "application/problem+json", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


def problem(status: int, code: str) -> bytes:
    return http(status, json.dumps({"code": code, "detail": "so it is"}).encode())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (problem(507, "node-full"), NodeFull),
        (problem(404, "blob-missing"), BlobMissing),
        (problem(409, "blob-damaged"), BlobDamaged),
        (problem(500, "node-error"), NodeError),
        (problem(500, "internal-error"), NodeError),
        (problem(404, "not-found"), NodeError),
        (http(404, b'{"code": "blob-missing"}', "application/json"), NodeError),
        (http(404, b"[]"), NodeError),
        (http(404, b"\xff{"), NodeError),
        (http(404, b"<html>", "text/html"), NodeError),
        (http(200, b"12", length=3), NodeError),
        (http(200, b"12"), BlobDamaged),
        (http(200, b"1234"), BlobDamaged),
        (b"SSH-2.0-OpenSSH\r\n", NodeError),
        (b"", NodeError),
    ],
)
async def test_what_a_reader_makes_of_answers(answer: bytes, expected: type[NodeError]) -> None:
    async with answering(answer) as url:
        node = HttpNode(NodeId("n"), Link(url, TOKEN))
        with pytest.raises(NodeError) as caught:
            await node.read(blob_for(b"123"), 3)
        assert caught.type is expected
        await node.close()


async def test_redirections_are_not_followed() -> None:
    """The token would go with them."""
    elsewhere = http(302).replace(b"\r\n\r\n", b"\r\nLocation: /elsewhere\r\n\r\n")
    async with answering(elsewhere, http(200, b"123")) as url:
        node = HttpNode(NodeId("n"), Link(url, TOKEN))
        with pytest.raises(NodeError, match="302"):
            await node.read(blob_for(b"123"), 3)
        await node.close()


@pytest.mark.parametrize("text", [b"x", b"\xff", b"a b c", b"[1]", b"{}", b'{"free": "x", "total": 1}'])
async def test_garbled_lists_and_figures(text: bytes) -> None:
    async with answering(http(200, text)) as url:
        node = HttpNode(NodeId("n"), Link(url, TOKEN))
        for call in (node.list_blobs(0), node.space()):
            with pytest.raises(NodeError, match="garbled"):
                await call
        await node.close()


async def test_sites_tell_what_is_wrong_with_them(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server:
        entry = await identify(HttpSite(server.url + "/", TOKEN), "store", [])
        assert entry.location == server.url
        assert await identify(HttpSite(server.url, TOKEN), "store", [entry]) == entry
        with pytest.raises(ConfigError, match="refuses the token"):
            await identify(HttpSite(server.url, "another"), "store", [])
        with pytest.raises(ConfigError, match="belongs to another store"):
            await identify(HttpSite(server.url, TOKEN), "other", [])
        await asyncio.to_thread(server.stop)
        with pytest.raises(NodeError):
            await identify(HttpSite(server.url, TOKEN), "store", [entry])


async def test_what_a_hanging_server_was_sent_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write that was given up would hold a socket and its bytes."""
    monkeypatch.setattr(http_link, "_CONNECT", 0.5)
    with node_server(tmp_path / "n") as server:
        node = await claimed(server)
        await node.space()
        server.pause()
        for _ in range(2):
            results = await asyncio.gather(
                *(node.write(blob_for(bytes(8 * MIB)), bytes(8 * MIB)) for _ in range(4)), return_exceptions=True
            )
            assert {type(error) for error in results} == {NodeError}
        async with asyncio.timeout(PATIENCE):
            while connections(server):
                await asyncio.sleep(0.05)
        await node.close()


def connections(server: NodeServer) -> int:
    """Sockets of this process that are connected to the server."""
    port = f":{int(server.url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    peers = {words[9] for words in lines if words[2].endswith(port)}
    ours = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return sum(f"socket:[{inode}]" in ours for inode in peers)
