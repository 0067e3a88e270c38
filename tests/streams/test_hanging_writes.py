"""A node whose writes hang, in threads that nobody can call off."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from app.api.app import Parts
from app.nodes.base import Node, Space, Stored
from app.nodes.directory import DirectoryNode
from app.nodes.durable import write_durably
from app.nodes.guarded import TERMS, GuardedNode
from app.streams.ingest import Receipt
from app.types import Blob, File
from tests.conformance.clock import FakeClock
from tests.conftest import OpenStore
from tests.streams.tools import MIB, put
from tests.support import eventually_async

pytestmark = pytest.mark.anyio


async def get(parts: Parts, file: File) -> bytes:
    return b"".join([bytes(piece) async for piece in parts.store.read(file, 0, file.size)])


class Hanging(Node):
    """A directory whose disk hangs in the middle of each write, until it is told to go on."""

    def __init__(self, behind: DirectoryNode) -> None:
        self.id = behind.id
        self.behind = behind
        self.going = threading.Event()
        self.begun: list[Blob] = []
        self.wrote: dict[Blob, bytes] = {}

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        def late() -> None:
            self.begun.append(blob)
            self.going.wait()
            write_durably(self.behind.path(blob), data)
            self.wrote[blob] = self.behind.path(blob).read_bytes()

        await self.behind._run(late)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        await self.behind.read_into(blob, buffer)

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        await self.behind.unlink(blobs)

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        return await self.behind.list_blobs(first_byte)

    async def quarantine(self, blob: Blob) -> None:
        await self.behind.quarantine(blob)

    async def space(self) -> Space:
        return await self.behind.space()

    async def close(self) -> None:
        self.going.set()
        await self.behind.close()


async def test_a_write_that_hangs_spoils_nothing_and_stalls_nobody(open_store: OpenStore) -> None:
    """Rules R1, R3 and R6. Seen to fail where memory is used again although a thread still reads it: what
    the disk wrote late were then the bytes of a later upload."""
    first, second = os.urandom(9 * MIB), os.urandom(30 * MIB)
    async with open_store(buffer_memory=8 * MIB) as parts:
        guards: Any = parts.store._stages.reader._cluster._guards
        clock, node = FakeClock(), Hanging(guards["node2"]._behind)
        guards["node2"] = GuardedNode(node, clock=clock)
        receipts = [await _stored(parts, first, clock), await _stored(parts, second, clock)]
        assert node.begun
        assert not node.wrote
        assert [await get(parts, receipt.files[0]) for receipt in receipts] == [first, second]
        assert parts.store._stages.pool.in_use == 0

        node.going.set()
        await eventually_async(lambda: _all_written(node))
        for blob, data in node.wrote.items():
            assert hashlib.sha256(data).digest() == blob.digest
        chunks = await parts.store._chunks.find(blob.digest for blob in node.wrote)
        assert not any(blob in chunk.named for blob in node.wrote for chunk in chunks.values())
        assert {chunk.state for chunk in chunks.values()} == {"live"}
        assert [await get(parts, receipt.files[0]) for receipt in receipts] == [first, second]


async def _stored(parts: Parts, content: bytes, clock: FakeClock) -> Receipt:
    """Upload, while the time of the node's guard passes."""
    upload = asyncio.create_task(put(parts, content))

    async def ended() -> bool:
        await clock.advance(TERMS["write"].deadline)
        return upload.done()

    await eventually_async(ended)
    return upload.result()


async def _all_written(node: Hanging) -> bool:
    return len(node.wrote) == len(node.begun)
