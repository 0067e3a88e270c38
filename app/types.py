"""The words of the design as types: digests, chunks, blobs, pages, files.

Sizes are bytes. Everything here is immutable and free of I/O.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


_MOST_SHARDS = 32
_WORTH_CODING = 64 << 10
"""Bytes from which a chunk is cut into shards: below, files cost more than the bytes that are saved."""

_ENTRIES = struct.Struct(">32sI")
_BLOB_NAME = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}")


def new_generation() -> Generation:
    return Generation(secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """One entry of a page: which bytes, and how many."""

    digest: Digest
    size: int

    @property
    def packed(self) -> bytes:
        return self.digest + self.size.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Shard:
    """What an erasure-coded blob holds of its chunk: part `index`, from 0 on, whose SHA-256 is `digest`."""

    index: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """The name of one stored copy of a chunk, or of one shard of it, on one node.

    `part` is for shards. Only documents know it: what a node lists is the same blob without it.
    """

    node: NodeId
    digest: Digest
    generation: Generation
    part: Shard | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"{self.digest.hex()}.{self.generation}"

    @property
    def checksum(self) -> Digest:
        """The SHA-256 of the blob's bytes."""
        return self.part.digest if self.part else self.digest

    @classmethod
    def parse(cls, node: NodeId, name: str) -> Blob | None:
        """The blob that bears this name, or None where it is no blob's."""
        if not _BLOB_NAME.fullmatch(name):
            return None
        return cls(node, Digest(bytes.fromhex(name[:64])), Generation(name[65:]))


@dataclass(frozen=True, slots=True)
class Redundancy:
    """How a chunk is kept: as `needed` + `spare` blobs on different nodes, any `needed` of which give it back.

    Where one is enough, each blob is a copy; otherwise each is a shard of a Reed-Solomon code, as
    long as the `needed`th part of the chunk.
    """

    needed: int = 1
    spare: int = 0

    @classmethod
    def parse(cls, text: str) -> Redundancy:
        """From `2`, the number of copies, or `ec:4+2`. Raises ValueError."""
        if re.fullmatch(r"[1-9]", text):
            return cls(1, int(text) - 1)
        code = re.fullmatch(r"ec:(\d{1,2})\+(\d{1,2})", text)
        if code and int(code[1]) >= 2 and int(code[2]) >= 1 and int(code[1]) + int(code[2]) <= _MOST_SHARDS:
            return cls(int(code[1]), int(code[2]))
        raise ValueError(
            f"must be a number of copies, 1 to 9, or ec:K+M, as ec:4+2, with K from 2, M from 1, {_MOST_SHARDS} in all"
        )

    def __str__(self) -> str:
        return f"ec:{self.needed}+{self.spare}" if self.coded else str(self.total)

    @property
    def coded(self) -> bool:
        return self.needed > 1

    @property
    def total(self) -> int:
        return self.needed + self.spare

    def blob_size(self, size: int) -> int:
        """Bytes of each blob of a chunk of `size` bytes."""
        return -(-size // self.needed)

    def for_size(self, size: int) -> Redundancy:
        """How a chunk of this size is kept where this is asked for: small ones as copies, which survive as
        much with fewer blobs."""
        return Redundancy(1, self.spare) if self.coded and size < _WORTH_CODING else self


ONE_COPY = Redundancy()


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
        return b"".join(chunk.packed for chunk in self.chunks)

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
class Checksum:
    """Of an object's bytes, as S3 writes it: `kind` as `CRC64NVME`, `value` in base64; a `composite` one is of
    the checksums of its parts."""

    kind: str
    value: str
    composite: bool = False


@dataclass(frozen=True, slots=True)
class PartSize:
    """A part that an object was made of; its checksum is of the kind of the object's, or empty."""

    number: int
    size: int
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What makes a file an object: the key that it has in a bucket, and what S3 keeps beside its bytes.

    `headers` are those that are given back as they came, by lower-case names; `metadata` is what users added,
    by names without `x-amz-meta-`. An object that is not `versioned` has the version id `null`.
    """

    bucket: str
    key: str
    etag: str
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    acl: str = "private"
    checksum: Checksum | None = None
    parts: tuple[PartSize, ...] = ()
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A committed file. `created_at` is UTC, to the millisecond. One without `entry` came by the native API."""

    id: FileId
    name: str
    size: int
    content_type: str
    content_id: ContentId
    created_at: datetime
    owner: str
    pages: tuple[PageRef, ...]
    entry: Entry | None = None

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
