"""PostObject: a file in a browser's form (S3 API reference, "POST Object", and "Browser-Based Uploads Using POST")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit

from starlette.responses import Response

from app.s3.address import MAX_KEY
from app.s3.checksums import DEFAULT, Declared, declared
from app.s3.configuration import MAX_DOCUMENT
from app.s3.credentials import by_any, find_credentials
from app.s3.entry import Described, checksum_headers, described, full_checksum, version_headers
from app.s3.errors import S3Error
from app.s3.lifecycle import expiration_headers
from app.s3.object_lock import allow_lock, require_digest
from app.s3.parts import S3Parts
from app.s3.post_policy import PostPolicy, access_key
from app.s3.preconditions import write_condition
from app.s3.request import Handler, S3Request, Signature, empty
from app.s3.tagging import OBJECT_TAGS, tags_from
from app.s3.xml import document, parse
from app.store.objects import name_of
from app.streams.ingest import Ingest
from app.streams.multipart import Event, Field, FileBegin, FileData, FormParser
from app.streams.sums import Sums
from app.types import Entry, File

MAX_FIELDS = 20_000
"""Bytes of all fields before the file."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_FREE = ("key", "policy", "tagging")
"""Fields that do not become headers of anything."""


class FormUploads:
    def __init__(self, parts: S3Parts, region: str) -> None:
        self._parts = parts
        self._region = region

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"PostObject": self.post}

    async def post(self, request: S3Request) -> Response:
        form = FormParser(request.headers.get("content-type"), keep_fields=True)
        async with self._parts.objects.upload(request.bucket.owner) as ingest:
            upload = _Upload(request, self, ingest)

            async def write(data: bytes | memoryview) -> None:
                for event in form.feed(bytes(data)):
                    await upload.take(event)

            try:
                await request.body.copy_to(write)
                form.finish()
                return await upload.commit()
            finally:
                upload.close()

    async def allowed(self, request: S3Request, fields: Mapping[str, str]) -> _Allowed:
        """What a form may put. Raises S3Error, AccessDenied among others."""
        policy = PostPolicy.parse(fields["policy"]) if "policy" in fields else None
        if policy:
            request = await self._signed(request, policy, fields)
            policy.check(fields, request.bucket_name, request.key, None)
        await self._parts.authorizer.on_object(request, "s3:PutObject", request.bucket, request.key)
        wanted = described(request)
        if request.tags is not None:
            wanted = replace(wanted, entry=replace(wanted.entry, tags=request.tags))
        await self._parts.authorizer.on_new_object(request, wanted.entry)
        await allow_lock(self._parts, request, wanted.entry.lock)
        return _Allowed(request, wanted, policy)

    async def _signed(self, request: S3Request, policy: PostPolicy, fields: Mapping[str, str]) -> S3Request:
        """The request of whoever signed its form."""
        if self._parts.access.is_open:
            return request
        known, now = await find_credentials(self._parts.access, access_key(fields)), datetime.now(UTC)
        moment = by_any(known.secrets, lambda secret: policy.verify(fields, secret, now, self._region))
        came = replace(request.came, signature=Signature("POST", moment))
        return replace(request, caller=known.caller, came=came)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A form as a request: its headers are the fields, its caller is who signed the policy that it keeps to."""

    request: S3Request
    wanted: Described
    policy: PostPolicy | None


@dataclass(slots=True)
class _Begun:
    """What is known of the object when its bytes begin to come."""

    request: S3Request
    wanted: Described
    policy: PostPolicy | None
    told: Declared
    sums: Sums
    size: int = 0

    def check_size(self, *, whole: bool) -> None:
        """Raises S3Error EntityTooLarge, EntityTooSmall."""
        most = self.policy.max_size if self.policy else None
        if self.policy and (whole or (most is not None and self.size > most)):
            self.policy.check_size(self.size)


class _Upload:
    """One form, part by part; the fields are in lower case."""

    def __init__(self, request: S3Request, uploads: FormUploads, ingest: Ingest) -> None:
        self._request = request
        self._uploads = uploads
        self._ingest = ingest
        self._fields: dict[str, str] = {}
        self._size = 0
        self._begun: _Begun | None = None

    async def take(self, event: Event) -> None:
        match event:
            case FileData(data):
                await self._write(data)
            case FileBegin(name, _):
                await self._begin(name)
            case Field(name, value):
                self._keep(name.lower(), value)
            case _:
                await self._ingest.end_file()

    def _keep(self, name: str, value: bytes) -> None:
        if self._begun:
            return  # what follows the file means nothing
        self._size += len(name.encode()) + len(value)
        if self._size > MAX_FIELDS:
            message = "Your POST request fields preceding the upload file were too large."
            raise S3Error("MaxPostPreDataLengthExceededError", message)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise S3Error("InvalidArgument", "A field of the form is not in UTF-8.", ArgumentName=name) from None
        if name in self._fields or (name not in _FREE and _CONTROLS.search(text)):
            message = "A field of the form is there twice, or has a line break or another control character."
            raise S3Error("InvalidArgument", message, ArgumentName=name)
        self._fields[name] = text

    async def _begin(self, file_name: str) -> None:
        if self._begun:
            message = "POST requires exactly one file upload per request."
            raise S3Error("IncorrectNumberOfFilesInPostRequest", message)
        key = _key(self._fields, file_name)
        headers = {"x-amz-acl": self._fields["acl"]} if "acl" in self._fields else {}
        request = replace(self._request, key=key, headers=headers | self._fields, tags=self._tags())
        allowed = await self._uploads.allowed(request, self._fields)
        told = declared(self._fields)
        require_digest(request.bucket, allowed.wanted.entry.lock, told, "Post Object")
        sums = Sums({"md5", (told.algorithm or DEFAULT).kind})
        self._begun = _Begun(allowed.request, allowed.wanted, allowed.policy, told, sums)
        await self._ingest.begin_file(name_of(key), allowed.wanted.content_type)

    def _tags(self) -> Mapping[str, str] | None:
        """Raises S3Error MalformedXML, InvalidTag, BadRequest."""
        if "tagging" not in self._fields:
            return None
        tagging = parse(self._fields["tagging"].encode(), "Tagging", MAX_DOCUMENT)
        return tags_from(tagging.one("TagSet"), OBJECT_TAGS)

    async def _write(self, data: bytes) -> None:
        begun = self._begun
        assert begun is not None  # noqa: S101 - the parser begins a file first
        begun.size += len(data)
        begun.check_size(whole=False)
        await begun.sums.update(data)
        await self._ingest.write(data)

    async def commit(self) -> Response:
        begun = self._begun
        assert begun is not None  # noqa: S101 - the parser refuses forms without a file
        begun.check_size(whole=True)
        sums = await begun.sums.finish()
        begun.told.check(sums)
        algorithm = begun.told.algorithm or DEFAULT
        checksum = full_checksum(algorithm.name, sums[algorithm.kind])
        entry = replace(begun.wanted.entry, etag=sums["md5"].hex(), checksum=checksum)
        (file,) = (await self._ingest.commit(entry, write_condition(self._request.headers))).files
        return _answer(begun.request, file, entry)

    def close(self) -> None:
        if self._begun:
            self._begun.sums.close()


def _key(fields: Mapping[str, str], file_name: str) -> str:
    """Raises S3Error InvalidArgument, UserKeyMustBeSpecified, KeyTooLongError."""
    if "key" not in fields:
        message = (
            "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields."
        )
        raise S3Error("InvalidArgument", message, ArgumentName="key")
    key = fields["key"].replace("${filename}", re.split(r"[/\\]", file_name)[-1])
    if not key:
        raise S3Error("UserKeyMustBeSpecified", "The bucket POST must contain a key that is not empty.")
    if (size := len(key.encode())) > MAX_KEY:
        raise S3Error("KeyTooLongError", "Your key is too long", Size=str(size), MaxSizeAllowed=str(MAX_KEY))
    return key


def _answer(request: S3Request, file: File, entry: Entry) -> Response:
    """As the form wants it: a redirect, or a status."""
    bucket, fields = request.bucket_name, request.headers
    where, etag = f"{request.came.url.rstrip('/')}/{quote(request.key)}", f'"{entry.etag}"'
    headers = {"etag": etag, "location": where, **version_headers(request.bucket, file), **checksum_headers(entry)}
    headers |= expiration_headers(request.bucket, file)
    redirect = fields.get("success_action_redirect") or fields.get("redirect") or ""
    if _is_url(redirect):
        told = urlencode({"bucket": bucket, "key": request.key, "etag": etag})
        return empty(303, headers | {"location": f"{redirect}{'&' if urlsplit(redirect).query else '?'}{told}"})
    status = fields.get("success_action_status", "")
    if status == "201":
        result = {"Location": where, "Bucket": bucket, "Key": request.key, "ETag": etag}
        return Response(document("PostResponse", result, namespace=""), 201, headers, media_type="application/xml")
    return empty(200 if status == "200" else 204, headers)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and text.isascii()
