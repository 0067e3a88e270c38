"""The server about itself: statistics, health, metrics, its own description, and a page."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from app.api.views import stats_view
from app.metrics import CONTENT_TYPE_PLAIN_0_0_4, exposition
from app.store.readiness import Readiness
from app.store.stats import Statistics

HERE = Path(__file__).parent


class Service:
    def __init__(self, statistics: Statistics, readiness: Readiness) -> None:
        self._statistics = statistics
        self._readiness = readiness

    async def stats(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(stats_view(await self._statistics.read()))

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        state = await self._readiness.check()
        body = {
            "status": "ready" if state.takes_uploads else "unavailable",
            "database": "up" if state.database else "down",
            "redis": {True: "up", False: "down", None: "none"}[state.redis],
            "nodes": {"up": state.nodes_up, "total": state.nodes_total},
        }
        if state.takes_uploads:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"Retry-After": "5"})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002
        text = await asyncio.to_thread(exposition)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002
        return FileResponse(HERE / "openapi.json", media_type="application/json")

    async def page(self, request: Request) -> Response:  # noqa: ARG002
        return FileResponse(HERE / "static" / "index.html")
