"""The source of a copy: the version of an object that a request names, if the caller may read it, and its bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from app.models.buckets import Bucket
from app.models.objects import Version
from app.s3.address import valid_bucket
from app.s3.authorize import Authorizer, denied
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.preconditions import check_source
from app.s3.request import S3Request
from app.streams.sums import Kind, Sums
from app.types import File

_HEADER = "x-amz-copy-source"
_VERSION = "?versionId="


@dataclass(frozen=True, slots=True)
class Place:
    """Where a copy is from: a bucket in the caller's words, a key, and a version id or ""."""

    bucket: str
    key: str
    version: str

    @classmethod
    def parse(cls, header: str) -> Place:
        """From `bucket/key?versionId=ID`, URL encoded. Raises S3Error InvalidArgument."""
        path, asked, version = header.partition(_VERSION)
        try:
            text = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            raise _invalid(header, "Copy Source must be URL encoded, in UTF-8.") from None
        bucket, slash, key = text.removeprefix("/").partition("/")
        if not slash or not key or not valid_bucket(bucket):
            raise _invalid(header, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
        if asked and not version:
            raise _invalid(header, "Version id cannot be the empty string")
        return cls(bucket, key, version)


@dataclass(frozen=True, slots=True)
class Source:
    """`asked` is the version id that the request names, or empty."""

    bucket: Bucket
    version: Version
    file: File
    asked: str

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.bucket.versioning == "off" else {"x-amz-copy-source-version-id": self.version.name}


class Sources:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets
        self._objects = parts.objects
        self._authorizer: Authorizer = parts.authorizer

    async def find(self, request: S3Request) -> Source:
        """The source that a request names, if its conditions hold. Raises S3Error InvalidArgument, AccessDenied,
        InvalidRequest for a delete marker; NoSuchBucket, NoSuchKey, NoSuchVersion, PreconditionFailed."""
        if any(name.startswith(f"{_HEADER}-server-side-encryption") for name in request.headers):
            raise S3Error("NotImplemented", "Encryption by keys of customers is not implemented.")
        place = Place.parse(request.headers[_HEADER])
        bucket = await self._buckets.find(place.bucket)
        if request.headers.get("x-amz-source-expected-bucket-owner", bucket.owner) != bucket.owner:
            raise denied()
        action = "s3:GetObjectVersion" if place.version else "s3:GetObject"
        await self._authorizer.on_object(request, action, bucket, place.key, place.version)
        version = await self._objects.find(bucket, place.key, place.version)
        if version.file is None:
            message = "The source of a copy request may not specifically refer to a delete marker by version id."
            raise S3Error("InvalidRequest", message)
        check_source(request.headers, version)
        return Source(bucket, version, version.file, place.version)

    async def read(self, source: Source, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Some of its bytes, verified, in pieces that stay as they are."""
        async with aclosing(self._objects.read(source.file, start, stop)) as pieces:
            async for piece in pieces:
                yield bytes(piece)

    async def sums(self, source: Source, kinds: set[Kind]) -> Mapping[Kind, bytes]:
        """Digests of all of its bytes, which are read for that."""
        sums = Sums(kinds)
        try:
            async with aclosing(self.read(source, 0, source.file.size)) as pieces:
                async for piece in pieces:
                    await sums.update(piece)
            return await sums.finish()
        except BaseException:
            sums.close()
            raise


def _invalid(header: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=_HEADER, ArgumentValue=header[:1100])
