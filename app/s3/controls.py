"""What limits the ACLs of a bucket: who owns its objects, and which public access is blocked (S3 user guide,
"Controlling ownership of objects" and "Blocking public access")."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from app.s3.configuration import MAX_DOCUMENT, keep
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.xml import parse

OWNERSHIPS = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class Controls:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketOwnershipControls": self.ownership,
            "PutBucketOwnershipControls": self.set_ownership,
            "DeleteBucketOwnershipControls": self.delete_ownership,
            "GetPublicAccessBlock": self.block,
            "PutPublicAccessBlock": self.set_block,
            "DeletePublicAccessBlock": self.delete_block,
        }

    async def ownership(self, request: S3Request) -> Response:
        ownership = request.bucket.settings.get("ownership")
        if ownership is None:
            raise S3Error(
                "OwnershipControlsNotFoundError",
                "The bucket ownership controls were not found",
                BucketName=request.bucket_name,
            )
        return answer("OwnershipControls", {"Rule": {"ObjectOwnership": ownership}})

    async def set_ownership(self, request: S3Request) -> Response:
        controls = parse(await request.body.document(MAX_DOCUMENT), "OwnershipControls", MAX_DOCUMENT)
        ownership = controls.one("Rule").choice("ObjectOwnership", OWNERSHIPS)
        if ownership == "BucketOwnerEnforced" and "acl" in request.bucket.settings:
            raise S3Error(
                "InvalidBucketAclWithObjectOwnership",
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting. Make its ACL private.",
            )
        await keep(self._buckets, request, "ownership", ownership)
        return empty()

    async def delete_ownership(self, request: S3Request) -> Response:
        await keep(self._buckets, request, "ownership", None)
        return empty(204)

    async def block(self, request: S3Request) -> Response:
        blocked = request.bucket.settings.get("publicAccessBlock")
        if blocked is None:
            raise S3Error(
                "NoSuchPublicAccessBlockConfiguration",
                "The public access block configuration was not found",
                BucketName=request.bucket_name,
            )
        return answer("PublicAccessBlockConfiguration", {name: blocked.get(name, False) for name in _BLOCKS})

    async def set_block(self, request: S3Request) -> Response:
        wanted = parse(await request.body.document(MAX_DOCUMENT), "PublicAccessBlockConfiguration", MAX_DOCUMENT)
        wanted.only(*_BLOCKS)
        await keep(self._buckets, request, "publicAccessBlock", {name: wanted.flag(name) for name in _BLOCKS})
        return empty()

    async def delete_block(self, request: S3Request) -> Response:
        await keep(self._buckets, request, "publicAccessBlock", None)
        return empty(204)
