"""What every kind of node promises."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.errors import BlobDamaged, BlobMissing, NodeError, NodeFull
from app.nodes.base import Node, Stored
from app.nodes.directory import DirectoryNode
from app.nodes.directory_site import DirectorySite
from app.nodes.guarded import GuardedNode
from app.nodes.s3_site import S3Site
from app.types import Blob, Digest, NodeId, new_generation
from tests.certificates import Authority
from tests.conformance.nodes import FaultyNode, MemoryNode
from tests.node_servers import NodeServer, claimed, node_server
from tests.s3_engine import Engine

pytestmark = pytest.mark.anyio


def blob_for(content: bytes) -> Blob:
    return Blob(NodeId("n"), Digest(hashlib.sha256(content).digest()), new_generation())


def directory_node(path: Path) -> DirectoryNode:
    site = DirectorySite(path)
    site._claim(b"{}")
    return site.open(NodeId("n"))


Opened = AbstractAsyncContextManager[Node]


@asynccontextmanager
async def closing(node: Node) -> AsyncIterator[Node]:
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def bucket_node(engine: Engine) -> AsyncIterator[Node]:
    site = S3Site(engine.url(f"conformance/{secrets.token_hex(8)}"))
    await site.claim(b"{}")
    async with closing(site.open(NodeId("n"))) as node:
        yield node


@asynccontextmanager
async def node_on(server: NodeServer, trust: ssl.SSLContext | None = None) -> AsyncIterator[Node]:
    """The server is the same for all tests: each removes what it stored."""
    async with closing(await claimed(server, trust=trust)) as node:
        yield node
    for path in server.directory.glob("??/*"):
        path.unlink()


@pytest.fixture(scope="module")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeServer]:
    with node_server(tmp_path_factory.mktemp("http") / "n") as server:
        yield server


@pytest.fixture(scope="module")
def https_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeServer, ssl.SSLContext]]:
    folder = tmp_path_factory.mktemp("https")
    authority = Authority(folder / "authority")
    with node_server(folder / "n", *authority.flags()) as server:
        yield server, authority.trust()


Fixtures = Callable[[str], Any]

KINDS: dict[str, Callable[[Path, Fixtures], Opened]] = {
    "directory": lambda path, _: closing(directory_node(path)),
    "http": lambda _, fixtures: node_on(fixtures("http_server")),
    "https": lambda _, fixtures: node_on(*fixtures("https_server")),
    "guarded directory": lambda path, _: closing(GuardedNode(directory_node(path))),
    "memory": lambda *_: closing(MemoryNode()),
    "faulty, in a good hour": lambda path, _: closing(FaultyNode(directory_node(path))),
    "bucket": lambda _, fixtures: bucket_node(fixtures("s3")),
}
"""How a node of each kind is opened, with a folder of its own, or with what it takes from a fixture. A
new kind joins here."""


@pytest.fixture(params=KINDS)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    async with KINDS[request.param](tmp_path / "n", request.getfixturevalue) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) - 1, 1 << 20])
async def test_a_blob_comes_back(node: Node, size: int) -> None:
    content = os.urandom(size)
    blob = blob_for(content)
    await node.write(blob, memoryview(content))
    assert await node.read(blob, size) == content


async def test_a_blob_of_another_size_is_damaged(node: Node) -> None:
    blob = blob_for(b"12345")
    await node.write(blob, b"12345")
    for size in (0, 4, 6):
        with pytest.raises(BlobDamaged):
            await node.read(blob, size)


async def test_a_blob_that_is_not_there(node: Node) -> None:
    with pytest.raises(BlobMissing):
        await node.read(blob_for(b"x"), 1)
    await node.unlink([blob_for(b"x")])


async def test_unlinking_hits_one_generation_only(node: Node) -> None:
    first, second = blob_for(b"x"), blob_for(b"x")
    await node.write(first, b"x")
    await node.write(second, b"x")
    await node.unlink([first])
    await node.unlink([first])
    assert await node.read(second, 1) == b"x"
    with pytest.raises(BlobMissing):
        await node.read(first, 1)


async def test_one_blob_is_not_taken_for_another(node: Node) -> None:
    first, second = blob_for(b"x"), blob_for(b"y")
    await node.write(first, b"x")
    await node.write(second, b"y")
    assert (await node.read(first, 1), await node.read(second, 1)) == (b"x", b"y")


async def test_several_are_unlinked_at_once(node: Node) -> None:
    blobs = [blob_for(content) for content in (b"x", b"y", b"z")]
    await node.write(blobs[0], b"x")
    await node.write(blobs[1], b"y")
    await node.unlink(blobs)
    for blob in blobs:
        with pytest.raises(BlobMissing):
            await node.read(blob, 1)


async def test_blobs_are_listed_by_their_first_byte(node: Node) -> None:
    blobs = {blob_for(content): content for content in (b"", b"x", b"x", b"12345")}
    for blob, content in blobs.items():
        await node.write(blob, content)
    listed = [stored for first_byte in range(256) for stored in await node.list_blobs(first_byte)]
    assert {stored.blob.name: stored.size for stored in listed} == {
        blob.name: len(content) for blob, content in blobs.items()
    }
    assert {stored.blob.node for stored in listed} == {node.id}
    assert all(stored.finished for stored in listed)
    one = next(iter(blobs))
    assert all(stored.blob.digest[0] == one.digest[0] for stored in await node.list_blobs(one.digest[0]))


async def test_what_is_put_aside_is_neither_read_nor_listed(node: Node) -> None:
    blob = blob_for(b"x")
    await node.write(blob, b"x")
    for _ in range(2):
        await node.quarantine(blob)
    with pytest.raises(BlobMissing):
        await node.read(blob, 1)
    assert await node.list_blobs(blob.digest[0]) == []


async def test_writing_again_and_unlinking_again_change_nothing(node: Node) -> None:
    blob = blob_for(b"x")
    for _ in range(2):
        await node.write(blob, b"x")
    assert await node.read(blob, 1) == b"x"
    for _ in range(2):
        await node.unlink([blob])
    with pytest.raises(BlobMissing):
        await node.read(blob, 1)


async def test_what_was_written_is_not_the_callers_memory(node: Node) -> None:
    """Buffers are used again as soon as the write has returned."""
    buffer = bytearray(b"first")
    blob = blob_for(b"first")
    await node.write(blob, memoryview(buffer))
    buffer[:] = b"later"
    assert await node.read(blob, 5) == b"first"


async def test_one_blob_for_many_readers(node: Node) -> None:
    content = os.urandom(1 << 20)
    blob = blob_for(content)
    await node.write(blob, content)
    assert await asyncio.gather(*(node.read(blob, len(content)) for _ in range(20))) == [content] * 20


async def test_many_at_once(node: Node) -> None:
    contents = [os.urandom(10_000) for _ in range(100)]
    blobs = [blob_for(content) for content in contents]
    await asyncio.gather(*(node.write(blob, content) for blob, content in zip(blobs, contents, strict=True)))
    assert await asyncio.gather(*(node.read(blob, 10_000) for blob in blobs)) == contents


async def test_space(node: Node) -> None:
    space = await node.space()
    assert 0 < space.free <= space.total


# What only a directory has


async def test_a_blob_lies_where_an_operator_looks_for_it(tmp_path: Path) -> None:
    async with closing(directory_node(tmp_path / "n")) as node:
        blob = blob_for(b"x")
        await node.write(blob, b"x")
        path = tmp_path / "n" / blob.digest.hex()[:2] / f"{blob.digest.hex()}.{blob.generation}"
        assert path.read_bytes() == b"x"


async def test_unfinished_blobs_are_listed_and_unlinked_strange_files_are_neither(tmp_path: Path) -> None:
    async with closing(directory_node(tmp_path / "n")) as node:
        blob = blob_for(b"x")
        folder = tmp_path / "n" / blob.digest.hex()[:2]
        (folder / f".tmp-{blob.name}").write_bytes(b"12")
        for strange in ("README", f"{blob.name}x", blob.name[:-1], f".tmp-.tmp-{blob.name}", blob.name.upper()):
            (folder / strange).write_bytes(b"1")
        assert await node.list_blobs(blob.digest[0]) == [Stored(blob, 2, False)]
        await node.unlink([blob])
        assert await node.list_blobs(blob.digest[0]) == []
        assert len(list(folder.iterdir())) == 5


async def test_a_directory_keeps_what_is_put_aside(tmp_path: Path) -> None:
    async with closing(directory_node(tmp_path / "n")) as node:
        blob = blob_for(b"x")
        await node.write(blob, b"wrong")
        await node.quarantine(blob)
        assert (tmp_path / "n" / "quarantine" / blob.name).read_bytes() == b"wrong"


@pytest.mark.parametrize("length", [0, 4, 6])
async def test_a_blob_that_was_cut_or_grew_is_damaged(tmp_path: Path, length: int) -> None:
    async with closing(directory_node(tmp_path / "n")) as node:
        blob = blob_for(b"12345")
        await node.write(blob, b"12345")
        (tmp_path / "n" / blob.digest.hex()[:2] / blob.name).write_bytes(b"123456"[:length])
        with pytest.raises(BlobDamaged):
            await node.read(blob, 5)


@pytest.mark.parametrize("mount_point", [True, False])
async def test_a_disk_that_is_gone_is_not_taken_for_lost_blobs(tmp_path: Path, mount_point: bool) -> None:
    disk = tmp_path / "n"
    async with closing(directory_node(disk)) as node:
        blob = blob_for(b"x")
        await node.write(blob, b"x")
        disk.rename(tmp_path / "aside")
        if mount_point:
            disk.mkdir()
        for call in (
            node.read(blob, 1),
            node.write(blob_for(b"x"), b"x"),
            node.unlink([blob]),
            node.list_blobs(blob.digest[0]),
            node.quarantine(blob),
        ):
            with pytest.raises(NodeError, match="Is its disk mounted") as caught:
                await call
            assert caught.type is NodeError
        if mount_point:
            disk.rmdir()
        else:
            with pytest.raises(NodeError):
                await node.space()
        (tmp_path / "aside").rename(disk)
        assert await node.read(blob, 1) == b"x"


FAULTS: list[tuple[str, int, type[NodeError]]] = [
    ("os.write", errno.ENOSPC, NodeFull),
    ("os.write", errno.EDQUOT, NodeFull),
    ("os.write", errno.EIO, NodeError),
    ("os.open", errno.EMFILE, NodeError),
    ("os.open", errno.ENOSPC, NodeFull),
    ("os.fdatasync", errno.EIO, NodeError),
    ("os.fsync", errno.EIO, NodeError),
    ("pathlib.Path.rename", errno.EIO, NodeError),
]


@pytest.mark.parametrize(("call", "number", "expected"), FAULTS)
async def test_after_a_fault_nothing_unfinished_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: type[NodeError]
) -> None:
    node = directory_node(tmp_path / "n")
    unfortunate = blob_for(b"x")

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(expected):
            await node.write(unfortunate, b"x")
    assert not list((tmp_path / "n").glob("??/*"))
    with pytest.raises(BlobMissing):
        await node.read(unfortunate, 1)
    blob = blob_for(b"y")
    await node.write(blob, b"y")
    assert await node.read(blob, 1) == b"y"
    await node.close()


async def test_a_disk_that_fills_in_mid_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call may write less than it was given; the next one then says why."""
    real = os.write
    written: list[int] = []

    def full_after_a_while(descriptor: int, data: Any) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(real(descriptor, data[:1000]))
        return written[-1]

    async with closing(directory_node(tmp_path / "n")) as node:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full_after_a_while)
            with pytest.raises(NodeFull):
                await node.write(blob_for(b"x"), bytes(5000))
        assert written == [1000] * 3
        assert not list((tmp_path / "n").glob("??/*"))


