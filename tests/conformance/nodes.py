"""Nodes for tests: one in memory, and one that makes of any node a faulty one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.errors import BlobDamaged, BlobMissing, NodeError
from app.nodes.base import Node, Space, Stored
from app.nodes.cluster import Cluster
from app.types import Blob, NodeId


class MemoryNode(Node):
    """The contract and nothing else."""

    def __init__(self, node_id: str = "memory") -> None:
        self.id = NodeId(node_id)
        self.blobs: dict[str, bytes] = {}

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        self.blobs[blob.name] = bytes(data)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        try:
            data = self.blobs[blob.name]
        except KeyError:
            raise BlobMissing(f"{blob.name} is missing") from None
        if len(data) != len(buffer):
            raise BlobDamaged(f"{blob.name} has {len(data)} bytes instead of {len(buffer)}")
        buffer[:] = data

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        for blob in blobs:
            self.blobs.pop(blob.name, None)

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        named = ((Blob.parse(self.id, name), data) for name, data in self.blobs.items())
        return [Stored(blob, len(data), True) for blob, data in named if blob and blob.digest[0] == first_byte]

    async def quarantine(self, blob: Blob) -> None:
        self.blobs.pop(blob.name, None)

    async def space(self) -> Space:
        return Space(1 << 40, 1 << 41)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Faults:
    """What is wrong with a node just now. Every call first waits for `answering`, if there is one."""

    write: NodeError | None = None
    read: NodeError | None = None
    unlink: NodeError | None = None
    list_blobs: NodeError | None = None
    quarantine: NodeError | None = None
    space: NodeError | None = None
    answering: asyncio.Event | None = None
    lost: set[str] = field(default_factory=set)
    """Names of blobs that are gone although their writes were acknowledged."""
    short: set[str] = field(default_factory=set)
    """Names of blobs that lack their last byte."""
    flipped: set[str] = field(default_factory=set)
    """Names of blobs of which one bit is wrong. Nodes know no digests: their readers must notice."""


class FaultyNode(Node):
    """Another node behind a transport, and on a disk, that fail as they are told."""

    def __init__(self, behind: Node) -> None:
        self.id = behind.id
        self.behind = behind
        self.faults = Faults()

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await self._answer(self.faults.write)
        await self.behind.write(blob, data)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        await self._answer(self.faults.read)
        if blob.name in self.faults.lost:
            raise BlobMissing(f"{blob.name} is missing")
        if blob.name in self.faults.short:
            raise BlobDamaged(f"{blob.name} has {len(buffer) - 1} bytes instead of {len(buffer)}")
        await self.behind.read_into(blob, buffer)
        if buffer and blob.name in self.faults.flipped:
            buffer[0] ^= 1

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        await self._answer(self.faults.unlink)
        await self.behind.unlink(blobs)

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        await self._answer(self.faults.list_blobs)
        found = await self.behind.list_blobs(first_byte)
        return [stored for stored in found if stored.blob.name not in self.faults.lost]

    async def quarantine(self, blob: Blob) -> None:
        await self._answer(self.faults.quarantine)
        await self.behind.quarantine(blob)

    async def space(self) -> Space:
        await self._answer(self.faults.space)
        return await self.behind.space()

    async def close(self) -> None:
        await self.behind.close()

    async def _answer(self, error: NodeError | None) -> None:
        await (self.faults.answering.wait() if self.faults.answering else asyncio.sleep(0))
        if error:
            raise error


async def read_blob(cluster: Cluster, blob: Blob, size: int) -> bytes:
    """What a blob of so many bytes holds."""
    buffer = memoryview(bytearray(size))
    await cluster.read_into(blob, buffer)
    return bytes(buffer)
