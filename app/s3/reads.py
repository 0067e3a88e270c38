"""Objects that are read: their bytes, and what is known of them (GetObject, HeadObject and GetObjectAttributes of the
S3 API reference)."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import format_datetime

from starlette.responses import Response

from app.errors import RangeNotSatisfiable
from app.http.conditions import Verdict, check, range_applies
from app.http.ranges import ByteRange, parse_ranges
from app.models.objects import Version
from app.s3.checksums import ALGORITHMS
from app.s3.entry import META, STORAGE_CLASS, checksum_elements, checksum_headers, checksum_type
from app.s3.errors import S3Error, as_s3
from app.s3.lifecycle import expiration_headers
from app.s3.object_lock import lock_headers
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.versions import find_object, version_headers
from app.s3.xml import Value
from app.types import Entry, File, PartSize
from app.web.streaming import Pieces, streamed

MAX_PARTS = 1000
"""Parts listed at once."""
MAX_PART = 10_000

_OVERRIDES: Mapping[str, str] = {
    "response-content-type": "content-type",
    "response-content-language": "content-language",
    "response-expires": "expires",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
}
_OF_304 = ("etag", "last-modified", "cache-control", "expires", "x-amz-version-id")
"""What an answer without a body says all the same (RFC 9110, section 15.4.5)."""

_ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class _Span:
    """What is sent of an object: `range` is None for all of it, `part` the part that this is."""

    range: ByteRange | None = None
    part: PartSize | None = None


class ObjectReads:
    def __init__(self, parts: S3Parts) -> None:
        self._objects = parts.objects
        self._authorizer = parts.authorizer

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"GetObject": self.read, "HeadObject": self.read, "GetObjectAttributes": self.attributes}

    async def read(self, request: S3Request) -> Response:
        overrides = _overrides(request)
        version, file = await find_object(self._objects, request)
        headers = _headers(request, version, file) | overrides
        _check_conditions(request, headers, file)
        span = _span(request, file, headers["etag"])
        sent = span.range or ByteRange(0, file.size)
        headers |= _checksum_headers(request, file.entry, span)
        if file.entry:
            headers |= await lock_headers(self._authorizer, request, file.entry.lock)
        headers["Content-Length"] = str(sent.size)
        if span.range:
            headers["content-range"] = sent.content_range(file.size)
        status = 206 if span.range else 200
        headers = {name: _raw(text) for name, text in headers.items()}
        if request.method == "HEAD":
            return empty(status, headers)
        pieces = Pieces(lambda part: self._objects.read(file, part.start, part.stop), [(b"", sent)])
        return await streamed(pieces, status, headers)

    async def attributes(self, request: S3Request) -> Response:
        wanted = _wanted_attributes(request)
        version, file = await find_object(self._objects, request)
        entry = file.entry
        known: dict[str, Value] = {
            "ETag": version.etag,
            "Checksum": checksum_elements(entry) if entry and entry.checksum else None,
            "ObjectParts": _parts_elements(request, entry) if entry and entry.parts else None,
            "StorageClass": storage_class(file),
            "ObjectSize": file.size,
        }
        headers = {"last-modified": format_datetime(file.created_at, usegmt=True)}
        headers |= version_headers(request.bucket, version)
        content = {name: value for name, value in known.items() if name in wanted}
        return answer("GetObjectAttributesResponse", content, headers)


def storage_class(file: File) -> str:
    return file.entry.headers.get(STORAGE_CLASS, "STANDARD") if file.entry else "STANDARD"


def _headers(request: S3Request, version: Version, file: File) -> dict[str, str]:
    headers = {
        "content-type": file.content_type,
        "etag": f'"{version.etag}"',
        "last-modified": format_datetime(file.created_at, usegmt=True),
        "accept-ranges": "bytes",
        **version_headers(request.bucket, version),
    }
    if file.entry:
        headers |= file.entry.headers
        headers |= _metadata_headers(file.entry.metadata)
        if file.entry.tags and request.caller.sees(request.bucket.owner):
            headers["x-amz-tagging-count"] = str(len(file.entry.tags))
    return headers if request.version else headers | expiration_headers(request.bucket, file)


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Values that are not ASCII are encoded by RFC 2047; what can't be a header is counted."""
    headers = {
        f"{META}{name}": value if _PLAIN.fullmatch(value) else f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="
        for name, value in metadata.items()
        if _TOKEN.fullmatch(name)
    }
    if missing := len(metadata) - len(headers):
        headers["x-amz-missing-meta"] = str(missing)
    return headers


def _raw(text: str) -> str:
    """In the encoding that headers are written in, so that UTF-8 goes out as it came."""
    return text if text.isascii() else text.encode().decode("latin-1")


def _overrides(request: S3Request) -> dict[str, str]:
    """Headers of the answer that the query asks for. Raises S3Error InvalidRequest, InvalidArgument."""
    asked = {name: text for name in _OVERRIDES if (text := request.parameter(name)) is not None}
    if asked and not request.caller.owner:
        raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
    for name, text in asked.items():
        if any(one < " " or one == "\x7f" for one in text):
            raise S3Error("InvalidArgument", "A header may not have control characters.", ArgumentName=name)
    return {_OVERRIDES[name]: text for name, text in asked.items()}


