"""Who may come in, and how many at once. Pure ASGI, so that bodies stream through, or are not read."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import document


class Authorized:
    """Lets requests in that bear the token (RFC 6750)."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("authorization", "")
        if hmac.compare_digest(given.encode("latin-1"), self._expected):
            await self._app(scope, receive, send)
            return
        detail = "The call needs the token that this node was started with, as Authorization: Bearer TOKEN."
        refusal = document(Request(scope), 401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


class Crowd:
    """Lets `most` requests in at once; the others wait, with their bodies unread."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._places = asyncio.Semaphore(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._places:
            await self._app(scope, receive, send)
