"""Objects and their versions, listed (ListObjects, ListObjectsV2 and ListObjectVersions of the S3 API reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import Response

from app.errors import NoSuchKey, NoSuchVersion
from app.models.objects import Position, Version
from app.s3.acls import owner_document
from app.s3.asked import Asked
from app.s3.entry import checksum_type
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.reads import storage_class
from app.s3.request import Handler, S3Request, answer
from app.s3.tokens import from_token, to_token
from app.s3.xml import Children, Value
from app.store.listing import Listing
from app.types import File


class Lists:
    def __init__(self, parts: S3Parts) -> None:
        self._objects = parts.objects

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"ListObjects": self.first, "ListObjectsV2": self.second, "ListObjectVersions": self.versions}

    async def first(self, request: S3Request) -> Response:
        """Version 1, whose lists go on behind a marker; the next one is told only where there is a delimiter."""
        asked, marker = Asked.of(request, "max-keys"), request.parameter("marker") or ""
        listing = await self._objects.list(request.bucket, asked.query, asked.query.after(marker))
        content = _head(request, asked) | {"Marker": asked.encode(marker), "IsTruncated": listing.truncated}
        if listing.truncated and asked.query.delimiter:
            content["NextMarker"] = asked.encode(_last(listing))
        content["Contents"] = [_contents(asked, version, owner=True) for version in listing.entries]
        content["CommonPrefixes"] = asked.prefixes(listing)
        return answer("ListBucketResult", content)

    async def second(self, request: S3Request) -> Response:
        """Version 2, whose lists go on behind a token."""
        asked, token = Asked.of(request, "max-keys"), request.parameter("continuation-token")
        start, owner = request.parameter("start-after"), _flag(request, "fetch-owner")
        after = from_token(token) if token else start or ""
        listing = await self._objects.list(request.bucket, asked.query, asked.query.after(after))
        content = _head(request, asked) | {
            "StartAfter": None if start is None else asked.encode(start),
            "ContinuationToken": token,
            "NextContinuationToken": to_token(_last(listing)) if listing.truncated else None,
            "KeyCount": len(listing.items),
            "IsTruncated": listing.truncated,
        }
        content["Contents"] = [_contents(asked, version, owner=owner) for version in listing.entries]
        content["CommonPrefixes"] = asked.prefixes(listing)
        return answer("ListBucketResult", content)

    async def versions(self, request: S3Request) -> Response:
        asked = Asked.of(request, "max-keys")
        key, name = request.parameter("key-marker") or "", request.parameter("version-id-marker") or ""
        after = await self._after(request, asked, key, name)
        listing = await self._objects.list_versions(request.bucket, asked.query, after)
        content = _head(request, asked) | {
            "KeyMarker": asked.encode(key),
            "VersionIdMarker": name,
            "IsTruncated": listing.truncated,
        }
        if listing.truncated:
            last = listing.items[-1]
            content["NextKeyMarker"] = asked.encode(_last(listing))
            content["NextVersionIdMarker"] = None if isinstance(last, str) else f"{last.name}.{last.seq}"
        entries = _version_elements(asked, listing.entries, after)
        prefixes: list[tuple[str, Value]] = [("CommonPrefixes", prefix) for prefix in asked.prefixes(listing)]
        return answer("ListVersionsResult", Children([*content.items(), *entries, *prefixes]))

    async def _after(self, request: S3Request, asked: Asked, key: str, name: str) -> Position:
        """The place that two markers mean. A marker that an answer told has the version's number beside its id: so
        the list goes on though that version is deleted meanwhile, as it is by who empties a bucket."""
        if not name:
            return asked.query.after(key)
        if not key:
            message = "A version-id marker cannot be specified without a key marker."
            raise S3Error("InvalidArgument", message, ArgumentName="version-id-marker", ArgumentValue=name[:100])
        if not key.startswith(asked.query.prefix):
            return asked.query.after(key)
        _, dot, seq = name.rpartition(".")
        if dot and seq.isascii() and seq.isdecimal() and len(seq) < 19:
            return Position(key, int(seq))
        try:
            return Position(key, (await self._objects.find(request.bucket, key, name)).seq)
        except (NoSuchKey, NoSuchVersion) as error:
            message = "Invalid version id specified"
            raise S3Error(
                "InvalidArgument", message, ArgumentName="version-id-marker", ArgumentValue=name[:100]
            ) from error


def _head(request: S3Request, asked: Asked) -> dict[str, Value]:
    return {"Name": request.bucket_name, **asked.head(), "MaxKeys": asked.query.limit}


def _flag(request: S3Request, name: str) -> bool:
    return (request.parameter(name) or "").lower() == "true"


def _last(listing: Listing[Version]) -> str:
    """The key, or the common prefix, behind which the list goes on."""
    last = listing.items[-1]
    return last if isinstance(last, str) else last.key


def _contents(asked: Asked, version: Version, *, owner: bool) -> Mapping[str, Value]:
    assert version.file is not None  # noqa: S101 - delete markers are not listed here
    elements: dict[str, Value] = {"Key": asked.encode(version.key), **_file_elements(version, version.file)}
    if owner:
        elements["Owner"] = owner_document(version.owner)
    return elements


def _file_elements(version: Version, file: File) -> dict[str, Value]:
    checksum = file.entry.checksum if file.entry else None
    return {
        "LastModified": version.created_at,
        "ETag": f'"{version.etag}"',
        "ChecksumAlgorithm": checksum.kind if checksum else None,
        "ChecksumType": checksum_type(checksum) if checksum else None,
        "Size": file.size,
        "StorageClass": storage_class(file),
    }


def _version_elements(asked: Asked, versions: Sequence[Version], after: Position) -> list[tuple[str, Value]]:
    """Versions and delete markers in their order. A page may begin among those of a key."""
    elements: list[tuple[str, Value]] = []
    before = after.key if after.seq is not None else None
    for version in versions:
        described: dict[str, Value] = {
            "Key": asked.encode(version.key),
            "VersionId": version.name,
            "IsLatest": version.key != before,
        }
        if version.file is None:
            described["LastModified"] = version.created_at
        else:
            described |= _file_elements(version, version.file)
        described["Owner"] = owner_document(version.owner)
        elements.append(("DeleteMarker" if version.file is None else "Version", described))
        before = version.key
    return elements
