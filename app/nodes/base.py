"""What a storage node is, and where one can be.

A node holds blobs and knows nothing of chunks, files or references. A blob's name is never used
twice (rule R3), so that a node need not lock anything: a blob is there whole, or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

from app.types import Blob, NodeId

FOLDERS = 256
"""Parts in which a node lists its blobs, by the first byte of their digests."""


@dataclass(frozen=True, slots=True)
class Space:
    """Of the file system, or the service, behind a node; bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies on a node under a blob's name: `size` bytes, of a blob or of one that is not finished."""

    blob: Blob
    size: int
    finished: bool


def fresh(size: int) -> memoryview:
    """New memory of `size` bytes, from the beginning of a page on."""
    return memoryview(mmap(-1, max(size, 1)))[:size]


class Node(ABC):
    """A place that holds blobs. Calls may run at the same time, and raise NodeError for all that
    the node or its transport does wrong."""

    id: NodeId

    @abstractmethod
    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        """Store a blob; it is durable when the call returns (rule R6).

        Raises NodeFull when there is no room. After any error nothing of the blob is left, or only
        what a sweep will find. Whoever cancels the call leaves `data` alone until nobody looks at it:
        it may still be read, and written under the blob's name, which therefore must never become live.
        """

    @abstractmethod
    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        """Fill the buffer with the blob's bytes; the caller checks the digest.

        Raises BlobMissing, and BlobDamaged where the blob is longer or shorter. Whoever cancels the
        call gives the buffer up: it may still be written to.
        """

    async def read(self, blob: Blob, size: int) -> memoryview:
        """The blob's bytes, exactly `size` of them; otherwise as `read_into`."""
        data = fresh(size)
        await self.read_into(blob, data)
        return data

    @abstractmethod
    async def unlink(self, blobs: Sequence[Blob]) -> None:
        """Remove blobs, finished or not; those that are not there are fine.

        After an error any of them may be left.
        """

    @abstractmethod
    async def list_blobs(self, first_byte: int) -> list[Stored]:
        """All blobs, finished or not, of chunks whose digest begins with this byte."""

    @abstractmethod
    async def quarantine(self, blob: Blob) -> None:
        """Put a bad blob where nothing reads or lists it, for people to look at; one that is not there is fine."""

    @abstractmethod
    async def space(self) -> Space:
        """How much room there is."""

    @abstractmethod
    async def close(self) -> None:
        """End calls under way and free what the node holds."""


class Site(ABC):
    """Where a node is, or is to be. `location` is a URL: the registry knows the node by it."""

    location: str

    @property
    @abstractmethod
    def name(self) -> str:
        """What a node that is made here is called after."""

    def is_at(self, location: str) -> bool:
        """Whether this location, of a site of any kind, is the same place."""
        return location == self.location

    @abstractmethod
    async def identity(self) -> bytes | None:
        """What the identity file says, or None where there is none.

        Raises NodeError where the site does not answer, ConfigError where it can't be one.
        """

    @abstractmethod
    async def claim(self, identity: bytes) -> bytes:
        """Make the site ready for blobs, and put the identity there as the last step, unless somebody
        else was faster. Return the identity that is there.

        Raises NodeError, and ConfigError where there is something that is neither a node nor empty.
        """

    @abstractmethod
    def open(self, node_id: NodeId) -> Node:
        """The node. Nothing is asked of it yet."""
