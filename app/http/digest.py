"""Digests of a message's body in its headers: Content-Digest and Repr-Digest (RFC 9530), which are the same for a body
without codings, and the older Digest (RFC 3230) and Content-MD5 (RFC 1864)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Literal

from app.errors import BadRequest

HEADER = "Content-Digest"

_SHA256 = re.compile(r"(?:^|,)[ \t]*sha-256=:([A-Za-z0-9+/]{43}=):[ \t]*(?=,|$)")


def content_digest(sha256: bytes) -> str:
    """The header's value for a body with this SHA-256."""
    return f"sha-256=:{b64encode(sha256).decode()}:"


def parse_content_digest(value: str) -> bytes | None:
    """The SHA-256 that the header names, among other digests or alone; None where it names none."""
    found = _SHA256.search(value)
    return b64decode(found[1]) if found else None


Algorithm = Literal["md5", "sha256", "sha512"]

_ALGORITHMS: Mapping[str, tuple[Algorithm, int]] = {
    "md5": ("md5", 16),
    "sha-256": ("sha256", 32),
    "sha-512": ("sha512", 64),
}
"""By the names that headers have for them, with the bytes of a digest. Others mean nothing here."""

_FIELDS = re.compile(r"[ \t]*([A-Za-z0-9*._-]+)=([^,]*)(?:,|\Z)")
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):[ \t]*(?:;.*)?")


def declared_digests(headers: Mapping[str, str]) -> list[tuple[Algorithm, bytes]]:
    """All digests that the headers, asked for by lower-case names, tell of the body, by algorithms that are known here.
    Raises BadRequest for what can't be read."""
    found: list[tuple[Algorithm, bytes]] = []
    if (value := headers.get("content-md5")) is not None:
        found.append(("md5", _decoded("Content-MD5", value.strip(), 16)))
    for name in ("Content-Digest", "Repr-Digest", "Digest"):
        for algorithm, value in _members(name, headers.get(name.lower(), "")):
            if algorithm.lower() in _ALGORITHMS:
                kind, size = _ALGORITHMS[algorithm.lower()]
                found.append((kind, _decoded(name, value, size)))
    return found


def _members(name: str, header: str) -> list[tuple[str, str]]:
    """Algorithms and base64."""
    members: list[tuple[str, str]] = []
    at = 0
    while at < len(header):
        match = _FIELDS.match(header, at)
        if match is None:
            raise _unreadable(name)
        at = match.end()
        value = match[2].strip()
        if name != "Digest":
            quoted = _BYTES.fullmatch(value)
            if quoted is None:
                raise _unreadable(name)
            value = quoted[1]
        members.append((match[1], value))
    return members


def _decoded(name: str, text: str, size: int) -> bytes:
    try:
        digest = b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise _unreadable(name) from error
    if len(digest) != size:
        raise _unreadable(name)
    return digest


def _unreadable(name: str) -> BadRequest:
    return BadRequest(
        f"The header {name} can't be read: it must name an algorithm, as `sha-256`, and base64 of the digest."
    )
