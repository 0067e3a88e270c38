"""Upload sessions: parts in any order, or chunks that the store does not know yet, and at last a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.api.callers import caller_of
from app.api.chunk_lists import ChunkLists, parse_digest
from app.api.files import MOST, number
from app.api.views import made_view, part_view, session_view
from app.errors import BadRequest, DigestMismatch, TooLarge
from app.http.digest import Algorithm, declared_digests
from app.models.files import Cursor
from app.models.sessions import Part, PartSums, UploadSession
from app.store.negotiation import MAX_CHUNK
from app.store.uploads import Made, Plan, UploadStore
from app.streams.ingest import Ingest
from app.streams.multipart import DEFAULT_CONTENT_TYPE, usable_content_type
from app.streams.sums import Kind, Sums
from app.types import ChunkRef, Digest
from app.web.bodies import body_pieces

MAX_PART = 10_000
"""The highest number of a part."""

MAX_NAME = 4096
"""Bytes of a name in UTF-8."""

_ASKED = 10_000
"""Chunks that may be asked for at once."""


class Uploads:
    def __init__(self, uploads: UploadStore, idle_timeout: float) -> None:
        self._uploads = uploads
        self._idle_timeout = idle_timeout

    def _seen(self, request: Request) -> UploadStore:
        return self._uploads.seen_by(caller_of(request))

    async def _open(self, request: Request) -> tuple[UploadStore, UploadSession]:
        uploads = self._seen(request)
        return uploads, await uploads.find_open("file", request.path_params["id"])

    def _body(self, request: Request) -> AsyncGenerator[bytes, None]:
        return body_pieces(request.receive, self._idle_timeout)

    # Sessions

    async def create(self, request: Request) -> Response:
        uploads = self._seen(request)
        document = await self._document(request)
        name, content_type = _name(document), document.get("contentType", DEFAULT_CONTENT_TYPE)
        if not (isinstance(content_type, str) and usable_content_type(content_type)):
            raise BadRequest("`contentType` must be a media type in printable ASCII, as text/plain.")
        session = await uploads.begin(Plan("file", name, content_type, _size(document)))
        return JSONResponse(_view(uploads, session, []), 201, {"Location": f"/api/uploads/{session.id}"})

    async def list_sessions(self, request: Request) -> Response:
        limit, after = number(request, "limit", 100, 1, MOST), request.query_params.get("after")
        uploads = self._seen(request)
        sessions, following = await uploads.list("file", limit, Cursor.parse(after) if after else None)
        views = [session_view(session, uploads.expires_at(session)) for session in sessions]
        return JSONResponse({"uploads": views, "next": str(following) if following else None})

    async def show(self, request: Request) -> Response:
        uploads = self._seen(request)
        session = await uploads.find("file", request.path_params["id"])
        return JSONResponse(_view(uploads, session, await uploads.parts(session)))

    async def abort(self, request: Request) -> Response:
        uploads, session = await self._open(request)
        await uploads.abort(session)
        return Response(status_code=204)

    # Bytes

    async def put_part(self, request: Request) -> Response:
        uploads, session = await self._open(request)
        part_number = _part_number(request.path_params["number"])
        _check_length(request, uploads.max_size)
        digests = declared_digests(request.headers)
        kinds: set[Kind] = {"md5", *(kind for kind, _ in digests)}
        sums = Sums(kinds)
        try:
            async with uploads.upload(session) as ingest:
                await ingest.begin_file(session.entry.key, session.content_type)
                await self._write(request, ingest, sums)
                await ingest.end_file()
                found = await sums.finish()
                _check_digests(digests, found)
                if not ingest.counts.received:
                    raise BadRequest("A part must have at least one byte. An empty file is a list of no chunks.")
                part = await ingest.commit_part(session, part_number, PartSums(found["md5"].hex()))
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            sums.close()
        return JSONResponse(part_view(part))

    async def _write(self, request: Request, ingest: Ingest, sums: Sums) -> None:
        async for piece in self._body(request):
            await sums.update(piece)
            await ingest.write(piece)

    async def put_chunk(self, request: Request) -> Response:
        uploads, session = await self._open(request)
        digest = parse_digest(request.path_params["digest"])
        _check_length(request, MAX_CHUNK)
        try:
            async with uploads.upload_chunk(session, digest) as ingest:
                async for piece in self._body(request):
                    if ingest.counts.received + len(piece) > MAX_CHUNK:
                        raise _too_long(MAX_CHUNK)
                    await ingest.write(piece)
                if not ingest.counts.received:
                    raise BadRequest("A chunk must have at least one byte.")
        except ClientDisconnect:
            return Response(status_code=400)
        return Response(status_code=204)

    # Negotiation

    async def missing(self, request: Request) -> Response:
        uploads, session = await self._open(request)
        reader = ChunkLists()
        asked: dict[Digest, int] = {}
        async for piece in self._body(request):
            _ask(reader.feed(piece), asked)
        reader.finish()
        if not asked:
            raise BadRequest("`chunks` must list 1 to 10000 chunks.")
        missing = await uploads.missing(session, asked)
        told = [digest.hex() for digest in asked if digest in missing]
        return JSONResponse({"missing": told, "known": len(asked) - len(told)})

    async def complete(self, request: Request) -> Response:
        uploads = self._seen(request)
        session = await uploads.find("file", request.path_params["id"])
        reader = ChunkLists()
        async with aclosing(self._body(request)) as pieces:
            lists = _lists(reader, pieces)
            first = await anext(lists, None)
            if first is not None:
                made = await uploads.complete_listed(session, _behind(first, lists))
            else:
                made = await _complete(uploads, session, reader.finish())
        status = 201 if made.just_now else 200
        return JSONResponse(made_view(made), status, {"Location": f"/api/files/{made.file.id}"})

    async def _document(self, request: Request) -> dict[str, Any]:
        reader = ChunkLists()
        async for piece in self._body(request):
            reader.feed(piece)
        return reader.finish()


async def _complete(uploads: UploadStore, session: UploadSession, document: dict[str, Any]) -> Made:
    match document:
        case {"contentId": content_id, **rest} if not rest:
            return await uploads.complete_alike(session, parse_digest(content_id).hex())
        case {"parts": parts, **rest} if not rest:
            return await uploads.complete(session, _numbers(parts))
        case {**rest} if not rest:
            return await uploads.complete(session)
    raise BadRequest("The body must be an object with one of `parts`, `chunks` and `contentId`, or be empty.")


async def _lists(reader: ChunkLists, pieces: AsyncIterator[bytes]) -> AsyncIterator[Sequence[ChunkRef]]:
    """What a list of chunks has, in pieces; nothing where the body is none. Raises BadRequest where it is no good
    one."""
    async for piece in pieces:
        refs = reader.feed(piece)
        if reader.listed:
            yield refs
    if reader.listed:
        reader.finish()


async def _behind(
    first: Sequence[ChunkRef], lists: AsyncIterator[Sequence[ChunkRef]]
) -> AsyncIterator[Sequence[ChunkRef]]:
    yield first
    async for refs in lists:
        yield refs


def _ask(refs: Sequence[ChunkRef], asked: dict[Digest, int]) -> None:
    for ref in refs:
        if asked.setdefault(ref.digest, ref.size) != ref.size:
            raise BadRequest(f"The chunk {ref.digest.hex()} is listed with two sizes.")
    if len(asked) > _ASKED:
        raise BadRequest(f"Up to {_ASKED} chunks may be asked for at once.")


def _view(uploads: UploadStore, session: UploadSession, parts: Sequence[Part]) -> dict[str, Any]:
    return {
        **session_view(session, uploads.expires_at(session)),
        "received": sum(part.size for part in parts),
        "parts": list(map(part_view, parts)),
    }


def _name(document: dict[str, Any]) -> str:
    name = document.get("name")
    if not isinstance(name, str) or len(name.encode()) > MAX_NAME:
        raise BadRequest(f"`name` must be a string of up to {MAX_NAME} bytes.")
    return name


def _size(document: dict[str, Any]) -> int | None:
    size = document.get("size")
    if size is not None and (type(size) is not int or size < 0):
        raise BadRequest("`size` must be the number of bytes to come, or be left out.")
    return size


def _numbers(parts: object) -> list[int]:
    good = isinstance(parts, list) and all(type(one) is int for one in parts)
    if not (isinstance(parts, list) and good and 1 <= len(parts) == len(set(parts))):
        raise BadRequest("`parts` must be a list of numbers of parts, each of them once.")
    return parts


def _part_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_PART):
        raise BadRequest(f"The number of a part must be a whole number from 1 to {MAX_PART}.")
    return int(text)


def _check_length(request: Request, most: int) -> None:
    """Refuse a body before it is read."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise _too_long(most)


def _check_digests(told: Sequence[tuple[Algorithm, bytes]], found: Mapping[Kind, bytes]) -> None:
    if wrong := [kind for kind, digest in told if found[kind] != digest]:
        raise DigestMismatch(f"The bytes that came have another {wrong[0]} than the header says. Send them again.")


def _too_long(most: int) -> TooLarge:
    return TooLarge(f"The body is longer than the {most} bytes that it may have here.")
