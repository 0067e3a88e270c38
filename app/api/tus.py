"""tus 1.0: uploads that go on where they were broken off. See `tus_protocol` for the words of it.

When its last byte is there an upload becomes a file of the native API, whose id is in the header X-File-Id from then
on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import format_datetime

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.api.callers import caller_of
from app.api.methods import Endpoint
from app.api.problems import document, problem
from app.api.tus_protocol import CHECKSUMS, EXTENSIONS, MEDIA_TYPE, VERSION, Checksum, Creation, checksum, number
from app.errors import (
    BadRequest,
    ChecksumMismatch,
    Forbidden,
    InvalidPart,
    MiniS3Error,
    OffsetMismatch,
    TooLarge,
    UnsupportedVersion,
    UploadStalled,
    WrongMediaType,
)
from app.models.sessions import Part, UploadSession
from app.store.appending import Appender
from app.store.uploads import CONCAT, Plan, UploadStore
from app.streams.sums import Sums
from app.web.bodies import body_pieces

METADATA = "upload-metadata"
"""The header that is given back as it came, as `CONCAT` is."""

_RESUMABLE = {"Tus-Resumable": VERSION}


def spoken(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """One endpoint for those of a path, by their methods, which a header may name in place of the request's own. Every
    answer says which version of tus is spoken; a request that speaks another one gets no further."""

    async def answer(request: Request) -> Response:
        method = request.headers.get("x-http-method-override", request.method).upper()
        if method not in endpoints:
            allowed = {"Allow": ", ".join(endpoints)}
            return document(request, 405, "method-not-allowed", "Method Not Allowed", allowed)
        if method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
            raise UnsupportedVersion(f"This is a call of tus {VERSION}: say so in the header Tus-Resumable.")
        return await endpoints[method](request)

    async def endpoint(request: Request) -> Response:
        try:
            response = await answer(request)
        except MiniS3Error as error:
            response = problem(request, error)
        except ClientDisconnect:
            response = Response(status_code=400)
        response.headers.update(_RESUMABLE)
        if response.status_code == 412:
            response.headers["Tus-Version"] = VERSION
        return response

    return endpoint


class Tus:
    def __init__(self, uploads: UploadStore, idle_timeout: float) -> None:
        self._uploads = uploads
        self._idle_timeout = idle_timeout

    def _seen(self, request: Request) -> UploadStore:
        return self._uploads.seen_by(caller_of(request))

    async def describe(self, request: Request) -> Response:  # noqa: ARG002
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Max-Size": str(self._uploads.max_size),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        }
        return Response(status_code=204, headers=headers)

    async def create(self, request: Request) -> Response:
        uploads = self._seen(request)
        wanted = Creation.read(request.headers, uploads.max_size)
        plan = Plan("tus", wanted.name, wanted.content_type, wanted.size, _kept(wanted))
        if wanted.parts:
            session = await self._concatenate(uploads, plan, wanted.parts)
        else:
            session = await self._begin(request, uploads, plan)
        # Relative to the URL of this request, whatever a proxy has put before it.
        above = "" if request.url.path.endswith("/") else request.url.path.rpartition("/")[2] + "/"
        headers = {"Location": f"{above}{session.id}", **_state(uploads, session)}
        return Response(status_code=201, headers=headers)

    async def _begin(self, request: Request, uploads: UploadStore, plan: Plan) -> UploadSession:
        """Create an upload; what the request has of its bytes is appended."""
        with_bytes = _has_body(request)
        if with_bytes:
            _check_media_type(request)
        session = await uploads.begin(plan)
        if not with_bytes:
            return await _settled(uploads, session)
        try:
            return await self._append(request, uploads, session, 0)
        except (MiniS3Error, ClientDisconnect):
            # Nobody knows its URL.
            await uploads.abort(session)
            raise

    async def _concatenate(self, uploads: UploadStore, plan: Plan, ids: Sequence[str]) -> UploadSession:
        parts: list[Part] = []
        size = 0
        for one in ids:
            session = await uploads.find("tus", one)
            if session.entry.headers.get(CONCAT) != "partial" or session.size != session.offset:
                raise InvalidPart(f"The upload {one} is none that was created as partial, or has not come to its end.")
            parts += await uploads.parts(session)
            size += session.offset
        session = await uploads.begin(replace(plan, size=size))
        try:
            made = await uploads.concatenate(session, parts)
        except MiniS3Error:
            # Nobody knows its URL.
            await uploads.abort(session)
            raise
        return replace(session, done=made.file.id)

    async def show(self, request: Request) -> Response:
        uploads = self._seen(request)
        session = await _settled(uploads, await uploads.find("tus", request.path_params["id"]))
        headers = {name.title(): value for name, value in session.entry.headers.items()}
        length = {"Upload-Defer-Length": "1"} if session.size is None else {"Upload-Length": str(session.size)}
        return Response(headers={"Cache-Control": "no-store", **headers, **length, **_state(uploads, session)})

    async def append(self, request: Request) -> Response:
        uploads = self._seen(request)
        _check_media_type(request)
        offset = number(request.headers, "Upload-Offset")
        if offset is None:
            raise BadRequest("The header Upload-Offset must say where these bytes begin.")
        session = await uploads.find("tus", request.path_params["id"])
        if session.entry.headers.get(CONCAT, "").startswith("final"):
            raise Forbidden("What is concatenated of other uploads can't be appended to.")
        if not session.done:
            session = await self._append(request, uploads, session, offset)
        elif offset != session.size or _has_body(request):
            raise OffsetMismatch("The upload has come to its end already.")
        return Response(status_code=204, headers=_state(uploads, session))

    async def terminate(self, request: Request) -> Response:
        """The file that an upload has become stays."""
        uploads = self._seen(request)
        await uploads.forget(await uploads.find("tus", request.path_params["id"]))
        return Response(status_code=204)

    async def _append(
        self, request: Request, uploads: UploadStore, session: UploadSession, offset: int
    ) -> UploadSession:
        """Append the body, or where the client goes away what came of it; the session after that."""
        told, size = checksum(request.headers), number(request.headers, "Upload-Length")
        if size is not None and (size < offset or session.size not in (None, size)):
            raise BadRequest("The header Upload-Length is another one than before, or less than what came.")
        size = session.size if size is None else size
        end = uploads.max_size if size is None else min(size, uploads.max_size)
        if (size or 0) > end or offset + (number(request.headers, "Content-Length") or 0) > end:
            raise _too_long(end)
        async with uploads.append(session, offset, size=size, whole=told is not None) as appender:
            try:
                await self._receive(request, appender, told, end - offset)
            except (ClientDisconnect, UploadStalled):
                if told is None:
                    await appender.finish()
                raise
            await appender.finish()
        return await _settled(uploads, await uploads.find("tus", str(session.id)))

    async def _receive(self, request: Request, appender: Appender, told: Checksum | None, most: int) -> None:
        sums = Sums({told.kind}) if told else None
        received = 0
        try:
            async for piece in body_pieces(request.receive, self._idle_timeout):
                received += len(piece)
                if received > most:
                    raise _too_long(most)
                if sums:
                    await sums.update(piece)
                await appender.write(piece)
            if told and sums and (await sums.finish())[told.kind] != told.digest:
                raise ChecksumMismatch("The bytes that came have another checksum than Upload-Checksum says.")
        finally:
            if sums:
                sums.close()


async def _settled(uploads: UploadStore, session: UploadSession) -> UploadSession:
    """The session, which is done where its last byte is there. A crash may have come between the two."""
    if session.done or session.size != session.offset or session.entry.headers.get(CONCAT) == "partial":
        return session
    return replace(session, done=(await uploads.complete(session)).file.id)


def _state(uploads: UploadStore, session: UploadSession) -> dict[str, str]:
    """What every answer about an upload tells."""
    if session.done:
        return {"Upload-Offset": str(session.size), "X-File-Id": session.done}
    expires = format_datetime(uploads.expires_at(session), usegmt=True)
    return {"Upload-Offset": str(session.offset), "Upload-Expires": expires}


def _kept(wanted: Creation) -> dict[str, str]:
    kept = {METADATA: wanted.metadata, CONCAT: wanted.concat}
    return {name: value for name, value in kept.items() if value}


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or bool(number(request.headers, "Content-Length"))


def _check_media_type(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise WrongMediaType(f"The body must be of the type {MEDIA_TYPE}.")


def _too_long(most: int) -> TooLarge:
    return TooLarge(f"The upload would become longer than the {most} bytes that it may have.")
