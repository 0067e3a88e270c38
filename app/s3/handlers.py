"""All operations that are supported, with their handlers."""

from __future__ import annotations

from collections.abc import Mapping

from app.s3.acls import Acls
from app.s3.buckets import BucketOperations
from app.s3.controls import Controls
from app.s3.cors import Cors
from app.s3.form_uploads import FormUploads
from app.s3.lifecycle import LifecycleRules
from app.s3.lists import Lists
from app.s3.multipart import MultipartUploads
from app.s3.object_lock import ObjectLock
from app.s3.parts import S3Parts
from app.s3.policies import Policies
from app.s3.reads import ObjectReads
from app.s3.request import Handler
from app.s3.tagging import Tagging
from app.s3.unconfigured import unconfigured
from app.s3.writes import ObjectWrites

_CANNED = "Canned ACLs only."
_NONE = "There never is one: it says so."

LACKING: Mapping[str, str] = {
    **dict.fromkeys(("GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl"), _CANNED),
    "PutBucketPolicy": "Principals are accounts and access keys. What it does not know it refuses.",
    "PutBucketVersioning": "Without MFA Delete.",
    "PutBucketLifecycleConfiguration": "Without transitions: there is one storage class.",
    **dict.fromkeys(
        ("PutObject", "CopyObject", "CreateMultipartUpload", "PostObject"),
        "Without encryption by the server and event holds.",
    ),
    **dict.fromkeys(("PutObjectLockConfiguration", "PutObjectRetention"), "Without event holds."),
    **dict.fromkeys(unconfigured(), _NONE),
}
"""What operations that are supported can't do, for the compatibility page."""


def handlers(parts: S3Parts, region: str) -> Mapping[str, Handler]:
    """The handlers by the names of their operations."""
    return {
        **BucketOperations(parts, region).handlers,
        **ObjectReads(parts).handlers,
        **Lists(parts).handlers,
        **ObjectWrites(parts).handlers,
        **MultipartUploads(parts).handlers,
        **FormUploads(parts, region).handlers,
        **Acls(parts).handlers,
        **Tagging(parts).handlers,
        **Cors(parts).handlers,
        **Controls(parts).handlers,
        **ObjectLock(parts).handlers,
        **Policies(parts).handlers,
        **LifecycleRules(parts).handlers,
        **unconfigured(),
    }
