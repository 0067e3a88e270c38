"""Multipart uploads: begun, filled part by part, completed or given up.

What there is of them is listed by `multipart_lists`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from starlette.responses import Response

from app.errors import InvalidPart, NoSuchKey, NoSuchUpload, NoSuchVersion
from app.models.sessions import Part, PartSums, UploadSession
from app.s3.assembly import Assembly
from app.s3.checksums import ALGORITHMS, DEFAULT, Algorithm, declared, multipart_choice, to_text
from app.s3.entry import checksum_elements, described, version_headers
from app.s3.errors import S3Error
from app.s3.intake import algorithm_of, check_length, read_document, take
from app.s3.lifecycle import abort_headers, expiration_headers
from app.s3.multipart_lists import MultipartLists, session_of
from app.s3.object_lock import allow_lock, require_digest
from app.s3.parts import S3Parts
from app.s3.preconditions import allow_condition, write_condition
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.source import Source, Sources
from app.s3.xml import Value
from app.store.objects import Wish, name_of
from app.streams.ingest import Ingest
from app.streams.sums import Kind, Sums
from app.types import File

MAX_PART = 10_000
"""The highest number of a part."""

_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})")


class MultipartUploads:
    def __init__(self, parts: S3Parts) -> None:
        self._parts = parts
        self._objects = parts.objects
        self._sessions = parts.sessions
        self._authorizer = parts.authorizer
        self._sources = Sources(parts)
        self._lists = MultipartLists(parts)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreateMultipartUpload": self.create,
            "UploadPart": self.upload_part,
            "UploadPartCopy": self.copy_part,
            "CompleteMultipartUpload": self.complete,
            "AbortMultipartUpload": self.abort,
            **self._lists.handlers,
        }

    async def create(self, request: S3Request) -> Response:
        bucket, headers = request.bucket, request.headers
        wanted = described(request)
        await self._authorizer.on_new_object(request, wanted.entry)
        named = headers.get("x-amz-checksum-algorithm")
        algorithm, kind = multipart_choice(named, headers.get("x-amz-checksum-type"))
        await allow_lock(self._parts, request, wanted.entry.lock)
        wish = Wish(wanted.entry, wanted.content_type, bucket.owner)
        session = await self._sessions.begin(wish, algorithm.name, composite=kind == "COMPOSITE")
        told = {"x-amz-checksum-algorithm": algorithm.name, "x-amz-checksum-type": kind} if named else {}
        result: dict[str, Value] = {"Bucket": request.bucket_name, "Key": request.key, "UploadId": str(session.id)}
        return answer("InitiateMultipartUploadResult", result, told | abort_headers(bucket, session))

    async def upload_part(self, request: S3Request) -> Response:
        number = _part_number(request)
        check_length(request.body, self._objects.max_size)
        session = await self._open(request)
        algorithm = ALGORITHMS[session.checksum]
        _check_kind(algorithm, algorithm_of(request.body, algorithm))
        require_digest(request.bucket, session.entry.lock, declared(request.headers), "Put Part")
        async with self._sessions.upload(session) as ingest:
            received = await take(request.body, ingest, name_of(request.key), session.content_type, algorithm)
            sums = _part_sums(received.sums, algorithm)
            await ingest.commit_part(session, number, sums)
        return empty(headers={"etag": f'"{sums.etag}"', algorithm.header: sums.checksum})

    async def copy_part(self, request: S3Request) -> Response:
        number = _part_number(request)
        session = await self._open(request)
        source = await self._sources.find(request)
        start, stop = _range(request.headers.get("x-amz-copy-source-range"), source.file.size)
        algorithm = ALGORITHMS[session.checksum]
        if (start, stop) == (0, source.file.size):
            sums = _known_sums(source, algorithm) or await self._sums(source, algorithm)
            part = await self._sessions.copy_part(session, number, source.file, sums)
        else:
            part = await self._store_range(session, number, self._sources.read(source, start, stop))
        result: dict[str, Value] = {"ETag": f'"{part.sums.etag}"', "LastModified": part.created_at}
        return answer("CopyPartResult", result | {algorithm.element: part.sums.checksum}, source.headers)

    async def _sums(self, source: Source, algorithm: Algorithm) -> PartSums:
        return _part_sums(await self._sources.sums(source, {"md5", algorithm.kind}), algorithm)

    async def _store_range(self, session: UploadSession, number: int, pieces: AsyncGenerator[bytes, None]) -> Part:
        async with self._sessions.upload(session) as ingest, aclosing(pieces):
            await ingest.begin_file(name_of(session.entry.key), session.content_type)
            sums = await _summed(pieces, ingest, ALGORITHMS[session.checksum])
            await ingest.end_file()
            return await ingest.commit_part(session, number, sums)

    async def complete(self, request: S3Request) -> Response:
        condition = write_condition(request.headers)
        await allow_condition(self._authorizer, request, condition)
        # Checksums in the headers are those of the object, not of the body.
        headers = {one: value for one, value in request.headers.items() if one not in _CHECKSUM_HEADERS}
        root = await read_document(replace(request.body, headers=headers), "CompleteMultipartUpload")
        assembly = Assembly.read(root, request.headers)
        session = await session_of(self._sessions, request)
        if not session.done:
            try:
                parts = assembly.chosen(session, await self._sessions.parts(session))
                entry = assembly.entry(session, parts, self._objects.max_size)
                return _completed(request, await self._sessions.complete(session, parts, entry, condition))
            except (NoSuchUpload, InvalidPart):
                # Perhaps the same request came twice, and the other one was faster.
                session = await session_of(self._sessions, request)
                if not session.done:
                    raise
        file = await self._made(request, session)
        assembly.check_made(file)
        return _completed(request, file)

    async def _made(self, request: S3Request, session: UploadSession) -> File:
        """The object that was made of a session before. Raises NoSuchUpload where there is another in its place."""
        for version in (str(session.done), ""):
            try:
                found = await self._objects.find(request.bucket, request.key, version)
            except (NoSuchKey, NoSuchVersion):
                continue
            if found.file and found.id == session.done:
                return found.file
        raise NoSuchUpload("The upload was completed, and its object is not there any more.")

    async def abort(self, request: S3Request) -> Response:
        await self._sessions.abort(await self._open(request))
        return empty(204)

    async def _open(self, request: S3Request) -> UploadSession:
        session = await session_of(self._sessions, request)
        if session.done:
            raise NoSuchUpload("The upload was completed already.")
        return session


_CHECKSUM_HEADERS = frozenset(algorithm.header for algorithm in ALGORITHMS.values())


def _completed(request: S3Request, file: File) -> Response:
    entry = file.entry
    assert entry is not None  # noqa: S101 - what an upload session makes is an object
    result: dict[str, Value] = {
        "Location": request.came.url,
        "Bucket": request.bucket_name,
        "Key": request.key,
        "ETag": f'"{entry.etag}"',
    }
    headers = version_headers(request.bucket, file) | expiration_headers(request.bucket, file)
    return answer("CompleteMultipartUploadResult", result | checksum_elements(entry), headers)


def _known_sums(source: Source, algorithm: Algorithm) -> PartSums | None:
    """Those of all bytes of the source, where they are known: its ETag is its MD5 unless there is a dash in it."""
    entry = source.file.entry
    if entry is None or "-" in entry.etag or entry.checksum is None:
        return None
    checksum = entry.checksum
    known = checksum.kind == algorithm.name and not checksum.composite
    return PartSums(entry.etag, checksum.value) if known else None


async def _summed(pieces: AsyncIterator[bytes], ingest: Ingest, algorithm: Algorithm) -> PartSums:
    """Write the pieces into an upload, and sum them up."""
    sums = Sums({"md5", algorithm.kind})
    try:
        async for piece in pieces:
            await sums.update(piece)
            await ingest.write(piece)
        return _part_sums(await sums.finish(), algorithm)
    except BaseException:
        sums.close()
        raise


def _part_sums(sums: Mapping[Kind, bytes], algorithm: Algorithm) -> PartSums:
    return PartSums(sums["md5"].hex(), to_text(sums[algorithm.kind]))


def _check_kind(wanted: Algorithm, given: Algorithm) -> None:
    """A client that names no algorithm for the upload may sum up its parts by any. Raises S3Error InvalidRequest."""
    if wanted not in (given, DEFAULT):
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {wanted.kind}, actual checksum Type: "
            f"{given.kind}",
        )


def _part_number(request: S3Request) -> int:
    """Raises S3Error InvalidArgument."""
    if number := request.number("partNumber", 0, MAX_PART, 1):
        return number
    message = f"Part number must be an integer between 1 and {MAX_PART}, inclusive"
    raise S3Error("InvalidArgument", message, ArgumentName="partNumber")


def _range(header: str | None, size: int) -> tuple[int, int]:
    """The first byte and the one behind the last. Raises S3Error InvalidArgument."""
    if header is None:
        return 0, size
    match = _RANGE.fullmatch(header.strip())
    if match is None or int(match[1]) > int(match[2]):
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last, offsets from zero on."
    elif int(match[2]) >= size:
        message = f"Range specified is not valid for source object of size: {size}"
    else:
        return int(match[1]), int(match[2]) + 1
    raise S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source-range", ArgumentValue=header[:100])
