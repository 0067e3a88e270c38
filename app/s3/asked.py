"""What lists of keys are asked for, be they of objects, of versions or of uploads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from app.s3.errors import S3Error
from app.s3.request import S3Request
from app.s3.xml import Value
from app.store.listing import Listing, Query

T = TypeVar("T")

MOST = 1000
"""Entries in one answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What all of them take: which keys, and how text is written in the answer."""

    query: Query
    encode: Callable[[str], str]
    encoding: str | None

    @classmethod
    def of(cls, request: S3Request, limit: str) -> Asked:
        """`limit` is the parameter that says how many entries are wanted. Raises S3Error InvalidArgument."""
        encoding = request.parameter("encoding-type")
        if encoding not in (None, "url"):
            raise S3Error(
                "InvalidArgument",
                "Invalid Encoding Method specified in Request",
                ArgumentName="encoding-type",
                ArgumentValue=str(encoding)[:100],
            )
        most = min(request.number(limit, MOST), MOST)
        query = Query(request.parameter("prefix") or "", request.parameter("delimiter") or "", most)
        return cls(query, _url_encoded if encoding else str, encoding)

    def head(self) -> dict[str, Value]:
        return {
            "Prefix": self.encode(self.query.prefix),
            "Delimiter": self.encode(self.query.delimiter) if self.query.delimiter else None,
            "EncodingType": self.encoding,
        }

    def prefixes(self, listing: Listing[T]) -> list[Value]:
        return [{"Prefix": self.encode(prefix)} for prefix in listing.prefixes]


def _url_encoded(text: str) -> str:
    return quote(text, safe="/")
