"""Whether a caller may do what he asks for.

What the policy of the bucket denies, nobody may. Otherwise his key must have the permission, and its scopes must cover
the place. Then the account that owns the bucket may do everything with it and with what is in it, as S3 has it where
the bucket owner is enforced; others may do what the policy of the bucket allows. What the canned ACL of the bucket, or
of an object, gives them, they may do with any key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.errors import NoSuchKey, NoSuchVersion
from app.models.buckets import Bucket
from app.models.keys import Permission
from app.s3.errors import S3Error
from app.s3.policy import Policy, Verdict
from app.s3.policy_context import Target, asked
from app.s3.policy_document import parse_policy
from app.s3.request import S3Request
from app.store.access import Caller
from app.store.objects import ObjectStore
from app.types import Entry

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

_OF_POLICIES = ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy")
"""What a policy can't keep whoever sees all from, so that nobody is locked out for good (PutBucketPolicy of the S3 API
reference has this for the root user of an account)."""


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

    async def on_existence(self, request: S3Request, action: str) -> None:
        """Whether somebody may know that the bucket is there: clients look for it before they do anything in it,
        also with a key that is limited to a prefix of it. Raises S3Error AccessDenied."""
        caller, bucket = request.caller, request.bucket
        if _verdict(request, Target(action, bucket)) == "Deny":
            raise denied()
        if not (caller.owner and caller.sees(bucket.owner) and caller.prefixes_in(bucket.name)):
            await self.on_bucket(request, action, bucket)

    async def on_bucket(self, request: S3Request, action: str, bucket: Bucket, prefix: str | None = None) -> None:
        """`prefix` is that of what is listed. Raises S3Error AccessDenied."""
        verdict = _verdict(request, Target(action, bucket, prefix=prefix))
        allowed = verdict == "Allow" or _may(request.caller, action, bucket, prefix or "")
        if verdict == "Deny" or not (allowed or _gives(bucket, action, request.caller)):
            raise denied()

    async def on_object(self, request: S3Request, action: str, bucket: Bucket, key: str, version: str = "") -> None:
        """Raises S3Error AccessDenied, also where there is no such object, unless the caller may know that."""
        caller = request.caller
        verdict = _verdict(request, await self._target(action, bucket, key, version))
        if verdict == "Deny":
            raise denied()
        if _may(caller, action, bucket, key) or _gives(bucket, action, caller):
            return
        if action not in _OF_OBJECTS or (not verdict and _overlooks_acls(bucket)):
            if verdict == "Allow":
                return
            raise denied()
        try:
            found = await self._objects.find(bucket, key, version)
        except (NoSuchKey, NoSuchVersion):
            await self.on_bucket(request, "s3:ListBucket", bucket, key)
            return
        entry = found.file.entry if found.file else None
        if verdict != "Allow" and not (entry and is_public(entry.acl) and _is_reader(entry.acl, caller)):
            raise denied()

    async def on_new_object(self, request: S3Request, entry: Entry) -> None:
        """What an object gets beside its bytes takes rights of its own: an ACL that gives something to others, and
        tags, by which policies tell objects apart. Raises S3Error AccessDenied."""
        if is_public(entry.acl):
            await self.on_object(request, "s3:PutObjectAcl", request.bucket, request.key)
        if entry.tags:
            tagged = replace(request, tags=entry.tags)
            await self.on_object(tagged, "s3:PutObjectTagging", request.bucket, request.key)

    async def _target(self, action: str, bucket: Bucket, key: str, version: str) -> Target:
        policy = policy_of(bucket)
        if policy is None or not policy.asks_for_tags(action):
            return Target(action, bucket, key, version)
        try:
            found = await self._objects.find(bucket, key, version)
        except (NoSuchKey, NoSuchVersion):
            return Target(action, bucket, key, version)
        entry = found.file.entry if found.file else None
        return Target(action, bucket, key, version, tags=entry.tags if entry else {})


def policy_of(bucket: Bucket) -> Policy | None:
    text = bucket.settings.get("policy")
    return None if text is None else parse_policy(text, bucket.name)


def _verdict(request: S3Request, target: Target) -> Verdict:
    """What the policy of the bucket says. It allows nobody what his own key does not, and others than the bucket's
    account nothing where public policies are restricted."""
    caller, action, bucket = request.caller, target.action, target.bucket
    policy = policy_of(bucket)
    if policy is None or (caller.sees_all and action in _OF_POLICIES):
        return ""
    verdict = policy.says(asked(request, target))
    if verdict != "Allow":
        return verdict
    if policy.is_public and bucket.settings.get("publicAccessBlock", {}).get("RestrictPublicBuckets"):
        return ""
    place = target.key or target.prefix or ""
    return "Allow" if not caller.owner or caller.may(permission_for(action), bucket.name, place) else ""


def _may(caller: Caller, action: str, bucket: Bucket, key: str) -> bool:
    """Whether he is of the bucket's account, and his key allows it; to list, `key` is the prefix of what is listed."""
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
