"""Lifecycle rules of buckets, and what answers say of what expires by them. They are carried out by `app.upkeep`."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Mapping
from dataclasses import asdict
from email.utils import format_datetime
from urllib.parse import quote

from starlette.responses import Response

from app.models.buckets import Bucket
from app.models.lifecycle import SETTING, expiry_of, rules_of, upload_expiry_of
from app.models.sessions import UploadSession
from app.s3.configuration import keep
from app.s3.errors import S3Error
from app.s3.lifecycle_rules import MAX_CONFIGURATION, read_rules, written_rule
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.types import File

_MINIMUM = "x-amz-transition-default-minimum-object-size"
_MINIMA = ("all_storage_classes_128K", "varies_by_storage_class")
"""The first one is the default."""

_PLAIN = string.punctuation.translate(str.maketrans("", "", '"%\\')) + " "


def expiration_headers(bucket: Bucket, file: File) -> dict[str, str]:
    """What answers tell of a file that is, or becomes, the current version of its object, and will expire."""
    expiry = expiry_of(bucket, file.entry.key, file) if file.entry else None
    if expiry is None:
        return {}
    date = format_datetime(expiry.at, usegmt=True)
    return {"x-amz-expiration": f'expiry-date="{date}", rule-id="{_header_text(expiry.rule)}"'}


def abort_headers(bucket: Bucket, session: UploadSession) -> dict[str, str]:
    """What answers tell of an upload in parts that will expire."""
    expiry = upload_expiry_of(bucket, session.entry.key, session.created_at)
    if expiry is None:
        return {}
    date = format_datetime(expiry.at, usegmt=True)
    return {"x-amz-abort-date": date, "x-amz-abort-rule-id": _header_text(expiry.rule)}


def _header_text(rule: str) -> str:
    """The ID of a rule. It is encoded as in URLs where it must be; S3 shows spaces, too, as they are."""
    return quote(rule, safe=_PLAIN)


class LifecycleRules:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketLifecycleConfiguration": self.get,
            "PutBucketLifecycleConfiguration": self.put,
            "DeleteBucketLifecycle": self.delete,
        }

    async def get(self, request: S3Request) -> Response:
        configuration = request.bucket.settings.get(SETTING)
        if configuration is None:
            raise S3Error(
                "NoSuchLifecycleConfiguration",
                "The lifecycle configuration does not exist",
                BucketName=request.bucket_name,
            )
        rules = [written_rule(rule) for rule in rules_of(request.bucket)]
        return answer("LifecycleConfiguration", {"Rule": rules}, {_MINIMUM: configuration["minimum"]})

    async def put(self, request: S3Request) -> Response:
        minimum = request.headers.get(_MINIMUM, _MINIMA[0])
        if minimum not in _MINIMA:
            raise S3Error("InvalidRequest", f"Invalid TransitionDefaultMinimumObjectSize found: {minimum[:100]}")
        rules = await asyncio.to_thread(read_rules, await request.body.document(MAX_CONFIGURATION))
        await keep(self._buckets, request, SETTING, {"rules": list(map(asdict, rules)), "minimum": minimum})
        return empty(headers={_MINIMUM: minimum})

    async def delete(self, request: S3Request) -> Response:
        await keep(self._buckets, request, SETTING, None)
        return empty(204)
