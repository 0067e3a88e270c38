"""What the calls of a client return. Sizes are bytes; times are aware, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from app.types import ContentId, Digest, FileId

How = Literal["content", "chunks", "whole"]
"""How a file went up: named by its content id, of which no byte was sent; by its chunks, of which those were sent
that the server did not know; or as a whole."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store. `bucket` is that of an object of the S3 API, "" otherwise."""

    id: FileId
    name: str
    size: int
    content_type: str
    content_id: ContentId
    created_at: datetime
    bucket: str = ""

    @classmethod
    def parse(cls, view: Mapping[str, Any]) -> Self:
        return cls(
            FileId(view["id"]),
            view["name"],
            view["size"],
            view["contentType"],
            ContentId(view["contentId"]),
            datetime.fromisoformat(view["createdAt"]),
            view.get("bucket", ""),
        )


@dataclass(frozen=True, slots=True)
class FileDetails:
    """A file, the number of its chunks, and the bytes that only it holds: what its deletion gives back."""

    file: StoredFile
    chunks: int
    unique_bytes: int

    @classmethod
    def parse(cls, view: Mapping[str, Any]) -> Self:
        return cls(StoredFile.parse(view), view["chunks"], view["uniqueBytes"])


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was stored. `sent` are the bytes of it that went over the network; the others the server had."""

    file: StoredFile
    how: How
    sent: int

    @property
    def spared(self) -> int:
        """Bytes that were not sent."""
        return max(0, self.file.size - self.sent)


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk of a file: where it is, and what it must hold."""

    offset: int
    size: int
    digest: Digest

    @property
    def stop(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the whole store. `view` is the server's whole answer."""

    files: int
    logical_bytes: int
    stored_bytes: int
    view: Mapping[str, Any]

    @classmethod
    def parse(cls, view: Mapping[str, Any]) -> Self:
        return cls(view["files"], view["logicalBytes"], view["storedBytes"], view)
