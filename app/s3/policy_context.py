"""What a request is, in the words of policies: the values of condition keys.

Source: the Service Authorization Reference, "Condition keys for Amazon S3"; the IAM user guide, "Global condition
context keys".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from urllib.parse import unquote

from app.models.buckets import Bucket
from app.s3.asked import MOST
from app.s3.policy import Ask, user_of
from app.s3.policy_conditions import EXISTING_TAG, KEYS, parse_address
from app.s3.policy_patterns import Lookup
from app.s3.request import S3Request
from app.s3.sigkey import ALGORITHM
from app.s3.sigrequest import parse_query

_LISTS = ("ListObjects", "ListObjectsV2", "ListObjectVersions")
_COPY_SOURCE = "x-amz-copy-source"


@dataclass(frozen=True, slots=True)
class Target:
    """What somebody wants to do with what: an object and maybe a version of it, or the bucket; `prefix` is that of a
    list. `tags` are the object's, where the policy asks for them."""

    action: str
    bucket: Bucket
    key: str = ""
    version: str = ""
    prefix: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return f"{self.bucket.name}/{self.key}" if self.key else self.bucket.name


def asked(request: S3Request, target: Target) -> Ask:
    return Ask(request.caller, target.action, target.resource, _lookup(request, target))


def _lookup(request: S3Request, target: Target) -> Lookup:
    @cache
    def values(key: str) -> Sequence[str] | None:
        name, _, tag = key.partition("/")
        meant = KEYS[name].actions
        if meant is not None and target.action not in meant:
            return None
        if name == EXISTING_TAG:
            value = target.tags.get(tag)
        elif name == "s3:requestobjecttag":
            value = _request_tags(request).get(tag)
        elif name == "s3:requestobjecttagkeys":
            return list(_request_tags(request))
        else:
            value = _VALUES[name](request, target) if name in _VALUES else request.headers.get(name.partition(":")[2])
        return None if value is None else (value,)

    return values


def _request_tags(request: S3Request) -> Mapping[str, str]:
    """Those that an object is to get. What is wrong with them is said where they are read."""
    if request.tags is not None:
        return request.tags
    headers = request.headers
    if _COPY_SOURCE in request.operation.headers and headers.get("x-amz-tagging-directive") != "REPLACE":
        return {}
    pairs = parse_query(headers.get("x-amz-tagging", "").encode())
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs}


# Values that are not those of a header of the same name


def _account(request: S3Request, _: Target) -> str | None:
    return request.caller.owner or None


def _arn(request: S3Request, _: Target) -> str | None:
    caller = request.caller
    user = user_of(caller)
    return f"arn:aws:iam::{caller.owner}:{f'user/{user}' if user else 'root'}" if caller.owner else None


def _type(request: S3Request, _: Target) -> str:
    if not request.caller.owner:
        return "Anonymous"
    return "User" if user_of(request.caller) else "Account"


def _signature_age(request: S3Request, _: Target) -> str | None:
    came = request.came
    if came.signature is None:
        return None
    return str(max(came.moment - came.signature.moment, timedelta()) // timedelta(milliseconds=1))


def _max_keys(request: S3Request, _: Target) -> str | None:
    return (request.parameter("max-keys") or str(MOST)) if request.operation.name in _LISTS else None


def _delimiter(request: S3Request, _: Target) -> str | None:
    return request.parameter("delimiter") if request.operation.name in _LISTS else None


def _copy_source(request: S3Request, _: Target) -> str | None:
    """As `bucket/key`, however it is encoded; of a copy only, so that nobody else passes for one."""
    if _COPY_SOURCE not in request.operation.headers:
        return None
    return unquote(request.headers[_COPY_SOURCE].partition("?versionId=")[0]).removeprefix("/")


_VALUES: Mapping[str, Callable[[S3Request, Target], str | None]] = {
    "aws:username": lambda request, _: user_of(request.caller) or None,
    "aws:principalaccount": _account,
    "aws:principalarn": _arn,
    "aws:principaltype": _type,
    "aws:referer": lambda request, _: request.came.referer,
    "aws:useragent": lambda request, _: request.came.user_agent,
    "aws:sourceip": lambda request, _: request.came.address if parse_address(request.came.address) else None,
    "aws:securetransport": lambda request, _: str(request.came.secure).lower(),
    "aws:currenttime": lambda request, _: request.came.moment.isoformat(),
    "aws:epochtime": lambda request, _: str(int(request.came.moment.timestamp())),
    "s3:authtype": lambda request, _: request.came.signature.kind if request.came.signature else None,
    "s3:signatureversion": lambda request, _: ALGORITHM if request.came.signature else None,
    "s3:signatureage": _signature_age,
    "s3:x-amz-content-sha256": lambda request, _: request.body.payload.text,
    "s3:prefix": lambda _, target: target.prefix,
    "s3:delimiter": _delimiter,
    "s3:max-keys": _max_keys,
    "s3:versionid": lambda _, target: target.version or None,
    "s3:x-amz-copy-source": _copy_source,
}
