"""What the headers of a request make of an object, and what an answer tells of one.

Source: PutObject, CopyObject and CreateMultipartUpload of the S3 API reference, and the user guide of S3, "Working with
object metadata" and "Categorizing your storage using tags".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.models.buckets import Bucket
from app.s3.acls import acl_of_new_object
from app.s3.checksums import ALGORITHMS, composite_text, from_text, to_text
from app.s3.errors import S3Error
from app.s3.object_lock import HOLD, MODE, PREFIX, UNTIL, lock_from
from app.s3.request import S3Request
from app.s3.tagging import tags_from_header
from app.s3.xml import Value
from app.types import Checksum, Entry, File

DEFAULT_CONTENT_TYPE = "binary/octet-stream"

MAX_METADATA = 2048
"""Bytes of all metadata of an object, names and values, in UTF-8."""

META = "x-amz-meta-"
STORAGE_CLASS = "x-amz-storage-class"
REDIRECT = "x-amz-website-redirect-location"

COPIED = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
"""Headers that are given back as they came, and that copies take over; the two above are each object's own."""

_STORAGE_CLASSES = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
)
_NOT_HERE = ("x-amz-server-side-encryption", PREFIX, "x-amz-write-offset-bytes")
"""Headers that nobody may believe to have been heeded, by how they begin, but for the following."""
_LOCK = (MODE, UNTIL, HOLD)


@dataclass(frozen=True, slots=True)
class Described:
    """What an object is to be, but for what only its bytes tell."""

    entry: Entry
    content_type: str


def described(request: S3Request) -> Described:
    """The object that a request is to make. Raises S3Error: MetadataTooLarge, InvalidStorageClass, NotImplemented,
    InvalidArgument, and what `tags_from_header`, `acl_of_new_object` and `lock_from` raise."""
    headers = request.headers
    for name in headers:
        if name.startswith(_NOT_HERE) and name not in _LOCK:
            raise _not_implemented(name)
    kept = {name: headers[name] for name in COPIED if headers.get(name)}
    kept.pop("content-encoding", None)
    if encoding := _encoding(headers.get("content-encoding", "")):
        kept["content-encoding"] = encoding
    entry = Entry(
        request.bucket.name,
        request.key,
        "",
        kept | _own(headers),
        _metadata(headers),
        tags_from_header(headers.get("x-amz-tagging", "")),
        acl_of_new_object(request),
        lock=lock_from(headers),
    )
    return Described(entry, headers.get("content-type") or DEFAULT_CONTENT_TYPE)


def copied(described: Described, source: File) -> Described:
    """The object with the metadata of another one in the place of its own."""
    of_source = source.entry or Entry("", "", "")
    own = {name: value for name, value in described.entry.headers.items() if name not in COPIED}
    headers = {name: value for name, value in of_source.headers.items() if name in COPIED}
    entry = replace(described.entry, headers=headers | own, metadata=of_source.metadata)
    return Described(entry, source.content_type)


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    own = {}
    storage_class = headers.get(STORAGE_CLASS, "STANDARD")
    if storage_class not in _STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid")
    if storage_class != "STANDARD":
        own[STORAGE_CLASS] = storage_class
    if redirect := headers.get(REDIRECT):
        if not redirect.startswith(("/", "http://", "https://")) or len(redirect) > MAX_METADATA:
            message = "The website redirect location must begin with /, http:// or https://, and have up to 2 KB."
            raise _invalid(REDIRECT, redirect, message)
        own[REDIRECT] = redirect
    return own


def _encoding(header: str) -> str:
    """Without what only says how this request's body was written."""
    codings = [coding.strip() for coding in header.split(",")]
    return ",".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name.removeprefix(META): value for name, value in headers.items() if name.startswith(META)}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in found.items())
    if size > MAX_METADATA:
        raise S3Error(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            Size=str(size),
            MaxSizeAllowed=str(MAX_METADATA),
        )
    return found


# What answers tell


def version_headers(bucket: Bucket, file: File) -> dict[str, str]:
    """The version id of what was put: none in a bucket that never had versions."""
    if file.entry and file.entry.versioned:
        return {"x-amz-version-id": file.id}
    return {} if bucket.versioning == "off" else {"x-amz-version-id": "null"}


def checksum_text(entry: Entry, checksum: Checksum) -> str:
    """The value of an object's checksum: a composite one tells the number of parts."""
    if checksum.composite:
        return composite_text(from_text(checksum.value), len(entry.parts))
    return checksum.value


def checksum_type(checksum: Checksum) -> str:
    return "COMPOSITE" if checksum.composite else "FULL_OBJECT"


def checksum_headers(entry: Entry) -> dict[str, str]:
    if entry.checksum is None:
        return {}
    name = ALGORITHMS[entry.checksum.kind].header
    return {name: checksum_text(entry, entry.checksum), "x-amz-checksum-type": checksum_type(entry.checksum)}


def checksum_elements(entry: Entry) -> dict[str, Value]:
    if entry.checksum is None:
        return {}
    name = ALGORITHMS[entry.checksum.kind].element
    return {name: checksum_text(entry, entry.checksum), "ChecksumType": checksum_type(entry.checksum)}


def full_checksum(kind: str, digest: bytes) -> Checksum:
    """Of all bytes at once, by the algorithm of this name."""
    return Checksum(kind, to_text(digest))


def _invalid(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value[:1000])


def _not_implemented(name: str) -> S3Error:
    return S3Error("NotImplemented", f"The header {name} asks for what this server does not implement.", Header=name)
