"""Requests to a server: who asks, what becomes of errors, and when they are tried again. Here alone the client
knows aiohttp."""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from app.client.errors import NoMiniS3, Unreachable, translated
from app.errors import ConfigError, MiniS3Error, RateLimited, Unavailable, UploadStalled

_CONNECT = 10.0
"""Seconds within which a server must take a connection."""
_SILENCE = 120.0
"""Seconds without a byte after which an answer is given up."""
_FIRST_CONTACT = 2.0
"""Seconds for which a server is tried again that never answered, for its address is likely wrong; or that was given up
for other work already."""
_SHORTEST, _LONGEST = 0.1, 5.0
"""Seconds before the second attempt, and at the most before a further one where the server names none."""

Body = Callable[[], AsyncIterator[bytes | memoryview]]
"""Gives the bytes of a body, from their beginning each time."""


@dataclass(frozen=True, slots=True)
class Account:
    """A server, and the access key that speaks for its caller; an open server needs none."""

    url: str
    access_key: str = ""
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{self.url!r} is no address of a server: write http://HOST:PORT or https://HOST.")
        if parts.username is not None:
            raise ConfigError("The address of a server holds no keys: give them beside it.")
        if bool(self.access_key) != bool(self.secret_key):
            raise ConfigError("An access key and its secret go together: give both, or neither.")

    @property
    def headers(self) -> dict[str, str]:
        if not self.access_key:
            return {}
        pair = b64encode(f"{self.access_key}:{self.secret_key}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `size` is that of the body; without one the body is sent in chunks (RFC 9112, section 7.1)."""

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    size: int | None = None

    @classmethod
    def with_json(cls, method: str, path: str, view: object) -> Request:
        content = json.dumps(view, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(method, path, {}, {"Content-Type": "application/json"}, body_of(content), len(content))


def body_of(content: bytes | memoryview) -> Body:
    async def pieces() -> AsyncIterator[bytes | memoryview]:
        yield content

    return pieces


Waiting = Callable[[MiniS3Error, float], None]
"""Is told why a request has to wait, and for how many seconds, before it is tried again."""


class Link:
    """Connections to one server, opened when they are needed, in the loop that needs them."""

    def __init__(self, account: Account, *, patience: float, connections: int, waiting: Waiting) -> None:
        """`patience`: the seconds for which a request is tried again while the server is away."""
        self.account = account
        self._url = account.url.rstrip("/")
        self._patience = patience
        self._connections = connections
        self._waiting = waiting
        self._session: aiohttp.ClientSession | None = None
        self._there = False

    async def json(self, request: Request, *, repeat: bool = True) -> Any:
        """The answer's JSON, None where it has no body. A request that may be repeated is tried again while the
        server is away. Raises MiniS3Error."""
        retries = self.retries()
        while True:
            try:
                async with self.open(request) as answer:
                    return await answer.json()
            except MiniS3Error as error:
                if not repeat:
                    raise
                await retries.wait(error)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        """The answer, if it is a good one; reading it belongs inside. Nothing is tried again.

        Raises Unreachable where the connection can't be made, or breaks, what the server answers, and what
        goes wrong with the body.
        """
        async with await self._begun(request) as raw:
            self._there = True
            answer = Answer(raw, self._url)
            if raw.status >= 300:
                raise await _error(answer)
            yield answer

    async def _begun(self, request: Request) -> aiohttp.ClientResponse:
        headers = dict(request.headers)
        body = _Noted(request.body) if request.body else None
        if request.size is not None:
            headers["Content-Length"] = str(request.size)
        try:
            return await self._opened().request(
                request.method,
                self._url + request.path,
                params=request.query,
                headers=headers,
                data=body.pieces() if body else None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            if body and body.error:
                raise body.error from None
            raise _unreachable(self._url, error) from error

    def retries(self) -> Retries:
        """For one piece of work. A server that never answered, or is given up, is not waited for long."""
        patience = self._patience if self._there else min(self._patience, _FIRST_CONTACT)
        return Retries(patience, self._waiting, self._give_up)

    def _give_up(self) -> None:
        self._there = False

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                headers={"Accept-Encoding": "identity", **self.account.headers},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 20,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
            )
        return self._session


class Answer:
    """The answer to a request. Reading it raises Unreachable."""

    def __init__(self, raw: aiohttp.ClientResponse, url: str) -> None:
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.kind = raw.content_type
        self._raw = raw
        self._url = url

    async def content(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, whole."""
        try:
            async for piece in self._raw.content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(self._url, error) from error

    async def json(self) -> Any:
        """None where there is no body."""
        content = await self.content()
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            raise self.stranger() from error

    def stranger(self) -> NoMiniS3:
        return NoMiniS3(
            f"{self._url} answered {self.status}, and not as Mini-S3 does. Is its native API there, and not the S3 API "
            "or another server?"
        )


class _Noted:
    """A body; what goes wrong with it must not pass for a fault of the connection."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.error: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        try:
            async for piece in self._body():
                yield piece
        except Exception as error:
            self.error = error
            raise


class Retries:
    """When one piece of work is tried again: at growing intervals, or over a rate limit when the server says, until it
    was in vain for `patience` seconds."""

    def __init__(self, patience: float, waiting: Waiting, given_up: Callable[[], None]) -> None:
        self._patience = patience
        self._waiting = waiting
        self._given_up = given_up
        self._delay = _SHORTEST
        self._since = monotonic()

    def moved(self) -> None:
        """Something was achieved: patience begins anew."""
        self._delay = _SHORTEST
        self._since = monotonic()

    async def wait(self, error: MiniS3Error) -> None:
        """To be called with what went wrong; raises it where another attempt is of no use."""
        seconds = self._seconds(error)
        if monotonic() + seconds > self._since + self._patience:
            self._given_up()
            raise error
        self._waiting(error, seconds)
        await asyncio.sleep(seconds)
        if isinstance(error, RateLimited):
            self.moved()

    def _seconds(self, error: MiniS3Error) -> float:
        if isinstance(error, RateLimited):
            return error.retry_after
        if not isinstance(error, Unavailable | UploadStalled):
            raise error
        seconds = self._delay * random.uniform(0.5, 1)  # noqa: S311 - so that clients do not come back all at once
        self._delay = min(2 * self._delay, _LONGEST)
        return seconds


async def _error(answer: Answer) -> MiniS3Error:
    if answer.kind == "application/problem+json":
        problem = await answer.json()
        if isinstance(problem, dict):
            return translated(answer.status, problem, answer.headers)
    if answer.status in (502, 503, 504):
        return Unavailable(f"The server is away: {answer.status} was answered in its place.")
    return answer.stranger()


def _unreachable(url: str, error: aiohttp.ClientError | OSError) -> MiniS3Error:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigError(
            f"The certificate of {url} is not accepted: {cause.verify_message}. If it is from an authority of your "
            "own, name the file with that authority's certificate in SSL_CERT_FILE."
        )
    if isinstance(cause, ssl.SSLError):
        return ConfigError(f"No TLS is spoken at {url} ({cause.reason}). If it has no certificate, say http://")
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigError(f"{url} is no address of a server: write http://HOST:PORT or https://HOST.")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{url} does not answer.")
    number = getattr(cause, "errno", None) or 0
    told = os.strerror(number) if number > 0 else str(cause)
    return Unreachable(f"{url} can't be reached: {told or 'gone'}. Is the server running, and is this its address?")
