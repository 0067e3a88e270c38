"""What stands in the headers of tus requests (tus resumable upload protocol 1.0.0, https://tus.io/protocols/resumable-upload).
Sans-io. Headers are asked for by lower-case names; what can't be read raises BadRequest."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import BadRequest, TooLarge
from app.streams.multipart import DEFAULT_CONTENT_TYPE, usable_content_type
from app.streams.sums import Kind

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-defer-length",
    "creation-with-upload",
    "checksum",
    "expiration",
    "termination",
    "concatenation",
)
CHECKSUMS: Mapping[str, tuple[Kind, int]] = {"sha256": ("sha256", 32), "sha1": ("sha1", 20), "md5": ("md5", 16)}
"""By their names here, with the bytes of each."""

ANSWERED = (
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Metadata",
    "Upload-Expires",
    "Upload-Concat",
    "X-File-Id",
)
"""Headers of answers, which scripts of other origins may read."""

MEDIA_TYPE = "application/offset+octet-stream"

MAX_METADATA = 8192
"""Characters of the header Upload-Metadata."""

_NUMBER = re.compile(r"[0-9]{1,18}")
_KEY = re.compile(r"[!-+\--~]+")
_NAMES, _TYPES = ("filename", "name"), ("filetype", "type")
"""Keys of metadata by which clients tell the name and the media type, the usual one first."""


@dataclass(frozen=True, slots=True)
class Creation:
    """An upload that is to be created. `size` is None where it is to be told later, or follows from those that are to
    be concatenated: `parts`, the last segments of whose URLs these are."""

    size: int | None
    metadata: str
    name: str
    content_type: str
    concat: str
    parts: Sequence[str]

    @classmethod
    def read(cls, headers: Mapping[str, str], most: int) -> Creation:
        """Raises TooLarge where more than `most` bytes are announced."""
        metadata, concat = headers.get("upload-metadata", ""), headers.get("upload-concat", "").strip()
        pairs = _metadata(metadata)
        parts = _concatenated(concat)
        size = None if parts else _size(headers, most)
        if parts and ("upload-length" in headers or "upload-defer-length" in headers):
            raise BadRequest("What is concatenated has the length of its parts: leave out Upload-Length.")
        content_type = _first(pairs, _TYPES)
        return cls(
            size,
            metadata,
            _first(pairs, _NAMES),
            content_type if usable_content_type(content_type) else DEFAULT_CONTENT_TYPE,
            concat,
            parts,
        )


@dataclass(frozen=True, slots=True)
class Checksum:
    kind: Kind
    digest: bytes


def number(headers: Mapping[str, str], name: str) -> int | None:
    """The number that a header is; None where there is none."""
    text = headers.get(name.lower())
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"The header {name} must be a number of bytes.")
    return int(text)


def checksum(headers: Mapping[str, str]) -> Checksum | None:
    """That of the body."""
    if "upload-checksum" in headers.get("trailer", "").lower():
        raise BadRequest("Upload-Checksum is read in the head of a request only, not behind its body.")
    text = headers.get("upload-checksum")
    if text is None:
        return None
    name, _, value = text.strip().partition(" ")
    if name not in CHECKSUMS:
        raise BadRequest(f"Upload-Checksum must be one of {', '.join(CHECKSUMS)}, a space, and base64 of the digest.")
    kind, size = CHECKSUMS[name]
    digest = _decoded(value.strip(), "Upload-Checksum")
    if len(digest) != size:
        raise BadRequest(f"Upload-Checksum must be base64 of the {size} bytes of a {name}.")
    return Checksum(kind, digest)


def _size(headers: Mapping[str, str], most: int) -> int | None:
    size, deferred = number(headers, "Upload-Length"), headers.get("upload-defer-length")
    if deferred not in (None, "1") or (size is None) == (deferred is None):
        raise BadRequest("An upload has either Upload-Length, its size in bytes, or Upload-Defer-Length: 1.")
    if size is not None and size > most:
        raise TooLarge(f"The file is larger than the {most} bytes allowed here.")
    return size


def _metadata(header: str) -> dict[str, str]:
    if len(header) > MAX_METADATA:
        raise BadRequest(f"Upload-Metadata may have up to {MAX_METADATA} characters.")
    pairs: dict[str, str] = {}
    for pair in filter(None, map(str.strip, header.split(","))):
        key, _, value = pair.partition(" ")
        if not _KEY.fullmatch(key) or key in pairs:
            raise BadRequest("A key of Upload-Metadata must be of ASCII without spaces and commas, each of them once.")
        try:
            pairs[key] = _decoded(value.strip(), "Upload-Metadata").decode()
        except UnicodeDecodeError as error:
            if key in (*_NAMES, *_TYPES):
                raise BadRequest(f"`{key}` in Upload-Metadata must be base64 of UTF-8.") from error
            pairs[key] = ""
    return pairs


def _first(pairs: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((pairs[key] for key in keys if pairs.get(key)), "")


def _concatenated(header: str) -> list[str]:
    """The ids of what is to be concatenated."""
    if header in ("", "partial"):
        return []
    kind, _, urls = header.partition(";")
    ids = [urlsplit(url).path.rstrip("/").rpartition("/")[2] for url in urls.split()]
    if kind != "final" or not ids or not all(ids):
        raise BadRequest("Upload-Concat must be `partial`, or `final;` and the URLs of partial uploads.")
    return ids


def _decoded(text: str, name: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise BadRequest(f"The header {name} can't be read: it must have base64.") from error
