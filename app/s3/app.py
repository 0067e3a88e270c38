"""The S3 API as an ASGI application: from a request to the operation that it means, by the caller that it is from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import MiniS3Error, NoSuchBucket
from app.logs import get_logger
from app.models.buckets import Bucket
from app.s3.address import Address, parse_address
from app.s3.authorize import denied
from app.s3.body import Body
from app.s3.cors import cors_headers
from app.s3.credentials import by_any, find_credentials
from app.s3.dispatch import Dispatch, not_implemented
from app.s3.errors import S3Error, as_s3
from app.s3.handlers import handlers
from app.s3.operations import Operation
from app.s3.parts import S3Parts
from app.s3.request import Circumstances, S3Request, Signature
from app.s3.sigkey import ChunkSigner
from app.s3.sigrequest import SignedRequest, parse_query
from app.s3.sigv4 import Payload, anonymous_payload, authorization
from app.s3.xml import error_document
from app.store.access import ANONYMOUS, EVERYONE, Caller
from app.web.context import Linger, RequestContext

log = get_logger(__name__)

_SERVER_ID = hashlib.sha256(b"mini-s3").hexdigest()
"""What stands in `x-amz-id-2`: there are no hosts to tell apart."""

_OF_NO_BUCKET = ("CreateBucket", "PreflightBucket", "PreflightObject")
"""Operations that have a bucket in their address, which need not be there."""

_FIRST_LOOKS = ("HeadBucket", "GetBucketLocation")
"""What clients do with a bucket before they do anything in it."""

_TOLD_BY_BODY = ("DeleteObjects", "PostObject", "PutObjectTagging")
"""Operations whose handlers see to it that the caller may do this: what they are about stands in the body."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """`domain` is that below which buckets are hosts, or empty."""

    domain: str
    region: str
    idle_timeout: float


@dataclass(frozen=True, slots=True)
class _Sender:
    """Who sends a request, how it is signed, and how its body is written."""

    caller: Caller
    payload: Payload
    signature: Signature | None = None
    signer: ChunkSigner | None = None


class S3App:
    def __init__(self, parts: S3Parts, settings: S3Settings) -> None:
        self._dispatch = Dispatch(handlers(parts, settings.region))
        self._buckets = parts.buckets
        self._authorizer = parts.authorizer
        self._access = parts.access
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            log.info("client gone in mid-request")
            response = Response(status_code=400)
        except MiniS3Error as error:
            response = _refusal(as_s3(error), scope)
        except Exception:
            log.exception("request failed", path=scope["path"])
            response = _refusal(S3Error("InternalError", "We encountered an internal error. Please try again."), scope)
        response.headers.update(scope.get("cors", {}))
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        signed = SignedRequest(scope["method"], _raw_path(scope), scope["query_string"], scope["headers"])
        headers = _headers(scope["headers"])
        address = parse_address(headers.get("host", ""), signed.path, self._settings.domain)
        query = _query(signed.query)
        operation, handler = self._dispatch.find(signed.method, address.bucket, address.key, query, headers)
        scope["operation"] = f"s3:{operation.name}"
        bucket, lacking = await self._bucket(operation, address)
        # A page of another origin may read the answer also where the signature is wrong.
        scope["cors"] = cors_headers(bucket, signed.method, headers)
        sender = await self._sender(signed)
        if lacking:
            raise lacking
        body = Body(receive, headers, sender.payload, sender.signer, self._settings.idle_timeout)
        came = _circumstances(scope, headers, sender.signature)
        request = S3Request(operation, address.bucket, address.key, query, headers, sender.caller, body, came, bucket)
        await self._authorize(request)
        if handler is None:
            raise not_implemented(operation)
        return await handler(request)

    async def _sender(self, request: SignedRequest) -> _Sender:
        """Raises S3Error where the request is not from whom it says it is."""
        claim = authorization(request)
        if claim is None:
            return _Sender(EVERYONE if self._access.is_open else ANONYMOUS, anonymous_payload(request))
        signature = Signature("REST-HEADER" if claim.expires is None else "REST-QUERY-STRING", claim.moment)
        if self._access.is_open:
            return _Sender(EVERYONE, claim.payload, signature)
        known = await find_credentials(self._access, claim.access_key)
        signer = by_any(known.secrets, lambda secret: claim.verify(secret, datetime.now(UTC), self._settings.region))
        return _Sender(known.caller, claim.payload, signature, signer)

    async def _bucket(self, operation: Operation, address: Address) -> tuple[Bucket | None, NoSuchBucket | None]:
        """The bucket that the operation is on, if it is on one, or that it is not there."""
        if not address.bucket or operation.name in _OF_NO_BUCKET:
            return None, None
        try:
            return await self._buckets.find(address.bucket), None
        except NoSuchBucket as error:
            return None, error

    async def _authorize(self, request: S3Request) -> None:
        expected = request.headers.get("x-amz-expected-bucket-owner")
        if expected is not None and request.found_bucket and request.bucket.owner != expected:
            raise denied()
        if request.operation.name in _TOLD_BY_BODY:
            return
        for action in request.operation.actions_for(request.query):
            if request.operation.name in _FIRST_LOOKS:
                await self._authorizer.on_existence(request, action)
            elif request.found_bucket is None:
                self._authorizer.on_service(request.caller, action, request.bucket_name)
            elif request.operation.level == "object":
                await self._authorizer.on_object(request, action, request.bucket, request.key, request.version)
            else:
                await self._authorizer.on_bucket(request, action, request.bucket, request.parameter("prefix"))


def build_s3(parts: S3Parts, settings: S3Settings) -> ASGIApp:
    return RequestContext(Linger(S3App(parts, settings)), _surrounded)


def _surrounded(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        *headers,
        (b"x-amz-request-id", request_id.upper().encode()),
        (b"x-amz-id-2", _SERVER_ID.encode()),
        (b"server", b"Mini-S3"),
    ]


def _refusal(error: S3Error, scope: Scope) -> Response:
    content = error_document(error, scope["method"], scope["path"], scope["request_id"].upper(), _SERVER_ID)
    return Response(content, error.status, error.headers, media_type="application/xml" if content else None)


def _raw_path(scope: Scope) -> bytes:
    """As it was sent: uvicorn leaves the query out of it."""
    raw: bytes = scope["raw_path"]
    return raw


def _circumstances(scope: Scope, headers: Mapping[str, str], signature: Signature | None) -> Circumstances:
    return Circumstances(
        f"{scope['scheme']}://{headers.get('host', '')}{scope['raw_path'].decode('latin-1')}",
        datetime.now(UTC),
        scope["client"][0] if scope.get("client") else "",
        scope["scheme"] == "https",
        headers.get("referer"),
        headers.get("user-agent"),
        signature,
    )


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Values in UTF-8, as clients send metadata, or else in Latin-1; those of a repeated header are joined."""
    headers: dict[str, str] = {}
    for name, value in raw:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        known = headers.get(name.decode("latin-1"))
        headers[name.decode("latin-1")] = text if known is None else f"{known},{text}"
    return headers


def _query(raw: bytes) -> dict[str, list[str]]:
    query: dict[str, list[str]] = {}
    try:
        for name, value in parse_query(raw):
            query.setdefault(name.decode(), []).append(value.decode())
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI. Its query is to be in UTF-8.") from None
    return query
