"""Buckets on S3 engines as sites of nodes: who is there, and how an empty one is claimed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from app.errors import ConfigError, NodeError
from app.nodes.base import Site
from app.nodes.s3_address import Address
from app.nodes.s3_bucket import Bucket, BucketMissing
from app.nodes.s3_node import IDENTITY, S3Node
from app.types import NodeId


class S3Site(Site):
    """Raises ConfigError where the URL is wrong, or credentials are missing (see `Address`)."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._bucket = Bucket(self._address)
        self.location = self._address.location

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self._address.bucket, self._address.prefix)))

    def is_at(self, location: str) -> bool:
        try:
            return location.startswith("s3:") and Address.parse(location).place == self._address.place
        except ConfigError:
            return False

    async def identity(self) -> bytes | None:
        with self._usable():
            try:
                return await self._bucket.get(IDENTITY)
            except FileNotFoundError:
                return None

    async def claim(self, identity: bytes) -> bytes:
        with self._usable():
            foreign = await self._foreign()
            if not foreign:
                await self._put_once(identity)
            # Whoever was faster may have stored blobs meanwhile: with an identity they are not foreign.
            found = await self.identity()
        if found is None and foreign:
            raise ConfigError(
                f"The bucket of {self.location} is neither a node nor empty (it holds {foreign}). "
                "Name an empty bucket, or a prefix of its own."
            )
        if found is None:
            raise NodeError(f"{self.location}: {IDENTITY} is gone as soon as it was there")
        return found

    def open(self, node_id: NodeId) -> S3Node:
        return S3Node(node_id, self._bucket)

    async def _foreign(self) -> str | None:
        """The key of something that is not the identity."""
        async with aclosing(self._bucket.list()) as objects:
            async for key, _ in objects:
                if key != IDENTITY:
                    return key
        return None

    async def _put_once(self, identity: bytes) -> None:
        """Put the identity if there is none. Raises ConfigError where the engine ignores that condition:
        two gateways that start at once would each take the bucket for its own."""
        try:
            await self._bucket.put_new(IDENTITY, identity)
        except FileExistsError:
            return
        try:
            await self._bucket.put_new(IDENTITY, identity)
        except FileExistsError:
            return
        await self._bucket.delete([IDENTITY])
        raise ConfigError(
            f"The engine of {self.location} does not support conditional writes (If-None-Match), which make "
            "sure that a bucket becomes one node only. Use a newer version of it, or another engine."
        )

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except BucketMissing:
            bucket, endpoint = self._address.bucket, self._address.endpoint
            at = f" --endpoint-url {endpoint}" if endpoint else ""
            raise ConfigError(
                f"There is no bucket {bucket} at {self.location}. "
                f"Make it, for example with: aws s3 mb s3://{bucket}{at}"
            ) from None
