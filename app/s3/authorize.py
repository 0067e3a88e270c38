"""Whether a caller may do what he asks for.

His key must have the permission, and its scopes must cover the place. Then the account that owns the bucket may do
everything with it and with what is in it, as S3 has it where the bucket owner is enforced; others may do what the
canned ACL of the bucket, or of an object, gives them.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import NoSuchKey, NoSuchVersion
from app.models.buckets import Bucket
from app.models.keys import Permission
from app.s3.errors import S3Error
from app.store.access import Caller
from app.store.objects import ObjectStore

ACLS = ("private", "public-read", "public-read-write", "authenticated-read")

_DELETES = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket")
_OF_OBJECTS = ("s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes")
"""Actions that the ACL of an object may allow."""

_GRANTED: Mapping[str, Permission] = {
    "s3:ListBucket": "list",
    "s3:ListBucketVersions": "list",
    "s3:ListBucketMultipartUploads": "list",
    "s3:PutObject": "write",
    "s3:DeleteObject": "delete",
}
"""Actions that the ACL of a bucket may allow."""


def permission_for(action: str) -> Permission:
    """What a key must have for it."""
    if action.startswith("s3:List"):
        return "list"
    if action in _DELETES:
        return "delete"
    if action == "s3:BypassGovernanceRetention":
        return "admin"
    return "read" if action.startswith("s3:Get") else "write"


class Authorizer:
    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def on_service(self, caller: Caller, action: str, bucket: str = "") -> None:
        """What concerns no bucket that there is. Raises S3Error AccessDenied."""
        permission = permission_for(action)
        if not caller.owner or not (caller.may(permission, bucket) if bucket else permission in caller.permissions):
            raise denied()

    async def on_existence(self, caller: Caller, action: str, bucket: Bucket) -> None:
        """Whether somebody may know that the bucket is there: clients look for it before they do anything in it,
        also with a key that is limited to a prefix of it. Raises S3Error AccessDenied."""
        if not (caller.owner and caller.sees(bucket.owner) and caller.prefixes_in(bucket.name)):
            await self.on_bucket(caller, action, bucket)

    async def on_bucket(self, caller: Caller, action: str, bucket: Bucket, key: str = "") -> None:
        """`key` is the prefix of what is listed. Raises S3Error AccessDenied."""
        if not self._may(caller, action, bucket, key) and not _gives(bucket, action, caller):
            raise denied()

    async def on_object(self, caller: Caller, action: str, bucket: Bucket, key: str, version: str = "") -> None:
        """Raises S3Error AccessDenied, also where there is no such object, unless the caller may know that."""
        if self._may(caller, action, bucket, key) or _gives(bucket, action, caller):
            return
        if action in _OF_OBJECTS and not _overlooks_acls(bucket):
            try:
                found = await self._objects.find(bucket, key, version)
            except (NoSuchKey, NoSuchVersion):
                await self.on_bucket(caller, "s3:ListBucket", bucket)
                return
            entry = found.file.entry if found.file else None
            if entry and is_public(entry.acl) and _is_reader(entry.acl, caller):
                return
        raise denied()

    @staticmethod
    def _may(caller: Caller, action: str, bucket: Bucket, key: str) -> bool:
        if not caller.owner or not caller.sees(bucket.owner):
            return False
        return caller.may(permission_for(action), bucket.name, key)


def is_public(acl: str) -> bool:
    """Whether it gives something to others than the accounts that it is from."""
    return acl in ACLS[1:]


def acls_are_off(bucket: Bucket) -> bool:
    """Whether neither the bucket nor what is in it has an ACL."""
    return bucket.settings.get("ownership") == "BucketOwnerEnforced"


def _overlooks_acls(bucket: Bucket) -> bool:
    """Whether ACLs give nothing to anybody."""
    blocked = bucket.settings.get("publicAccessBlock", {})
    return acls_are_off(bucket) or any(map(blocked.get, ("IgnorePublicAcls", "RestrictPublicBuckets")))


def _gives(bucket: Bucket, action: str, caller: Caller) -> bool:
    acl, permission = bucket.settings.get("acl", ""), _GRANTED.get(action)
    if _overlooks_acls(bucket):
        return False
    if permission == "list":
        return is_public(acl) and _is_reader(acl, caller)
    return permission is not None and acl == "public-read-write"


def _is_reader(acl: str, caller: Caller) -> bool:
    return acl != "authenticated-read" or bool(caller.owner)


def denied() -> S3Error:
    return S3Error("AccessDenied", "Access Denied")
