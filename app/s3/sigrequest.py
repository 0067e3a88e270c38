"""A request as its signature sees it: the canonical request of AWS Signature Version 4, the way S3 builds it.

S3 differs from other services: paths are encoded once and never normalised, since `a//b` and `a/../b` are keys.
Source: the S3 API reference, "Signature Calculations for the Authorization Header", task 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

SIGNATURE = b"X-Amz-Signature"
"""The parameter of a query that its own signature can't cover."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that a signature may cover. `path` and `query` are raw, as they were sent; the
    query has no question mark. Names of headers are in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]

    def values(self, name: str) -> list[str]:
        """The values of a header, by its name in lower case, in order."""
        wanted = name.encode()
        return [value.strip().decode("latin-1") for header, value in self.headers if header == wanted]

    def canonical(self, signed_headers: Iterable[str], payload: str) -> bytes:
        """`signed_headers` are sorted. One that the request lacks has no line, so that its removal shows."""
        names = list(signed_headers)
        lines = [line for name in names for line in self._header_line(name.encode())]
        return b"\n".join(
            [
                self.method.encode(errors="replace"),
                _encode(unquote_to_bytes(self.path), safe="/") or b"/",
                _canonical_query(self.query),
                *lines,
                b"",
                ";".join(names).encode(),
                payload.encode(),
            ]
        )

    def _header_line(self, wanted: bytes) -> list[bytes]:
        values = [b" ".join(value.split()) for name, value in self.headers if name == wanted]
        return [wanted + b":" + b",".join(values)] if values else []


def parse_query(query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a raw query, decoded, in order. A plus is a space, as in a form."""
    pairs = [item.replace(b"+", b" ").partition(b"=") for item in query.split(b"&") if item]
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]


def _canonical_query(query: bytes) -> bytes:
    encoded = sorted((_encode(name), _encode(value)) for name, value in parse_query(query) if name != SIGNATURE)
    return b"&".join(name + b"=" + value for name, value in encoded)


def _encode(data: bytes, safe: str = "") -> bytes:
    """All but the unreserved characters of RFC 3986, and those of `safe`, as %XX in upper case."""
    return quote(data, safe=safe).encode()
