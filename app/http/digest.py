"""The Content-Digest of a message's body (RFC 9530), by SHA-256."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

HEADER = "Content-Digest"

_SHA256 = re.compile(r"(?:^|,)[ \t]*sha-256=:([A-Za-z0-9+/]{43}=):[ \t]*(?=,|$)")


def content_digest(sha256: bytes) -> str:
    """The header's value for a body with this SHA-256."""
    return f"sha-256=:{b64encode(sha256).decode()}:"


def parse_content_digest(value: str) -> bytes | None:
    """The SHA-256 that the header names, among other digests or alone; None where it names none."""
    found = _SHA256.search(value)
    return b64decode(found[1]) if found else None
