"""A node that is a bucket on an S3 engine: SeaweedFS, Ceph, MinIO, AWS, …

Blobs lie at `<ab>/<digest>.<generation>` below the node's prefix, as in a directory; bad ones are put
aside into `quarantine`. A blob is as durable (rule R6) as the engine makes an object before it
acknowledges it: nothing more can be had through S3. AWS and Ceph promise that it survives the loss of
machines; an engine on a single disk may not even have synced it. Nothing here needs threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

from app.errors import BlobDamaged, BlobMissing, NodeError
from app.nodes.base import Node, Space, Stored
from app.nodes.s3_bucket import Bucket
from app.types import Blob, NodeId

IDENTITY = "node.json"
"""The object that says which node this is. Where it is gone, the bucket was emptied or is another one."""

_QUARANTINE = "quarantine"

_ROOM = 1 << 50
"""Bytes that are said to be free: S3 has no call that tells. An engine that is full says so at a write."""


class S3Node(Node):
    def __init__(self, node_id: NodeId, bucket: Bucket) -> None:
        self.id = node_id
        self._bucket = bucket

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await self._bucket.put(_key(blob), data)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        try:
            size = await self._bucket.get_into(_key(blob), buffer)
        except FileNotFoundError:
            await self._explain(blob)
        if size != len(buffer):
            raise BlobDamaged(f"{blob.name} has {size} bytes instead of {len(buffer)} on {self.id}")

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        await self._bucket.delete([_key(blob) for blob in blobs])

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        found: list[Stored] = []
        async for key, size in self._bucket.list(f"{first_byte:02x}"):
            blob = Blob.parse(self.id, key.rpartition("/")[2])
            if blob and _key(blob) == key:
                found.append(Stored(blob, size, True))
        if not found:
            await self._check()
        return found

    async def quarantine(self, blob: Blob) -> None:
        try:
            await self._bucket.copy(_key(blob), f"{_QUARANTINE}/{blob.name}")
        except FileNotFoundError:
            await self._check()
            return
        await self._bucket.delete([_key(blob)])

    async def space(self) -> Space:
        """The engine answers, and the node is there; how much room there is it does not tell (see `_ROOM`)."""
        await self._check()
        return Space(_ROOM, _ROOM)

    async def close(self) -> None:
        """Nothing is to be ended: whoever calls waits for the answer."""

    async def _explain(self, blob: Blob) -> Never:
        await self._check()
        raise BlobMissing(f"{_key(blob)} is missing on {self.id}")

    async def _check(self) -> None:
        """A bucket that was emptied, or is another one, is no proof that the node's blobs are gone."""
        if not await self._bucket.has(IDENTITY):
            raise NodeError(f"{self.id}: {IDENTITY} is not there. Is the bucket the right one?")


def _key(blob: Blob) -> str:
    return f"{blob.digest[0]:02x}/{blob.name}"
