"""Objects that are put, copied and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.responses import Response

from app.errors import MiniS3Error, NoSuchKey
from app.models.catalog import Deletion, Wanted
from app.models.objects import ANYHOW, Condition, Removed
from app.s3.address import MAX_KEY
from app.s3.checksums import DEFAULT, declared, multipart_choice
from app.s3.entry import (
    REDIRECT,
    STORAGE_CLASS,
    Described,
    checksum_elements,
    checksum_headers,
    copied,
    described,
    full_checksum,
    version_headers,
)
from app.s3.errors import S3Error, as_s3
from app.s3.intake import algorithm_of, check_length, read_document, take
from app.s3.lifecycle import expiration_headers
from app.s3.object_lock import BYPASS_ACTION, allow_lock, asks_for_bypass, require_digest
from app.s3.parts import S3Parts
from app.s3.preconditions import allow_condition, delete_condition, unquoted, write_condition
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.source import Source, Sources
from app.s3.xml import Element, Value
from app.store.objects import Wish, name_of
from app.types import Entry

MAX_DELETED = 1000
"""Objects that one request may delete."""

_CHANGES = (STORAGE_CLASS, REDIRECT, "x-amz-checksum-algorithm")
"""Headers that make an object another one when it is copied onto itself."""


class ObjectWrites:
    def __init__(self, parts: S3Parts) -> None:
        self._parts = parts
        self._objects = parts.objects
        self._authorizer = parts.authorizer
        self._sources = Sources(parts)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "PutObject": self.put,
            "CopyObject": self.copy,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_several,
        }

    async def put(self, request: S3Request) -> Response:
        bucket, body = request.bucket, request.body
        wanted = described(request)
        condition = write_condition(request.headers)
        check_length(body, self._objects.max_size)
        algorithm = algorithm_of(body, DEFAULT)
        await allow_lock(self._parts, request, wanted.entry.lock)
        require_digest(bucket, wanted.entry.lock, declared(request.headers), "Put Object")
        await allow_condition(self._authorizer, request, condition)
        await self._authorizer.on_new_object(request, wanted.entry)
        await self._check(condition, request)
        async with self._objects.upload(bucket.owner) as ingest:
            received = await take(body, ingest, name_of(request.key), wanted.content_type, algorithm)
            checksum = full_checksum(algorithm.name, received.sums[algorithm.kind])
            entry = replace(wanted.entry, etag=received.sums["md5"].hex(), checksum=checksum)
            (file,) = (await ingest.commit(entry, condition)).files
        headers = {"etag": f'"{entry.etag}"', **version_headers(bucket, file), **checksum_headers(entry)}
        return empty(headers=headers | expiration_headers(bucket, file))

    async def _check(self, condition: Condition, request: S3Request) -> None:
        """Whether the condition holds before the body is read; the commit looks again."""
        if condition is not ANYHOW:
            try:
                now = await self._objects.find(request.bucket, request.key)
            except NoSuchKey:
                now = None
            condition.check(request.key, now)

    # Copies

    async def copy(self, request: S3Request) -> Response:
        bucket = request.bucket
        wanted = described(request)
        condition = write_condition(request.headers)
        await allow_lock(self._parts, request, wanted.entry.lock)
        await allow_condition(self._authorizer, request, condition)
        replaced = _directive(request.headers, "x-amz-metadata-directive")
        tags_replaced = _directive(request.headers, "x-amz-tagging-directive")
        source = await self._sources.find(request)
        place = (source.version.bucket, source.version.key)
        changed = replaced or any(name in request.headers for name in _CHANGES)
        if place == (bucket.name, request.key) and source.version.listed and not changed:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        if not replaced:
            wanted = copied(wanted, source.file)
        if not tags_replaced:
            wanted = await self._with_tags_of(source, wanted, request)
        await self._authorizer.on_new_object(request, wanted.entry)
        entry = await self._with_sums_of(source, wanted.entry, request.headers.get("x-amz-checksum-algorithm"))
        file = await self._objects.copy(source.version, Wish(entry, wanted.content_type, bucket.owner, condition))
        result: dict[str, Value] = {"ETag": f'"{entry.etag}"', "LastModified": file.created_at}
        headers = version_headers(bucket, file) | expiration_headers(bucket, file) | source.headers
        return answer("CopyObjectResult", result | checksum_elements(entry), headers)

    async def _with_tags_of(self, source: Source, wanted: Described, request: S3Request) -> Described:
        tags = source.file.entry.tags if source.file.entry else {}
        if tags:
            action = "s3:GetObjectVersionTagging" if source.asked else "s3:GetObjectTagging"
            await self._authorizer.on_object(request, action, source.bucket, source.version.key, source.asked)
        return replace(wanted, entry=replace(wanted.entry, tags=tags))

    async def _with_sums_of(self, source: Source, entry: Entry, algorithm: str | None) -> Entry:
        """The bytes are read only where they have no checksum of the algorithm that is asked for. Otherwise the copy
        keeps what the source was made of: its ETag, its parts, and its checksum."""
        known = source.file.entry or Entry("", "", source.version.etag)
        if algorithm is not None:
            chosen, _ = multipart_choice(algorithm, None)
            if known.checksum is None or known.checksum.kind != chosen.name:
                sums = await self._sources.sums(source, {"md5", chosen.kind})
                return replace(
                    entry, etag=sums["md5"].hex(), checksum=full_checksum(chosen.name, sums[chosen.kind]), parts=()
                )
        return replace(entry, etag=known.etag, checksum=known.checksum, parts=known.parts)

    # Deletions

    async def delete(self, request: S3Request) -> Response:
        condition = delete_condition(request.headers)
        await allow_condition(self._authorizer, request, condition)
        deletion = Deletion(request.bucket.owner, bypass=asks_for_bypass(request))
        if deletion.bypass:
            await self._authorizer.on_object(request, BYPASS_ACTION, request.bucket, request.key, request.version)
        wanted = Wanted(request.key, request.version, condition)
        (outcome,) = await self._objects.delete(request.bucket, [wanted], deletion)
        if isinstance(outcome, MiniS3Error):
            raise outcome
        headers = {"x-amz-version-id": request.version} if request.version else {}
        if outcome.marker:
            headers |= {"x-amz-delete-marker": "true", "x-amz-version-id": outcome.marker.name}
        return empty(204, headers)

    async def delete_several(self, request: S3Request) -> Response:
        told = declared(request.headers)
        if told.md5 is None and told.algorithm is None:
            raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 or a checksum.")
        root = await read_document(request.body, "Delete")
        quiet, wishes = root.flag("Quiet"), [_Doomed.read(element) for element in root.all("Object")]
        if not 0 < len(wishes) <= MAX_DELETED:
            raise S3Error("MalformedXML", f"The request must name 1 to {MAX_DELETED} objects.")
        deletion = Deletion(request.bucket.owner, bypass=asks_for_bypass(request))
        refusals = [await self._refusal(request, wish, deletion) for wish in wishes]
        allowed = [wish for wish, refusal in zip(wishes, refusals, strict=True) if refusal is None]
        wanted = [Wanted(wish.key, wish.version, wish.condition) for wish in allowed]
        outcomes = iter(await self._objects.delete(request.bucket, wanted, deletion))
        deleted: list[Value] = []
        failed: list[Value] = []
        for wish, refusal in zip(wishes, refusals, strict=True):
            outcome = refusal or next(outcomes)
            if isinstance(outcome, MiniS3Error):
                failed.append(wish.error(as_s3(outcome)))
            elif not quiet:
                deleted.append(wish.done(outcome))
        return answer("DeleteResult", {"Deleted": deleted, "Error": failed})

    async def _refusal(self, request: S3Request, wish: _Doomed, deletion: Deletion) -> S3Error | None:
        """Why the caller may not delete this, if so."""
        await asyncio.sleep(0)  # a thousand looks at a policy take a while
        if not 0 < len(wish.key.encode()) <= MAX_KEY:
            return S3Error("KeyTooLongError", f"A key must have 1 to {MAX_KEY} bytes.")
        if wish.unknown:
            return S3Error("NotImplemented", f"The condition {wish.unknown} is not implemented.")
        action = "s3:DeleteObjectVersion" if wish.version else "s3:DeleteObject"
        try:
            await self._authorizer.on_object(request, action, request.bucket, wish.key, wish.version)
            if deletion.bypass:
                await self._authorizer.on_object(request, BYPASS_ACTION, request.bucket, wish.key, wish.version)
            if wish.condition is not ANYHOW:
                await self._authorizer.on_object(request, "s3:GetObject", request.bucket, wish.key)
        except S3Error as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class _Doomed:
    """An object that is to be deleted; `unknown` is a condition that there is not here, or ""."""

    key: str
    version: str
    condition: Condition
    unknown: str

    @classmethod
    def read(cls, element: Element) -> _Doomed:
        etag = element.maybe_text("ETag")
        return cls(
            element.text("Key"),
            element.maybe_text("VersionId") or "",
            Condition(etag=unquoted(etag)) if etag else ANYHOW,
            next((name for name in ("LastModifiedTime", "Size") if element.maybe(name)), ""),
        )

    def done(self, removed: Removed) -> Mapping[str, Value]:
        element: dict[str, Value] = {"Key": self.key, "VersionId": self.version or None}
        if removed.marker:
            element |= {"DeleteMarker": True, "DeleteMarkerVersionId": removed.marker.name}
        return element

    def error(self, error: S3Error) -> Mapping[str, Value]:
        version = self.version or None
        return {"Key": self.key, "VersionId": version, "Code": error.code, "Message": error.message}


def _directive(headers: Mapping[str, str], name: str) -> bool:
    """Whether it is REPLACE rather than COPY. Raises S3Error InvalidArgument."""
    value = headers.get(name, "COPY")
    if value not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"{name} must be COPY or REPLACE.", ArgumentName=name, ArgumentValue=value)
    return value == "REPLACE"
