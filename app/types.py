"""The words of the design as types: digests, chunks, blobs, pages, files.

Sizes are bytes. Everything here is immutable and free of I/O.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NewType, cast

CHUNK_SIZE = 1 << 20
"""The step at which files are cut now. Only the chunker may rely on it."""

PAGE_CHUNKS = 1024
"""The most chunks that one page lists."""

CUTTING = b"mini-s3 fixed 1048576\n"
"""Names the cutting scheme inside content ids of files of several chunks."""

Digest = NewType("Digest", bytes)
"""The SHA-256 of a chunk's bytes: 32 bytes."""

Generation = NewType("Generation", str)
"""A random token, 16 hexadecimal digits, that makes a blob's name unique for ever (rule R3)."""

PageId = NewType("PageId", bytes)
"""The SHA-256 of a page's packed bytes: 32 bytes."""

FileId = NewType("FileId", str)
"""24 hexadecimal digits."""

ContentId = NewType("ContentId", str)
"""64 hexadecimal digits; see `ContentName`."""

NodeId = NewType("NodeId", str)


_ENTRIES = struct.Struct(">32sI")
_BLOB_NAME = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}")


def new_generation() -> Generation:
    return Generation(secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """One entry of a page: which bytes, and how many."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """The name of one stored copy of a chunk on one node."""

    node: NodeId
    digest: Digest
    generation: Generation

    @property
    def name(self) -> str:
        return f"{self.digest.hex()}.{self.generation}"

    @classmethod
    def parse(cls, node: NodeId, name: str) -> Blob | None:
        """The blob that bears this name, or None where it is no blob's."""
        if not _BLOB_NAME.fullmatch(name):
            return None
        return cls(node, Digest(bytes.fromhex(name[:64])), Generation(name[65:]))


@dataclass(frozen=True, slots=True)
class Page:
    """An ordered run of at most `PAGE_CHUNKS` chunks; equal runs have equal ids."""

    id: PageId
    chunks: tuple[ChunkRef, ...]

    ENTRY = 36
    """Bytes of one packed entry: the digest and the size as a big-endian 32-bit number."""

    @classmethod
    def of(cls, chunks: Sequence[ChunkRef]) -> Page:
        page = cls(PageId(b""), tuple(chunks))
        return cls(PageId(hashlib.sha256(page.pack()).digest()), page.chunks)

    @classmethod
    def unpack(cls, page_id: PageId, packed: bytes) -> Page:
        """Raises ValueError where `packed` is not what `page_id` names."""
        if hashlib.sha256(packed).digest() != page_id:
            raise ValueError(f"page {page_id.hex()} does not hold what its id says")
        return cls(page_id, tuple(ChunkRef(digest, size) for digest, size in cls.entries(packed)))

    @classmethod
    def entries(cls, packed: bytes) -> Iterator[tuple[Digest, int]]:
        """The digests and sizes in a packed page, which is not verified; an incomplete last one is left out."""
        whole = packed[: len(packed) // cls.ENTRY * cls.ENTRY]
        return cast("Iterator[tuple[Digest, int]]", _ENTRIES.iter_unpack(whole))

    def pack(self) -> bytes:
        return b"".join(chunk.digest + chunk.size.to_bytes(4, "big") for chunk in self.chunks)

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class PageRef:
    """A page as its file lists it: enough to find a byte or a chunk without reading the page."""

    id: PageId
    size: int
    chunks: int


@dataclass(frozen=True, slots=True)
class File:
    """A committed file. `created_at` is UTC, to the millisecond."""

    id: FileId
    name: str
    size: int
    content_type: str
    content_id: ContentId
    created_at: datetime
    owner: str
    pages: tuple[PageRef, ...]

    @property
    def only_page(self) -> Page | None:
        """The page of a file that consists of one chunk: then the content id is the digest of that."""
        if len(self.pages) == 1 and self.pages[0].chunks == 1:
            return Page(self.pages[0].id, (ChunkRef(Digest(bytes.fromhex(self.content_id)), self.size),))
        return None


class ContentName:
    """Builds the content id of a file as its chunks go by (design, section 1).

    A file of at most one chunk is named by the SHA-256 of its bytes, so that `sha256sum` gives the
    same; a longer one by SHA-256 over the cutting scheme and the digests of its chunks, in order.
    """

    def __init__(self) -> None:
        self._running = hashlib.sha256(CUTTING)
        self._first: Digest | None = None
        self._several = False

    def add(self, digest: Digest) -> None:
        self._running.update(digest)
        self._several = self._first is not None
        self._first = self._first or digest

    @property
    def id(self) -> ContentId:
        if self._several:
            return ContentId(self._running.hexdigest())
        return ContentId((self._first or hashlib.sha256(b"").digest()).hex())
