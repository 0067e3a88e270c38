"""The least that a server in Python can do: it parses a form and drops the bytes; it sends 4 KiB from memory."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streaming_form_data import StreamingFormDataParser
from streaming_form_data.targets import BaseTarget

from bench.compare.load import Bodies

SEED = "bare"
SAME = Bodies(SEED, 4096)[0]
"""What every download is."""


class _Counted(BaseTarget):  # type: ignore[misc]  # the library has no types
    count = 0

    def on_data_received(self, chunk: bytes) -> None:
        self.count += len(chunk)


async def _upload(request: Request) -> JSONResponse:
    target = _Counted()
    parser = StreamingFormDataParser({"Content-Type": request.headers["content-type"]})
    parser.register("file", target)
    async for piece in request.stream():
        parser.data_received(piece)
    return JSONResponse({"bytes": target.count}, status_code=201)


async def _download(_: Request) -> Response:
    return Response(SAME)


app = Starlette(routes=[Route("/api/upload", _upload, methods=["POST"]), Route("/same/{number}", _download)])
