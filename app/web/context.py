"""What surrounds every request. Pure ASGI, so that bodies stream through."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import bind, get_logger
from app.metrics import BYTES_IN, BYTES_OUT, note_request

log = get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_LINGER = 10.0
_LINGER_IDLE = 2.0
"""Seconds for which an unread body is swallowed after the answer, in all and without a byte."""


Surround = Callable[[Iterable[tuple[bytes, bytes]], str], list[tuple[bytes, bytes]]]
"""Adds what every answer has to its headers, for the request that bears this id."""


class RequestContext:
    """Gives each request an id, an answer's common headers, a line in the log, and its place in the metrics.

    There it is known by the template of its route, or by what stands in the scope as its `operation`.
    """

    def __init__(self, app: ASGIApp, surround: Surround) -> None:
        self._app = app
        self._surround = surround

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
                message["headers"] = self._surround(message.get("headers", ()), request_id)
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


def _note(scope: Scope, status: int, received: int, sent: int, seconds: float) -> None:
    route = scope.get("route")
    template = getattr(route, "path", "other") if isinstance(route, BaseRoute) else scope.get("operation", "other")
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
