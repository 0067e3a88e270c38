"""Who a request says it is from, and whether that is true: AWS Signature Version 4, in a header or in the query.

Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)"; codes and messages as S3 gives them.
The body is not seen here: `Claim.payload` says what it has to be like.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Self

from app.s3.errors import S3Error
from app.s3.sigkey import (
    ALGORITHM,
    HEADER,
    PARAMETER,
    ChunkSigner,
    Credential,
    format_basic,
    format_extended,
    mismatch,
    parse_basic,
    parse_extended,
    same,
    sign,
)
from app.s3.sigrequest import SignedRequest, parse_query

MAX_SKEW = timedelta(minutes=15)
MAX_EXPIRES = 604_800
"""Seconds that a presigned request may be good for: a week."""

_SHA256_HEADER = "x-amz-content-sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_KINDS = (_UNSIGNED, _CHUNKS_TRAILER, _SIGNED_CHUNKS, _SIGNED_CHUNKS_TRAILER)

_ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
_COMPONENTS = ("Credential", "SignedHeaders", "Signature")
_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_MARKS = frozenset({b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Signature"})
"""A query with one of these is meant to be presigned."""
_MARKS_V2 = frozenset({b"AWSAccessKeyId", b"Signature"})

_NAMES = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+(?:;[!#$%&'*+\-.^_`|~0-9a-z]+)*")
_SECONDS = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Payload:
    """What `x-amz-content-sha256` says of the body. `text` is its value, which signatures cover."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises S3Error: NotImplemented, InvalidArgument."""
        if text.startswith("STREAMING-AWS4-ECDSA-"):
            raise _asymmetric()
        if text not in _KINDS and not _DIGEST.fullmatch(text):
            raise S3Error(
                "InvalidArgument",
                f"{_SHA256_HEADER} must be {', '.join(_KINDS)}, or a valid sha256 value.",
                ArgumentName=_SHA256_HEADER,
                ArgumentValue=text,
            )
        return cls(text)

    @property
    def sha256(self) -> str | None:
        """The digest of the whole body, in hexadecimal, where it is known from the start."""
        return None if self.text in _KINDS else self.text

    @property
    def chunked(self) -> bool:
        """Whether the body is encoded as aws-chunked."""
        return self.text in (_CHUNKS_TRAILER, _SIGNED_CHUNKS, _SIGNED_CHUNKS_TRAILER)

    @property
    def signed_chunks(self) -> bool:
        return self.text in (_SIGNED_CHUNKS, _SIGNED_CHUNKS_TRAILER)

    @property
    def trailer(self) -> bool:
        """Whether headers follow the last chunk."""
        return self.text in (_CHUNKS_TRAILER, _SIGNED_CHUNKS_TRAILER)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about who sent it. Nothing of it is true before `verify` returned.

    `signed_headers` are sorted; `expires` is in seconds, None where the signature is in a header.
    """

    request: SignedRequest
    credential: Credential
    signed_headers: tuple[str, ...]
    signature: str
    moment: datetime
    expires: int | None
    payload: Payload

    @property
    def access_key(self) -> str:
        return self.credential.access_key

    def verify(self, secret: str, now: datetime, region: str) -> ChunkSigner | None:
        """Return the signer of the body's chunks, None where these are not signed.

        `secret` is that of the access key, `now` is aware. Raises S3Error: SignatureDoesNotMatch,
        RequestTimeTooSkewed, AccessDenied for a presigned request out of its time, AuthorizationHeaderMalformed or
        AuthorizationQueryParametersError for another scope.
        """
        timestamp = format_basic(self.moment)
        self.credential.check(timestamp, region)
        if self.expires is None:
            self._check_skew(now)
        else:
            self._check_expiry(now, self.expires)
        canonical = self.request.canonical(self.signed_headers, self.payload.text)
        scope = self.credential.scope
        text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
        key = self.credential.signing_key(secret)
        expected = sign(key, text.encode())
        if not same(expected, self.signature):
            raise mismatch(
                AWSAccessKeyId=self.access_key,
                StringToSign=text,
                SignatureProvided=self.signature,
                StringToSignBytes=text.encode().hex(" "),
                CanonicalRequest=canonical.decode(errors="backslashreplace"),
                CanonicalRequestBytes=canonical.hex(" "),
            )
        return ChunkSigner(key, scope, timestamp, expected) if self.payload.signed_chunks else None

    def _check_skew(self, now: datetime) -> None:
        if abs(now - self.moment) > MAX_SKEW:
            raise S3Error(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                RequestTime=format_basic(self.moment),
                ServerTime=format_extended(now),
                MaxAllowedSkewMilliseconds=str(MAX_SKEW // timedelta(milliseconds=1)),
            )

    def _check_expiry(self, now: datetime, expires: int) -> None:
        if self.moment - now > MAX_SKEW:
            raise S3Error("AccessDenied", "Request is not valid yet", ServerTime=format_extended(now))
        if now - self.moment > timedelta(seconds=expires):
            raise S3Error(
                "AccessDenied",
                "Request has expired",
                **{"X-Amz-Expires": str(expires)},
                Expires=format_extended(self.moment + timedelta(seconds=expires)),
                ServerTime=format_extended(now),
            )


def authorization(request: SignedRequest) -> Claim | None:
    """What the request claims; None where it is anonymous.

    Raises S3Error for anything between the two: a claim that is malformed or incomplete, that leaves headers
    unsigned which must be, is made twice or by another scheme.
    """
    names = {name for name, _ in parse_query(request.query)}
    presigned = not names.isdisjoint(_MARKS)
    presigned_v2 = names >= _MARKS_V2
    headers = request.values("authorization")
    if presigned + presigned_v2 + len(headers) > 1:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
        )
    if presigned_v2:
        raise _version_2()
    if presigned:
        return _presigned(request)
    return _in_header(request, headers[0]) if headers else None


def anonymous_payload(request: SignedRequest) -> Payload:
    """What the body of a request without a claim has to be like. Raises S3Error, also where chunks are to be signed."""
    text = _single(request, _SHA256_HEADER)
    payload = Payload(_UNSIGNED) if text is None else Payload.parse(text)
    if payload.signed_chunks:
        raise S3Error("InvalidRequest", "The chunks of a request that is not signed itself can't be signed.")
    return payload


def _in_header(request: SignedRequest, value: str) -> Claim:
    scheme, _, rest = value.partition(" ")
    _check_scheme(scheme)
    parts = [part.strip().partition("=") for part in rest.split(",")]
    components = {name: text for name, _, text in parts}
    if len(parts) != len(_COMPONENTS) or components.keys() != set(_COMPONENTS):
        raise HEADER.error(
            "the authorization header requires three components: Credential, SignedHeaders, and Signature."
        )
    if not _NAMES.fullmatch(components["SignedHeaders"]):
        raise HEADER.error("SignedHeaders must be names of headers, in lower case, separated by semicolons.")
    credential = Credential.parse(components["Credential"], HEADER)
    moment = _date(request)
    text = _single(request, _SHA256_HEADER)
    if text is None:
        raise S3Error("InvalidRequest", f"Missing required header for this request: {_SHA256_HEADER}")
    return Claim(
        request=request,
        credential=credential,
        signed_headers=_signed_headers(request, components["SignedHeaders"]),
        signature=components["Signature"],
        moment=moment,
        expires=None,
        payload=Payload.parse(text),
    )


def _check_scheme(scheme: str) -> None:
    if scheme == "AWS":
        raise _version_2()
    if scheme == _ASYMMETRIC:
        raise _asymmetric()
    if scheme != ALGORITHM:
        raise S3Error(  # what follows the scheme may be a password, and is not repeated
            "InvalidArgument",
            f"Unsupported Authorization Type. Please use {ALGORITHM}.",
            ArgumentName="Authorization",
            ArgumentValue=scheme,
        )


def _presigned(request: SignedRequest) -> Claim:
    given = _parameters(request)
    if given["X-Amz-Algorithm"] == _ASYMMETRIC:
        raise _asymmetric()
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _bad_parameter(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    credential = Credential.parse(given["X-Amz-Credential"], PARAMETER)
    moment = parse_basic(given["X-Amz-Date"])
    if moment is None:
        raise _bad_parameter("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if not _NAMES.fullmatch(given["X-Amz-SignedHeaders"]):
        raise _bad_parameter("X-Amz-SignedHeaders must be names of headers, in lower case, separated by semicolons.")
    return Claim(
        request=request,
        credential=credential,
        signed_headers=_signed_headers(request, given["X-Amz-SignedHeaders"]),
        signature=given["X-Amz-Signature"],
        moment=moment,
        expires=_expires(given["X-Amz-Expires"]),
        payload=_presigned_payload(request, given.get("X-Amz-Content-Sha256")),
    )


def _parameters(request: SignedRequest) -> dict[str, str]:
    """The parameters of the query that make up its claim, each of them once."""
    given: dict[str, str] = {}
    for name, value in parse_query(request.query):
        parameter = name.decode("latin-1")
        if parameter not in (*_PARAMETERS, "X-Amz-Content-Sha256"):
            continue
        if parameter in given:
            raise _bad_parameter(f"The query has {parameter} more than once.")
        given[parameter] = value.decode("latin-1")
    if not given.keys() >= set(_PARAMETERS):
        raise _bad_parameter(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    return given


def _expires(text: str) -> int:
    if not _SECONDS.fullmatch(text):
        raise _bad_parameter("X-Amz-Expires should be a number")
    if text.startswith("-") or not text.strip("0"):
        raise _bad_parameter("X-Amz-Expires must be positive")
    significant = text.lstrip("0")
    if len(significant) > len(str(MAX_EXPIRES)) or int(significant) > MAX_EXPIRES:
        raise _bad_parameter(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            f"{MAX_EXPIRES} seconds"
        )
    return int(significant)


def _presigned_payload(request: SignedRequest, parameter: str | None) -> Payload:
    header = _single(request, _SHA256_HEADER)
    if header is not None and parameter is not None and header != parameter:
        raise _bad_parameter(f"The header {_SHA256_HEADER} is not the same as the parameter X-Amz-Content-Sha256.")
    text = header if header is not None else parameter
    return Payload(_UNSIGNED) if text is None else Payload.parse(text)


def _signed_headers(request: SignedRequest, text: str) -> tuple[str, ...]:
    """The names, sorted. Raises S3Error unless `host` and every header of S3's own are among them."""
    names = set(text.split(";"))
    must = {"host"} | {name.decode("latin-1") for name, _ in request.headers if name.startswith(b"x-amz-")}
    if not_signed := must - names:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(sorted(not_signed)),
        )
    return tuple(sorted(names))


def _date(request: SignedRequest) -> datetime:
    """The time of a request with a header: `x-amz-date`, or `Date` (RFC 9110 or ISO 8601) where that is missing."""
    if (text := _single(request, "x-amz-date")) is not None:
        moment = parse_basic(text)
    else:
        text = _single(request, "date") or ""
        moment = parse_basic(text) or parse_extended(text) or _http_date(text)
    if moment is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return moment


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _single(request: SignedRequest, name: str) -> str | None:
    """The value of a header that may stand once."""
    values = request.values(name)
    if len(values) > 1:
        raise S3Error("InvalidRequest", f"The request has the header {name} more than once.")
    return values[0] if values else None


def _bad_parameter(message: str) -> S3Error:
    return S3Error("AuthorizationQueryParametersError", message)


def _version_2() -> S3Error:
    return S3Error(
        "InvalidRequest",
        f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
    )


def _asymmetric() -> S3Error:
    return S3Error("NotImplemented", f"{_ASYMMETRIC} (SigV4A) is not implemented. Please use {ALGORITHM}.")
