"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app import errors
from app.errors import MiniS3Error

_STATUS: dict[type[MiniS3Error], int] = {
    errors.BadRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.UploadStalled: 408,
    errors.InvalidPart: 409,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.UnsupportedVersion: 412,
    errors.TooLarge: 413,
    errors.WrongMediaType: 415,
    errors.RangeNotSatisfiable: 416,
    errors.RateLimited: 429,
    errors.ChecksumMismatch: 460,
    errors.Damaged: 500,
    errors.Unavailable: 503,
    errors.NoSpace: 507,
}
_TITLES = {460: "Checksum Mismatch"}
"""Of statuses that other protocols than HTTP name."""

_CODES = {
    401: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    411: "length-required",
    413: "too-large",
}


_CHALLENGES = ('Basic realm="Mini-S3", charset="UTF-8"', 'Bearer realm="Mini-S3"')
"""What an answer 401 asks for (RFC 9110, section 11.6.1). Each is a header of its own: not every client finds the
second one in a list."""


def problem(request: Request, error: MiniS3Error) -> Response:
    """The answer to an error that was raised on purpose; any other kind of it is a fault of ours."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unavailable | errors.RateLimited):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    more = {"missing": [digest.hex() for digest in error.digests]} if isinstance(error, errors.ChunksMissing) else {}
    answer = document(request, status, error.code, error.message, headers, more)
    if isinstance(error, errors.Unauthenticated):
        for challenge in _CHALLENGES:
            answer.headers.append("WWW-Authenticate", challenge)
    return answer


async def on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MiniS3Error)  # noqa: S101 - registered for this class only
    return problem(request, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own answers: no such route, method not allowed."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = _CODES.get(error.status_code, "bad-request")
    return document(request, error.status_code, code, error.detail, dict(error.headers or {}))


async def on_fault(request: Request, _error: Exception) -> Response:
    """A fault of ours, which goes on to the log."""
    detail = "Something went wrong in the server. The administrator finds details in the log."
    return document(request, 500, MiniS3Error.code, detail, {})


def document(
    request: Request,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str],
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    body = {
        "type": "about:blank",
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "requestId": request.scope.get("request_id"),
        **more,
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")