async def test_short_writes_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1000]))
    async with closing(directory_node(tmp_path / "n")) as node:
        content = os.urandom(5500)
        blob = blob_for(content)
        await node.write(blob, content)
        assert await node.read(blob, 5500) == content


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that is on a disk, for those of the tests may be in memory."""
    with TemporaryDirectory(prefix="ms3-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("able", [True, False], ids=["able", "unable"])
async def test_aligned_bytes_are_written_past_the_page_cache_where_that_can_be(
    disk: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    """Whatever the file system and the buffer allow, the bytes are right."""
    write, control = os.write, fcntl.fcntl
    direct: list[bool] = []

    def spy(descriptor: int, data: memoryview) -> int:
        direct.append(bool(control(descriptor, fcntl.F_GETFL) & os.O_DIRECT))
        return write(descriptor, data)

    def refuse(descriptor: int, command: int, flags: int = 0) -> int:
        if not able and command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return control(descriptor, command, flags)

    monkeypatch.setattr(os, "write", spy)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    pages = memoryview(mmap(-1, 16384))
    pages[:] = os.urandom(16384)
    async with closing(directory_node(disk / "n")) as node:
        for data, how in [
            (pages, [able]),
            (pages[1:8193], [True, False] if able else [False]),
            (pages[:9000], [False]),
        ]:
            direct.clear()
            blob = blob_for(bytes(data))
            await node.write(blob, data)
            assert await node.read(blob, len(data)) == data
            assert direct == how


async def test_a_write_is_durable_in_the_right_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule R6. Seen to fail without the fdatasync, without the sync of the directory, and with the
    rename before the fdatasync."""
    node = directory_node(tmp_path / "n")
    steps: list[tuple[str, str]] = []

    def spy(module: Any, name: str, describe: Callable[..., str]) -> None:
        real = getattr(module, name)

        def call(*arguments: Any) -> Any:
            steps.append((name, describe(*arguments)))
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    def of_descriptor(descriptor: int, *_: Any) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    spy(os, "write", of_descriptor)
    spy(os, "fdatasync", of_descriptor)
    spy(os, "fsync", of_descriptor)
    spy(Path, "rename", lambda old, new: f"{old} {new}")
    blob = blob_for(b"x")
    await node.write(blob, b"x")
    path = node.path(blob)
    temporary = path.with_name(f".tmp-{path.name}")
    assert steps == [
        ("write", str(temporary)),
        ("fdatasync", str(temporary)),
        ("rename", f"{temporary} {path}"),
        ("fsync", str(path.parent)),
    ]
    await node.close()


# What a faulty node does to those who use it


async def test_faults_come_and_go() -> None:
    node = FaultyNode(MemoryNode())
    blob = blob_for(b"12")
    node.faults.write = NodeFull("full")
    with pytest.raises(NodeFull):
        await node.write(blob, b"12")
    node.faults.write = None
    await node.write(blob, b"12")
    for names, expected in ((node.faults.lost, BlobMissing), (node.faults.short, BlobDamaged)):
        names.add(blob.name)
        with pytest.raises(expected):
            await node.read(blob, 2)
        names.clear()
    node.faults.flipped.add(blob.name)
    assert await node.read(blob, 2) == b"02"
    node.faults.answering = asyncio.Event()
    reading = asyncio.create_task(node.read(blob, 2))
    await asyncio.sleep(0)
    assert not reading.done()
    node.faults.answering.set()
    assert await reading == b"02"
