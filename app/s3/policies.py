"""Bucket policies, as they are put and given back (S3 user guide, "Bucket policies for Amazon S3")."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from app.s3.authorize import denied, policy_of
from app.s3.configuration import MAX_DOCUMENT, keep, require_settings
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.policy_document import parse_policy
from app.s3.policy_patterns import malformed
from app.s3.request import Handler, S3Request, answer, empty


class Policies:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketPolicy": self.get,
            "PutBucketPolicy": self.put,
            "DeleteBucketPolicy": self.delete,
            "GetBucketPolicyStatus": self.status,
        }

    async def get(self, request: S3Request) -> Response:
        _require_owner(request)
        text = request.bucket.settings.get("policy")
        if text is None:
            raise _none(request)
        return Response(text, media_type="application/json")

    async def put(self, request: S3Request) -> Response:
        """The text is kept as it came."""
        _require_owner(request)
        require_settings(request)
        try:
            text = (await request.body.document(MAX_DOCUMENT, "MalformedPolicy")).decode()
        except UnicodeDecodeError:
            raise malformed("Policies must be valid JSON, in UTF-8, and the first byte must be '{'") from None
        policy = parse_policy(text, request.bucket.name)
        if policy.is_public and request.bucket.settings.get("publicAccessBlock", {}).get("BlockPublicPolicy"):
            raise denied()
        await keep(self._buckets, request, "policy", text)
        return empty(204)

    async def delete(self, request: S3Request) -> Response:
        _require_owner(request)
        await keep(self._buckets, request, "policy", None)
        return empty(204)

    async def status(self, request: S3Request) -> Response:
        policy = policy_of(request.bucket)
        if policy is None:
            raise _none(request)
        return answer("PolicyStatus", {"IsPublic": policy.is_public})


def _require_owner(request: S3Request) -> None:
    """Of another account nobody may, even if the policy allows it. Raises S3Error MethodNotAllowed (PutBucketPolicy of
    the S3 API reference)."""
    if not request.caller.sees(request.bucket.owner):
        raise S3Error(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            Method=request.method,
            ResourceType="BUCKETPOLICY",
        )


def _none(request: S3Request) -> S3Error:
    return S3Error("NoSuchBucketPolicy", "The bucket policy does not exist", BucketName=request.bucket_name)
