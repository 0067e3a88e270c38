"""GET and HEAD of a file's bytes: conditions, ranges, and a body of which every byte was verified."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import Response

from app.api.callers import caller_of
from app.errors import PreconditionFailed
from app.http.conditions import Verdict, check, range_applies
from app.http.disposition import attachment
from app.http.ranges import ByteRange, ByterangesBody, parse_ranges
from app.logs import get_logger
from app.store.store import Store
from app.types import File
from app.web.streaming import Parts, Pieces, streamed

log = get_logger(__name__)


class Download:
    def __init__(self, store: Store) -> None:
        self._store = store

    def _seen(self, request: Request) -> Store:
        return self._store.seen_by(caller_of(request))

    async def by_id(self, request: Request) -> Response:
        return await self._answer(request, await self._seen(request).file(request.path_params["id"]))

    async def by_content(self, request: Request) -> Response:
        return await self._answer(request, await self._seen(request).content(request.path_params["id"]))

    async def _answer(self, request: Request, file: File) -> Response:
        etag = f'"{file.content_id}"'
        headers = {
            "ETag": etag,
            "Last-Modified": format_datetime(file.created_at, usegmt=True),
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
        }
        verdict = check(request.headers, etag=etag, modified=file.created_at)
        if verdict is Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=headers)
        if verdict is Verdict.FAILED:
            raise PreconditionFailed("The file is not in the state that the request asks for.")
        headers["Content-Disposition"] = attachment(file.name)
        ranges = None
        if request.method == "GET" and range_applies(
            request.headers.get("if-range"), etag=etag, modified=file.created_at
        ):
            ranges = parse_ranges(request.headers.get("range"), file.size)
        status, parts, closing = self._framed(file, ranges, headers)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        pieces = Pieces(lambda part: self._store.read(file, part.start, part.stop), parts, closing)
        return await streamed(pieces, status, headers)

    @staticmethod
    def _framed(file: File, ranges: Sequence[ByteRange] | None, headers: dict[str, str]) -> tuple[int, Parts, bytes]:
        """The status, what is sent, and the closing bytes; headers that depend on them are added."""
        headers["Content-Type"] = file.content_type
        if ranges is None:
            headers["Content-Length"] = str(file.size)
            return 200, [(b"", ByteRange(0, file.size))], b""
        if len(ranges) == 1:
            headers["Content-Length"] = str(ranges[0].size)
            headers["Content-Range"] = ranges[0].content_range(file.size)
            return 206, [(b"", ranges[0])], b""
        framing = ByterangesBody(ranges, file.size, file.content_type)
        headers["Content-Type"] = framing.content_type
        headers["Content-Length"] = str(framing.content_length)
        return 206, list(zip(framing.heads, ranges, strict=True)), framing.closing
