"""Which bucket and which object a request is about (S3 user guide, "Virtual hosting of buckets", "Bucket naming rules",
"Object key naming guidelines")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from app.s3.errors import S3Error

MAX_KEY = 1024
"""Bytes of an object's key, in UTF-8."""

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9-]|\.(?!\.))*[a-z0-9]")
_IP = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket and a key in it. Both may be "": the service itself, or a bucket itself."""

    bucket: str
    key: str


def valid_bucket(name: str) -> bool:
    """Whether a bucket may have this name."""
    return (
        _NAME.fullmatch(name) is not None
        and _IP.fullmatch(name) is None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
    )


def parse_address(host: str, path: bytes, domain: str) -> Address:
    """What the path, raw as it was sent and without a query, names on this host.

    Where `host` is a name below `domain`, what stands before it is the bucket and the whole path the key. Otherwise
    the bucket is the path's first segment. `domain` is "" where no bucket has a host of its own; it has no port. The
    key is decoded and otherwise kept exactly: a plus is a plus, and empty or dotted segments stay.

    Raises S3Error: InvalidURI, InvalidBucketName, KeyTooLongError.
    """
    text = _decode(path)
    bucket = _bucket_of_host(host, domain)
    if bucket:
        key = text
    else:
        bucket, _, key = text.partition("/")
    if (bucket or key) and not valid_bucket(bucket):
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", BucketName=bucket)
    if (size := len(key.encode())) > MAX_KEY:
        raise S3Error("KeyTooLongError", "Your key is too long", Size=str(size), MaxSizeAllowed=str(MAX_KEY))
    return Address(bucket, key)


def _decode(path: bytes) -> str:
    """The path without its first slash."""
    if not path.startswith(b"/") or _BAD_ESCAPE.search(path):
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.")
    try:
        return unquote_to_bytes(path[1:]).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI. Its path is to be in UTF-8.") from None


def _bucket_of_host(host: str, domain: str) -> str:
    """ "" where the host names no bucket."""
    match = _HOST.fullmatch(host.strip())
    ending = f".{domain.lower()}"
    if not domain or match is None or not (name := match[1].lower()).endswith(ending):
        return ""
    return name.removesuffix(ending)
