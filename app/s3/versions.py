"""The version of an object that a request is about."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime

from app.errors import NoSuchKey, NoSuchVersion
from app.models.buckets import Bucket
from app.models.objects import Version
from app.s3.errors import S3Error, as_s3
from app.s3.request import S3Request
from app.store.objects import ObjectStore
from app.types import File


async def find_object(objects: ObjectStore, request: S3Request) -> tuple[Version, File]:
    """The version that the request asks for, or the newest one, and its file. Raises S3Error NoSuchKey and
    NoSuchVersion; MethodNotAllowed where it asks for a delete marker (GetObject of the API reference)."""
    try:
        version = await objects.find(request.bucket, request.key, request.version)
    except (NoSuchKey, NoSuchVersion) as error:
        answer = as_s3(error)
        answer.details["Key"] = request.key
        if request.version:
            answer.details["VersionId"] = request.version
        raise answer from error
    if version.file is None:
        raise S3Error(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            Method=request.method,
            ResourceType="DeleteMarker",
        ).with_headers(
            {
                **version_headers(request.bucket, version),
                "x-amz-delete-marker": "true",
                "last-modified": format_datetime(version.created_at, usegmt=True),
                "allow": "DELETE",
            }
        )
    return version, version.file


def version_headers(bucket: Bucket, version: Version) -> Mapping[str, str]:
    """What an answer tells of the version: nothing in a bucket that never had any."""
    return {} if bucket.versioning == "off" else {"x-amz-version-id": version.name}
