"""Tags of buckets and of objects (S3 user guide, "Categorizing your objects using tags")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from unicodedata import category

from starlette.responses import Response

from app.s3.configuration import MAX_DOCUMENT, keep, require_settings
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.sigrequest import parse_query
from app.s3.versions import find_object, version_headers
from app.s3.xml import Element, Value, parse

MAX_NAME = 128
"""Characters of a tag's key."""
MAX_VALUE = 256

_SIGNS = frozenset("+-=._:/@")
"""What may stand in tags beside letters, numbers and spaces."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """What has tags, and how many at the most."""

    what: str
    most: int


OBJECT_TAGS = Tagged("Object", 10)
BUCKET_TAGS = Tagged("Bucket", 50)


def tags_from_header(text: str) -> dict[str, str]:
    """The tags of an object from `x-amz-tagging`, which has the form of a query. Raises S3Error InvalidArgument,
    InvalidTag, BadRequest."""
    try:
        pairs = [(name.decode(), value.decode()) for name, value in parse_query(text.encode())]
    except UnicodeDecodeError:
        raise S3Error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters.",
            ArgumentName="x-amz-tagging",
        ) from None
    return checked_tags(pairs, OBJECT_TAGS)


def tags_from(tag_set: Element, tagged: Tagged) -> dict[str, str]:
    """The tags of an element that holds elements Tag. Raises S3Error MalformedXML, InvalidTag, BadRequest."""
    tag_set.only("Tag")
    return checked_tags(((tag.text("Key"), tag.text("Value")) for tag in tag_set.children), tagged)


def stored_tags(tag_set: Element, tagged: Tagged) -> list[list[str]]:
    """As `tags_from`, in the form in which buckets keep them: names may hold what names of fields may not."""
    return [list(pair) for pair in tags_from(tag_set, tagged).items()]


def checked_tags(pairs: Iterable[tuple[str, str]], tagged: Tagged) -> dict[str, str]:
    """Names and values. Raises S3Error InvalidTag, BadRequest."""
    tags: dict[str, str] = {}
    for name, value in pairs:
        if not 1 <= len(name) <= MAX_NAME or not _is_text(name) or name.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=name[:MAX_NAME])
        if len(value) > MAX_VALUE or not _is_text(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=name, TagValue=value)
        if name in tags:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=name)
        tags[name] = value
    if len(tags) > tagged.most:
        raise S3Error("BadRequest", f"{tagged.what} tags cannot be greater than {tagged.most}")
    return tags


def _is_text(text: str) -> bool:
    return all(one in _SIGNS or category(one)[0] in "LNZ" for one in text)


class Tagging:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets
        self._objects = parts.objects
        self._authorizer = parts.authorizer

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketTagging": self.of_bucket,
            "PutBucketTagging": self.set_of_bucket,
            "DeleteBucketTagging": self.delete_of_bucket,
            "GetObjectTagging": self.of_object,
            "PutObjectTagging": self.set_of_object,
            "DeleteObjectTagging": self.delete_of_object,
        }

    async def of_bucket(self, request: S3Request) -> Response:
        tags = request.bucket.settings.get("tags")
        if not tags:
            raise S3Error("NoSuchTagSet", "The TagSet does not exist", BucketName=request.bucket_name)
        return _document(tags)

    async def set_of_bucket(self, request: S3Request) -> Response:
        await keep(self._buckets, request, "tags", stored_tags(await _tag_set(request), BUCKET_TAGS) or None)
        return empty(204)

    async def delete_of_bucket(self, request: S3Request) -> Response:
        await keep(self._buckets, request, "tags", None)
        return empty(204)

    async def of_object(self, request: S3Request) -> Response:
        version, file = await find_object(self._objects, request)
        tags = list(file.entry.tags.items()) if file.entry else []
        return _document(tags, version_headers(request.bucket, version))

    async def set_of_object(self, request: S3Request) -> Response:
        try:
            tags = tags_from(await _tag_set(request), OBJECT_TAGS)
        except S3Error:
            await self._allow(request)
            raise
        await self._allow(replace(request, tags=tags))
        require_settings(request)
        return await self._change(request, tags, 200)

    async def _allow(self, request: S3Request) -> None:
        """Raises S3Error AccessDenied."""
        for action in request.operation.actions_for(request.query):
            await self._authorizer.on_object(request, action, request.bucket, request.key, request.version)

    async def delete_of_object(self, request: S3Request) -> Response:
        require_settings(request)
        return await self._change(request, {}, 204)

    async def _change(self, request: S3Request, tags: Mapping[str, str], status: int) -> Response:
        version, _ = await find_object(self._objects, request)
        await self._objects.set_tags(version, tags)
        return empty(status, version_headers(request.bucket, version))


async def _tag_set(request: S3Request) -> Element:
    return parse(await request.body.document(MAX_DOCUMENT), "Tagging", MAX_DOCUMENT).one("TagSet")


def _document(tags: Sequence[Sequence[str]], headers: Mapping[str, str] | None = None) -> Response:
    written: list[Value] = [{"Key": name, "Value": value} for name, value in tags]
    return answer("Tagging", {"TagSet": {"Tag": written}}, headers)
