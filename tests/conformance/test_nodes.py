"""What every node type promises. A new type joins by one more entry in `node`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import BlobDamaged, BlobMissing, NodeError, NodeFull
from app.models.nodes import NodeEntry
from app.nodes.base import Node
from app.nodes.directory import DirectoryNode
from app.nodes.identity import identify
from app.types import Blob, Digest, NodeId, new_generation

pytestmark = pytest.mark.anyio


def blob_for(content: bytes) -> Blob:
    return Blob(NodeId("n"), Digest(hashlib.sha256(content).digest()), new_generation())


def directory_node(path: Path) -> DirectoryNode:
    entry: NodeEntry = identify(path, "store", [])
    return DirectoryNode(entry.id, path)


@pytest.fixture(params=[directory_node])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    opened = request.param(tmp_path / "n")
    yield opened
    await opened.close()


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
    await node.unlink(blob_for(b"x"))


async def test_unlinking_hits_one_generation_only(node: Node) -> None:
    first, second = blob_for(b"x"), blob_for(b"x")
    await node.write(first, b"x")
    await node.write(second, b"x")
    await node.unlink(first)
    await node.unlink(first)
    assert await node.read(second, 1) == b"x"
    with pytest.raises(BlobMissing):
        await node.read(first, 1)


async def test_many_at_once(node: Node) -> None:
    contents = [os.urandom(10_000) for _ in range(100)]
    blobs = [blob_for(content) for content in contents]
    await asyncio.gather(*(node.write(blob, content) for blob, content in zip(blobs, contents, strict=True)))
    assert await asyncio.gather(*(node.read(blob, 10_000) for blob in blobs)) == contents


async def test_space(node: Node) -> None:
    space = await node.space()
    assert 0 < space.free <= space.total


# What only a directory has

FAULTS: list[tuple[str, int, type[NodeError]]] = [
    ("os.write", errno.ENOSPC, NodeFull),
    ("os.write", errno.EDQUOT, NodeFull),
    ("os.write", errno.EIO, NodeError),
    ("os.fdatasync", errno.EIO, NodeError),
    ("os.fsync", errno.EIO, NodeError),
    ("pathlib.Path.rename", errno.EIO, NodeError),
]


@pytest.mark.parametrize(("call", "number", "expected"), FAULTS)
async def test_after_a_fault_nothing_unfinished_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: type[NodeError]
) -> None:
    node = directory_node(tmp_path / "n")

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(expected):
            await node.write(blob_for(b"x"), b"x")
    assert not list((tmp_path / "n").glob("??/.tmp-*"))
    blob = blob_for(b"y")
    await node.write(blob, b"y")
    assert await node.read(blob, 1) == b"y"
    await node.close()


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
