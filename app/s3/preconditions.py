"""What must be true of an object that is written or deleted, and of the source of a copy (S3 user guide, "Conditional
requests")."""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import PreconditionFailed
from app.http.conditions import Verdict, check
from app.models.objects import ANYHOW, Condition, Version
from app.s3.authorize import Authorizer
from app.s3.errors import S3Error
from app.s3.request import S3Request

_DIRECTORY = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size")
"""Conditions of directory buckets, which must not be overlooked."""

_OF_SOURCE = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def write_condition(headers: Mapping[str, str]) -> Condition:
    """Raises S3Error NotImplemented where If-None-Match is not `*`, as S3 does."""
    none_match, match = headers.get("if-none-match"), headers.get("if-match")
    if none_match is None and match is None:
        return ANYHOW
    if none_match is not None and none_match.strip() != "*":
        raise _not_implemented("If-None-Match")
    return Condition(absent=none_match is not None, etag=unquoted(match) if match else "")


def delete_condition(headers: Mapping[str, str]) -> Condition:
    """Raises S3Error NotImplemented for conditions that there are not here."""
    for name in (*_DIRECTORY, "if-none-match"):
        if name in headers:
            raise _not_implemented(name)
    return write_condition(headers)


def unquoted(etag: str) -> str:
    return etag.strip().removeprefix('"').removesuffix('"')


async def allow_condition(authorizer: Authorizer, request: S3Request, condition: Condition) -> None:
    """Who compares the ETag of an object learns of it: he must be one who may read it. Raises S3Error AccessDenied."""
    if condition.etag not in ("", "*"):
        await authorizer.on_object(request, "s3:GetObject", request.bucket, request.key)


def check_source(headers: Mapping[str, str], source: Version) -> None:
    """The conditions on the source of a copy. Raises PreconditionFailed."""
    prefix = "x-amz-copy-source-"
    given = {name: headers[prefix + name] for name in _OF_SOURCE if prefix + name in headers}
    for name in ("if-match", "if-none-match"):
        # Many clients leave the quotes away here.
        if name in given and '"' not in given[name] and given[name].strip() != "*":
            given[name] = f'"{given[name].strip()}"'
    if check(given, etag=f'"{source.etag}"', modified=source.created_at) is not Verdict.PROCEED:
        raise PreconditionFailed("At least one of the pre-conditions on the source of the copy does not hold.")


def _not_implemented(name: str) -> S3Error:
    return S3Error("NotImplemented", f"The condition {name} is not implemented for this request.", Header=name)
