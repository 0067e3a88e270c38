"""What surrounds every request."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from app.api.security import surrounded
from app.web.context import RequestContext

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


def answers(headers: list[tuple[bytes, bytes]], times: int = 1) -> list[list[tuple[bytes, bytes]]]:
    """The headers of each answer of an application that sets these."""
    starts: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)

    async def run() -> None:
        for _ in range(times):
            await RequestContext(app, surrounded)(dict(SCOPE), receive, send)

    asyncio.run(run())
    return [start["headers"] for start in starts]


def test_security_headers_stand_behind_those_of_the_answer_once() -> None:
    (headers,) = answers([(b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b")])
    assert headers[:3] == [(b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    added = [name for name, _ in headers[3:]]
    assert len(added) == len(set(added))
    assert {b"content-security-policy", b"x-content-type-options", b"x-request-id"} < set(added)


def test_an_answer_that_sets_a_security_header_itself_keeps_its_own() -> None:
    (headers,) = answers([(b"x-frame-options", b"DENY")])
    assert [value for name, value in headers if name == b"x-frame-options"] == [b"DENY"]
    assert (b"x-content-type-options", b"nosniff") in headers


def test_answers_of_one_application_do_not_mix() -> None:
    """It may send the same list again and again."""
    own = [(b"content-type", b"text/plain")]
    several = answers(own, 3)
    assert own == [(b"content-type", b"text/plain")]
    ids = {value for headers in several for name, value in headers if name == b"x-request-id"}
    assert len(ids) == 3
    assert len({len(headers) for headers in several}) == 1
