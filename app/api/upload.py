"""POST /api/upload: a form goes in, file by file, as its bytes arrive."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.api.callers import caller_of
from app.api.views import receipt_view
from app.logs import get_logger
from app.store.store import Store
from app.streams.ingest import Ingest, Receipt
from app.streams.multipart import Event, FileBegin, FileData, FormParser
from app.web.bodies import body_pieces

log = get_logger(__name__)


class Upload:
    def __init__(self, store: Store, idle_timeout: float) -> None:
        self._store = store
        self._idle_timeout = idle_timeout

    async def endpoint(self, request: Request) -> Response:
        store = self._store.seen_by(caller_of(request))
        form = FormParser(request.headers.get("content-type"))
        try:
            async with store.upload() as ingest:
                async for piece in body_pieces(request.receive, self._idle_timeout):
                    for event in form.feed(piece):
                        await _take(event, ingest, store)
                form.finish()
                receipt = await ingest.commit()
        except ClientDisconnect:
            log.info("client gone in mid-upload")
            return Response(status_code=400)
        return _created(receipt)


async def _take(event: Event, ingest: Ingest, store: Store) -> None:
    match event:
        case FileData(data):
            await ingest.write(data)
        case FileBegin(name, content_type):
            store.may_name(name)
            await ingest.begin_file(name, content_type)
        case _:
            await ingest.end_file()


def _created(receipt: Receipt) -> Response:
    view = receipt_view(receipt)
    return JSONResponse(view, 201, {"Location": f"/api/files/{view['fileId']}"})
