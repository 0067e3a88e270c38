"""Settings of buckets: what operations that configure a bucket have in common."""

from __future__ import annotations

from typing import Any

from app.s3.errors import S3Error
from app.s3.request import S3Request
from app.store.buckets import NATIVE, BucketStore

MAX_DOCUMENT = 64 << 10
"""Bytes of a document that configures something (PutBucketCors of the API reference has the longest ones)."""


def require_settings(request: S3Request) -> None:
    """Raises S3Error InvalidBucketState for the bucket of the native API, which has no settings, and whose files have
    neither tags nor ACLs."""
    if request.bucket.name == NATIVE:
        raise without_settings(request.bucket_name)


def without_settings(bucket_name: str) -> S3Error:
    return S3Error(
        "InvalidBucketState",
        f"The bucket {bucket_name} holds the files of the native API. It can't be configured, and these have no tags "
        "and no ACLs. Use another bucket.",
    )


async def keep(buckets: BucketStore, request: S3Request, setting: str, value: Any) -> None:
    """Keep a setting of the request's bucket; None takes it away. Raises as `require_settings`, and NoSuchBucket."""
    require_settings(request)
    await buckets.set(request.bucket.name, setting, value)
