"""Files as JSON: list, info, manifest, delete."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.callers import caller_of
from app.api.views import info_view, listing_view, manifest_view
from app.errors import BadRequest
from app.models.files import Cursor
from app.store.store import Store

MOST = 1000
"""Items of one page of a list."""


class Files:
    def __init__(self, store: Store) -> None:
        self._store = store

    def _seen(self, request: Request) -> Store:
        return self._store.seen_by(caller_of(request))

    async def list_files(self, request: Request) -> Response:
        query = request.query_params
        limit = number(request, "limit", 100, 1, MOST)
        after = Cursor.parse(query["after"]) if query.get("after") else None
        return JSONResponse(listing_view(await self._seen(request).list_files(limit, after, query.get("name", ""))))

    async def info(self, request: Request) -> Response:
        return JSONResponse(info_view(await self._seen(request).info(request.path_params["id"])))

    async def manifest(self, request: Request) -> Response:
        after = number(request, "after", 0, 0, 1 << 53)
        limit = number(request, "limit", MOST, 1, MOST)
        return JSONResponse(manifest_view(await self._seen(request).manifest(request.path_params["id"], after, limit)))

    async def delete(self, request: Request) -> Response:
        await self._seen(request).delete(request.path_params["id"])
        return Response(status_code=204)


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A parameter of the query. Raises BadRequest."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise BadRequest(f"`{name}` must be a whole number from {least} to {most}.")
    return int(text)
