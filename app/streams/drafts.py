"""What an upload has in its hands: the file that is being written, and chunks on their way into a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.streams.chunker import Filling
from app.types import ChunkRef, ContentName, Digest, PageRef


@dataclass(slots=True)
class Draft:
    """A file in the making; `room` is what its next chunk has, where that begins between two cuts."""

    name: str
    content_type: str
    room: int = 0
    size: int = 0
    content: ContentName = field(default_factory=ContentName)
    pages: list[PageRef] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Sixteen chunks in memory that are live in the store."""

    fillings: Sequence[Filling]
    refs: Sequence[ChunkRef]
    chunks: Mapping[Digest, memoryview]
    written: set[Digest]
