"""What surrounds every request. Pure ASGI, so that bodies stream through."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import bind, get_logger
from app.metrics import BYTES_IN, BYTES_OUT, note_request

log = get_logger(__name__)

_SECURITY = {
    # As Helmet sets them, but for `upgrade-insecure-requests`: a server that is reached over plain
    # HTTP in a local network would then serve a page without its own script.
    "Content-Security-Policy": (
        "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';"
        "img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';"
        "style-src 'self' https: 'unsafe-inline'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Origin-Agent-Cluster": "?1",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "X-Download-Options": "noopen",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-XSS-Protection": "0",
}
_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _SECURITY.items()]
_SECURITY_NAMES = frozenset(name for name, _ in _SECURITY_HEADERS)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})

_LINGER = 10.0
_LINGER_IDLE = 2.0
"""Seconds for which an unread body is swallowed after the answer, in all and without a byte."""


class RequestContext:
    """Gives each request an id, security headers, a line in the log, and its place in the metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # It must be unlike others, not secret: asking the kernel would give up the interpreter's lock each time.
        scope["request_id"] = request_id = f"{random.getrandbits(64):016x}"
        started = perf_counter()
        status, received, sent, answered = 0, 0, 0, False

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status, sent, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _surrounded(message.get("headers", ()), request_id)
            else:
                sent += len(message.get("body", b""))
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        with bind(request=request_id):
            try:
                await self._app(scope, receive_counted, send_counted)
            except Exception:
                log.exception("request failed", path=scope["path"])
                # Once there is an answer, raising only makes the server close the connection unannounced,
                # and the client's next request on it would be lost.
                if not answered:
                    raise
            finally:
                _note(scope, status, received, sent, perf_counter() - started)


def _surrounded(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers with ours behind them; of the security headers it may have set its own."""
    own = {name for name, _ in headers}
    security: Iterable[tuple[bytes, bytes]] = _SECURITY_HEADERS
    if not own.isdisjoint(_SECURITY_NAMES):
        security = (header for header in _SECURITY_HEADERS if header[0] not in own)
    return [*headers, (b"x-request-id", request_id.encode()), *security]


def _note(scope: Scope, status: int, received: int, sent: int, seconds: float) -> None:
    route = scope.get("route")
    template = getattr(route, "path", "other") if isinstance(route, BaseRoute) else "other"
    method = scope["method"] if scope["method"] in _METHODS else "other"
    note_request(method, template, status, seconds)
    if received:
        BYTES_IN.inc(received)
    if sent:
        BYTES_OUT.inc(sent)
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        client=scope["client"][0] if scope.get("client") else None,
        received=received,
        sent=sent,
        ms=round(seconds * 1000, 1),
    )


class Linger:
    """Lets a client read the answer that it got in the middle of its own body.

    A connection closed on unread data is reset, and the answer is lost with it. So the answer is
    sent, what the client still sends is swallowed for a while, and then the connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        reading = True
        begun = False

        async def receive_noted() -> Message:
            nonlocal reading, begun
            begun = True
            message = await receive()
            reading = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_lingering(message: Message) -> None:
            if reading and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if reading and last:
                await send({**message, "more_body": True})
                if begun or "expect" not in Headers(scope=scope):
                    await _swallow(receive)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, receive_noted, send_lingering)


def _has_body(scope: Scope) -> bool:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return any(name == b"transfer-encoding" or (name == b"content-length" and size != b"0") for name, size in headers)


async def _swallow(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_LINGER):
            more = True
            while more:
                async with asyncio.timeout(_LINGER_IDLE):
                    message = await receive()
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        pass
