"""A request as handlers see it: what it means, who sent it, and its body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from starlette.responses import Response

from app.models.buckets import Bucket
from app.s3.body import Body
from app.s3.errors import S3Error
from app.s3.operations import Operation
from app.s3.xml import Content, document
from app.store.access import Caller


@dataclass(frozen=True, slots=True)
class Signature:
    """How and when a request was signed (S3 API reference, "Signature Version 4 Authentication Specific Policy
    Keys")."""

    kind: Literal["REST-HEADER", "REST-QUERY-STRING", "POST"]
    moment: datetime


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a request came, which no field of a form can change. `url` is where it went, without its query, `moment` when
    it came, `address` that of the client, as far as proxies are trusted."""

    url: str
    moment: datetime
    address: str = ""
    secure: bool = False
    referer: str | None = None
    user_agent: str | None = None
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class S3Request:
    """`bucket_name` is what the caller calls the bucket, `bucket` what the store knows of it: None for operations on
    the service, and for CreateBucket. `query` has all values by name, `headers` have lower-case names. `tags` are those
    that an object is to get, where that is not told by a header."""

    operation: Operation
    bucket_name: str
    key: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    caller: Caller
    body: Body
    came: Circumstances
    found_bucket: Bucket | None = None
    tags: Mapping[str, str] | None = None

    @property
    def method(self) -> str:
        return self.operation.method

    @property
    def bucket(self) -> Bucket:
        """Of an operation on a bucket that there is, or on what is in it."""
        if self.found_bucket is None:
            raise RuntimeError(f"{self.operation.name} is on no bucket that there is")
        return self.found_bucket

    @property
    def version(self) -> str:
        """The version id that is asked for, or empty. Raises S3Error InvalidArgument where it is there and empty."""
        version = self.parameter("versionId")
        if version == "":
            raise S3Error("InvalidArgument", "Version id cannot be the empty string", ArgumentName="versionId")
        return version or ""

    def parameter(self, name: str) -> str | None:
        """A parameter of the query. Raises S3Error InvalidArgument where it has several values."""
        values = self.query.get(name, [])
        if len(values) > 1:
            raise S3Error("InvalidArgument", f"The parameter {name} may stand only once.", ArgumentName=name)
        return values[0] if values else None

    def number(self, name: str, default: int, most: int = 1 << 31, least: int = 0) -> int:
        """A number in the query. Raises S3Error InvalidArgument."""
        text = self.parameter(name)
        if text is None or text == "":
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most):
            raise S3Error(
                "InvalidArgument",
                f"The parameter {name} must be a whole number from {least} to {most}.",
                ArgumentName=name,
                ArgumentValue=text[:100],
            )
        return int(text)


Handler = Callable[[S3Request], Awaitable[Response]]


def answer(root: str, content: Content, headers: Mapping[str, str] | None = None) -> Response:
    """A document."""
    return Response(document(root, content), 200, dict(headers or {}), media_type="application/xml")


def empty(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=status, headers=dict(headers or {}))
