"""Buckets themselves: make, find, list and delete them, and whether they keep versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from app.errors import BucketExists
from app.models.buckets import Bucket, Versioning
from app.s3.acls import of_bucket, owner_document, see_that_it_is_taken
from app.s3.configuration import MAX_DOCUMENT, require_settings, without_settings
from app.s3.controls import OWNERSHIPS
from app.s3.errors import S3Error
from app.s3.object_lock import ENABLED, flag
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.tagging import BUCKET_TAGS, stored_tags
from app.s3.tokens import from_token, to_token
from app.s3.xml import Element, Value, parse
from app.store.buckets import NATIVE

MAX_BUCKETS = 10_000
"""Listed at once (ListBuckets of the API reference)."""

_FIRST_REGION = "us-east-1"
"""It has no LocationConstraint, and there a bucket of one's own may be made again (CreateBucket of the reference)."""

_STATUS: Mapping[str, Versioning] = {"Enabled": "enabled", "Suspended": "suspended"}


class BucketOperations:
    def __init__(self, parts: S3Parts, region: str) -> None:
        self._buckets = parts.buckets
        self._authorizer = parts.authorizer
        self._region = region

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "ListBuckets": self.list_buckets,
            "CreateBucket": self.create,
            "HeadBucket": self.head,
            "DeleteBucket": self.delete,
            "GetBucketLocation": self.location,
            "GetBucketVersioning": self.versioning,
            "PutBucketVersioning": self.set_versioning,
        }

    async def list_buckets(self, request: S3Request) -> Response:
        """All buckets that the caller sees, but for those that his key is kept from."""
        caller, limit = request.caller, request.number("max-buckets", MAX_BUCKETS, MAX_BUCKETS, 1)
        prefix, token = request.parameter("prefix"), request.parameter("continuation-token")
        found: list[tuple[str, Bucket]] = []
        if request.parameter("bucket-region") in (None, self._region):
            owner = None if caller.sees_all else caller.owner
            after = from_token(token) if token else ""
            found = list(await self._buckets.list(owner, prefix or "", after, limit + 1))
        listed: list[Value] = [
            {"Name": name, "CreationDate": bucket.created_at, "BucketRegion": self._region}
            for name, bucket in found[:limit]
            if caller.prefixes_in(bucket.name)
        ]
        content: dict[str, Value] = {"Owner": owner_document(caller.owner), "Buckets": {"Bucket": listed}}
        content["Prefix"] = prefix
        content["ContinuationToken"] = to_token(found[limit - 1][0]) if len(found) > limit else None
        return answer("ListAllMyBucketsResult", content)

    async def create(self, request: S3Request) -> Response:
        name, owner = request.bucket_name, request.caller.owner
        settings, lockable = _settings_from_headers(request), flag(request.headers, ENABLED)
        body = await request.body.document(MAX_DOCUMENT)
        if body:
            settings |= self._settings_from(parse(body, "CreateBucketConfiguration", MAX_DOCUMENT))
        try:
            await self._buckets.create(name, owner, settings, lockable=lockable)
        except BucketExists as error:
            if error.owner != owner:
                message = "The requested bucket name is not available. Select a different name and try again."
                raise S3Error("BucketAlreadyExists", message, BucketName=name) from error
            bucket = await self._buckets.find(name)
            if self._region != _FIRST_REGION or (lockable and not bucket.lockable):
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise S3Error("BucketAlreadyOwnedByYou", message, BucketName=name) from error
            await self._make_again(request, bucket, settings)
        return empty(headers={"location": f"/{name}"})

    async def _make_again(self, request: S3Request, bucket: Bucket, settings: Mapping[str, Any]) -> None:
        """The bucket gets the ACL of a new one (CreateBucket of the API reference), and stays as it is otherwise."""
        name = request.bucket_name
        for action in ("s3:CreateBucket", "s3:PutBucketAcl"):
            await self._authorizer.on_bucket(request, action, bucket)
        if bucket.name == NATIVE:
            if settings:
                raise without_settings(name)
            return
        see_that_it_is_taken(bucket, settings.get("acl", "private"))
        await self._buckets.set(name, "acl", settings.get("acl"))

    def _settings_from(self, configuration: Element) -> dict[str, Any]:
        configuration.only("LocationConstraint", "Tags")
        place = configuration.maybe_text("LocationConstraint")
        if place and place != self._region:
            raise S3Error(
                "IllegalLocationConstraintException",
                f"The {place} location constraint is incompatible for the region specific endpoint this request was "
                f"sent to. The region here is {self._region}.",
            )
        tags = configuration.maybe("Tags")
        return {"tags": stored_tags(tags, BUCKET_TAGS)} if tags else {}

    async def head(self, request: S3Request) -> Response:  # noqa: ARG002 - that the bucket is there was seen before
        return empty(headers={"x-amz-bucket-region": self._region})

    async def delete(self, request: S3Request) -> Response:
        await self._buckets.delete(request.bucket_name)
        return empty(204)

    async def location(self, request: S3Request) -> Response:  # noqa: ARG002 - all buckets are in one place
        return answer("LocationConstraint", "" if self._region == _FIRST_REGION else self._region)

    async def versioning(self, request: S3Request) -> Response:
        versioning = request.bucket.versioning
        status = next((status for status, kept in _STATUS.items() if kept == versioning), None)
        return answer("VersioningConfiguration", {"Status": status})

    async def set_versioning(self, request: S3Request) -> Response:
        require_settings(request)
        wanted = parse(await request.body.document(MAX_DOCUMENT), "VersioningConfiguration", MAX_DOCUMENT)
        if (wanted.maybe_text("MfaDelete") or "Disabled") != "Disabled" or "x-amz-mfa" in request.headers:
            raise S3Error("NotImplemented", "MFA Delete is not implemented.")
        if not wanted.maybe("Status"):
            raise S3Error("IllegalVersioningConfigurationException", "The Versioning element must be specified")
        await self._buckets.set_versioning(request.bucket.name, _STATUS[wanted.choice("Status", tuple(_STATUS))])
        return empty()


def _settings_from_headers(request: S3Request) -> dict[str, Any]:
    headers = request.headers
    ownership = headers.get("x-amz-object-ownership")
    if ownership is not None and ownership not in OWNERSHIPS:
        raise S3Error(
            "InvalidArgument",
            f"The header must be one of {', '.join(OWNERSHIPS)}.",
            ArgumentName="x-amz-object-ownership",
            ArgumentValue=ownership,
        )
    acl = of_bucket(request.caller.owner).asked(headers) or "private"
    if acl != "private" and ownership == "BucketOwnerEnforced":
        raise S3Error(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced",
        )
    settings = {"ownership": ownership, "acl": None if acl == "private" else acl}
    return {name: value for name, value in settings.items() if value is not None}
