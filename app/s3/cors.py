"""Cross-origin requests (S3 user guide, "Using cross-origin resource sharing"; Fetch standard, "CORS protocol")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import Response

from app.errors import NoSuchBucket
from app.models.buckets import Bucket
from app.s3.configuration import MAX_DOCUMENT, keep
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.xml import Element, Value, parse

MAX_RULES = 100

_METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do what from a page of another origin. Each of `origins` and `headers` may have a `*`."""

    methods: Sequence[str]
    origins: Sequence[str]
    headers: Sequence[str]
    exposed: Sequence[str]
    id: str | None
    max_age: int | None
    """Seconds for which a preflight's answer may be kept."""

    @classmethod
    def read(cls, element: Element) -> Rule:
        """Raises S3Error MalformedXML, InvalidRequest."""
        element.only("ID", "AllowedMethod", "AllowedOrigin", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds")

        def texts(name: str) -> list[str]:
            return [one.own_text().strip() for one in element.all(name)]

        rule = cls(
            texts("AllowedMethod"),
            texts("AllowedOrigin"),
            texts("AllowedHeader"),
            texts("ExposeHeader"),
            element.maybe_text("ID"),
            element.maybe_integer("MaxAgeSeconds"),
        )
        rule._check()
        return rule

    def _check(self) -> None:
        if not self.methods or not self.origins:
            raise S3Error("MalformedXML", "A CORSRule needs an AllowedMethod and an AllowedOrigin.")
        for method in self.methods:
            if method not in _METHODS:
                message = f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
                raise S3Error("InvalidRequest", message)
        for name, patterns in (("AllowedOrigin", self.origins), ("AllowedHeader", self.headers)):
            for pattern in patterns:
                if pattern.count("*") > 1:
                    raise S3Error("InvalidRequest", f'{name} "{pattern}" can not have more than one wildcard.')
        for header in self.exposed:
            if "*" in header:
                raise S3Error("InvalidRequest", f'ExposeHeader "{header}" contains a wildcard. It must name headers.')

    def written(self) -> Mapping[str, Value]:
        return {
            "ID": self.id,
            "AllowedMethod": self.methods,
            "AllowedOrigin": self.origins,
            "AllowedHeader": self.headers,
            "ExposeHeader": self.exposed,
            "MaxAgeSeconds": self.max_age,
        }

    def allows(self, origin: str, method: str, headers: Sequence[str]) -> bool:
        return (
            method in self.methods
            and any(_matches(pattern, origin) for pattern in self.origins)
            and all(any(_matches(pattern.lower(), name) for pattern in self.headers) for name in headers)
        )

    def answer(self, origin: str, headers: Sequence[str]) -> dict[str, str]:
        """Headers of the answer to a request that the rule allows."""
        anybody = "*" in self.origins
        answered = {
            "access-control-allow-origin": "*" if anybody else origin,
            "access-control-allow-credentials": "" if anybody else "true",
            "access-control-allow-methods": ", ".join(self.methods),
            "access-control-allow-headers": ", ".join(headers),
            "access-control-expose-headers": ", ".join(self.exposed),
            "access-control-max-age": "" if self.max_age is None else str(self.max_age),
            "vary": _VARY,
        }
        return {name: value for name, value in answered.items() if value}


def cors_headers(bucket: Bucket | None, method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """What an answer says so that a page of the request's origin may read it. Where there are rules, caches are told
    that answers differ by origin."""
    if bucket is None or "cors" not in bucket.settings:
        return {}
    origin = headers.get("origin")
    rule = _find(bucket, origin, method, []) if origin else None
    return rule.answer(origin, []) if rule and origin else {"vary": _VARY}


class Cors:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketCors": self.get,
            "PutBucketCors": self.put,
            "DeleteBucketCors": self.delete,
            "PreflightBucket": self.preflight,
            "PreflightObject": self.preflight,
        }

    async def get(self, request: S3Request) -> Response:
        rules = _rules(request.bucket)
        if not rules:
            raise S3Error(
                "NoSuchCORSConfiguration", "The CORS configuration does not exist", BucketName=request.bucket_name
            )
        return answer("CORSConfiguration", {"CORSRule": [rule.written() for rule in rules]})

    async def put(self, request: S3Request) -> Response:
        configuration = parse(await request.body.document(MAX_DOCUMENT), "CORSConfiguration", MAX_DOCUMENT)
        configuration.only("CORSRule")
        rules = [Rule.read(element) for element in configuration.children]
        if not 1 <= len(rules) <= MAX_RULES:
            raise S3Error("MalformedXML", f"A CORSConfiguration has 1 to {MAX_RULES} rules.")
        await keep(self._buckets, request, "cors", [asdict(rule) for rule in rules])
        return empty()

    async def delete(self, request: S3Request) -> Response:
        await keep(self._buckets, request, "cors", None)
        return empty(204)

    async def preflight(self, request: S3Request) -> Response:
        """Anybody may ask. A bucket that there is not has no rules."""
        origin, method = request.headers.get("origin"), request.headers.get("access-control-request-method")
        if not origin:
            raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
        if not method:
            raise S3Error("BadRequest", "Invalid Access-Control-Request-Method: null")
        names = request.headers.get("access-control-request-headers", "")
        headers = [name.strip().lower() for name in names.split(",") if name.strip()]
        try:
            bucket = await self._buckets.find(request.bucket_name)
        except NoSuchBucket:
            raise _forbidden("CORS is not enabled for this bucket.", method) from None
        if not _rules(bucket):
            raise _forbidden("CORS is not enabled for this bucket.", method)
        rule = _find(bucket, origin, method, headers)
        if rule is None:
            raise _forbidden(
                "This CORS request is not allowed. No rule of the bucket allows this origin, method and headers.",
                method,
            )
        return empty(headers=rule.answer(origin, headers))


def _rules(bucket: Bucket) -> list[Rule]:
    stored: Sequence[Mapping[str, Any]] = bucket.settings.get("cors", ())
    return [Rule(**rule) for rule in stored]


def _find(bucket: Bucket, origin: str, method: str, headers: Sequence[str]) -> Rule | None:
    """The first rule that allows it is the one that counts."""
    return next((rule for rule in _rules(bucket) if rule.allows(origin, method, headers)), None)


def _matches(pattern: str, text: str) -> bool:
    before, star, behind = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(before) + len(behind) and text.startswith(before) and text.endswith(behind)


def _forbidden(reason: str, method: str) -> S3Error:
    return S3Error("AccessForbidden", f"CORSResponse: {reason}", Method=method[:100], ResourceType="BUCKET")