def _check_conditions(request: S3Request, headers: Mapping[str, str], file: File) -> None:
    """Raises S3Error PreconditionFailed, NotModified."""
    asked = {**request.headers}
    for name in ("if-match", "if-none-match"):
        # Clients send ETags without quotes, too.
        if name in asked and '"' not in asked[name] and asked[name].strip() != "*":
            asked[name] = ", ".join(f'"{tag.strip()}"' for tag in asked[name].split(","))
    verdict = check(asked, etag=headers["etag"], modified=file.created_at)
    if verdict is Verdict.FAILED:
        condition = "If-Match" if "if-match" in asked else "If-Unmodified-Since"
        message = "At least one of the pre-conditions you specified did not hold"
        raise S3Error("PreconditionFailed", message, Condition=condition)
    if verdict is Verdict.NOT_MODIFIED:
        told = {name: _raw(headers[name]) for name in _OF_304 if name in headers}
        raise S3Error("NotModified", "Not Modified").with_headers(told)


def _span(request: S3Request, file: File, etag: str) -> _Span:
    """Raises S3Error InvalidRange, InvalidPartNumber, InvalidRequest, InvalidArgument."""
    asked = request.headers.get("range")
    if request.parameter("partNumber") is not None:
        if asked is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return _part(request.number("partNumber", 1, MAX_PART, 1), file)
    if asked is None or "," in asked:
        return _Span()  # of several ranges, S3 sends the whole
    if not range_applies(request.headers.get("if-range"), etag=etag, modified=file.created_at):
        return _Span()
    try:
        ranges = parse_ranges(asked, file.size)
    except RangeNotSatisfiable as error:
        answer_headers = as_s3(error).headers
        raise S3Error(
            "InvalidRange",
            "The requested range is not satisfiable",
            RangeRequested=asked[:100],
            ActualObjectSize=str(file.size),
        ).with_headers(answer_headers) from error
    return _Span(ranges[0] if ranges else None)


def _part(number: int, file: File) -> _Span:
    """An object that was not uploaded in parts is its own first one."""
    parts = file.entry.parts if file.entry else ()
    start = 0
    for part in parts or [PartSize(1, file.size)]:
        if part.number == number:
            span = ByteRange(start, start + part.size) if part.size else None
            return _Span(span, part if parts else None)
        start += part.size
    raise S3Error(
        "InvalidPartNumber",
        "The requested partnumber is not satisfiable",
        PartNumberRequested=str(number),
        ActualPartCount=str(len(parts) or 1),
    )


def _checksum_headers(request: S3Request, entry: Entry | None, span: _Span) -> dict[str, str]:
    """A checksum is told of all the bytes that are sent, or not at all."""
    headers: dict[str, str] = {}
    if span.part and entry:
        headers["x-amz-mp-parts-count"] = str(len(entry.parts))
    if entry is None or request.headers.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        return headers
    if span.part and span.part.checksum and entry.checksum:
        headers[ALGORITHMS[entry.checksum.kind].header] = span.part.checksum
        headers["x-amz-checksum-type"] = checksum_type(entry.checksum)
    elif not span.range:
        headers |= checksum_headers(entry)
    return headers


def _wanted_attributes(request: S3Request) -> Sequence[str]:
    wanted = [name.strip() for name in request.headers.get("x-amz-object-attributes", "").split(",") if name.strip()]
    if not wanted or not set(wanted) <= set(_ATTRIBUTES):
        raise S3Error(
            "InvalidArgument",
            f"Invalid attribute name specified. There are: {', '.join(_ATTRIBUTES)}.",
            ArgumentName="x-amz-object-attributes",
        )
    return wanted


def _parts_elements(request: S3Request, entry: Entry) -> Mapping[str, Value]:
    """Parts are listed where they have checksums; otherwise they are counted only, as S3 does."""
    if not entry.checksum or not all(part.checksum for part in entry.parts):
        return {"PartsCount": len(entry.parts)}
    algorithm = ALGORITHMS[entry.checksum.kind]
    most = min(_header_number(request, "x-amz-max-parts", MAX_PARTS), MAX_PARTS)
    after = _header_number(request, "x-amz-part-number-marker", 0)
    following = [part for part in entry.parts if part.number > after]
    listed: list[Value] = [
        {"PartNumber": part.number, "Size": part.size, algorithm.element: part.checksum} for part in following[:most]
    ]
    return {
        "PartsCount": len(entry.parts),
        "PartNumberMarker": after,
        "NextPartNumberMarker": following[:most][-1].number if listed else 0,
        "MaxParts": most,
        "IsTruncated": len(following) > most,
        "Part": listed,
    }


def _header_number(request: S3Request, name: str, default: int) -> int:
    text = request.headers.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise S3Error("InvalidArgument", f"The header {name} must be a number.", ArgumentName=name, ArgumentValue=text)
    return int(text)
