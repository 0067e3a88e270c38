"""Calls on a node server, and what becomes of their errors. The one module that knows aiohttp.

The protocol is described in `app.api.node`. An error of the node comes back as what it was there;
all else that goes wrong on the way is a NodeError.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from app.errors import BlobDamaged, BlobMissing, ConfigError, MiniS3Error, NodeError, NodeFull
from app.nodes.trust import passes_with_time, refusal
from app.nodes.wire import KEPT

Answer = aiohttp.ClientResponse

_UNAUTHORIZED = 401
_CONNECT = 3.0
"""Seconds within which a server must take a connection."""

_CONNECTIONS = 32
"""Calls at the same time; further ones wait, which counts as time of theirs."""

_PIECE = 256 << 10
"""Bytes handed to the transport at once."""

_MOST_PROBLEM = 64 << 10
"""Bytes of an error's description that are read."""

_KINDS: dict[str, type[MiniS3Error]] = {
    kind.code: kind for kind in (NodeError, NodeFull, BlobMissing, BlobDamaged, ConfigError)
}


class Misconfigured(NodeError):
    """The token, the certificate or the address are wrong: nobody is let in before that is changed."""


class Link:
    """Connections to one server, opened when they are needed, in the loop that needs them."""

    def __init__(self, url: str, token: str, trust: ssl.SSLContext | None = None) -> None:
        """`trust`: for https, whose certificates are believed; without it, those that the system trusts."""
        self.url = url
        self._token = token
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._answered = False

    @asynccontextmanager
    async def call(
        self,
        method: str,
        path: str,
        *,
        patience: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer, if it is a good one; reading it belongs inside. All of it takes at most `patience`
        seconds. Raises NodeError, its kinds, and ConfigError."""
        timeout = aiohttp.ClientTimeout(total=patience, sock_connect=_CONNECT)
        data = None if body is None else _Body(memoryview(body))
        try:
            async with self._opened().request(
                method, self.url + path, headers=headers, data=data, timeout=timeout, allow_redirects=False
            ) as answer:
                self._answered = True
                if answer.status >= 300:
                    await self._raise(answer)
                yield answer
        except TimeoutError as error:
            raise NodeError(f"{self.url} did not answer within {patience:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error

    async def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        if self._session:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise NodeError(f"the link to {self.url} is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_CONNECTIONS, keepalive_timeout=KEPT / 2, socket_factory=_socket, ssl=self._trust or True
                ),
                headers={"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 20,
            )
        return self._session

    def _failure(self, error: aiohttp.ClientError | OSError) -> NodeError:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, ssl.SSLError):
            passing = isinstance(cause, ssl.SSLCertVerificationError) and passes_with_time(cause)
            return (NodeError if passing else Misconfigured)(f"{self.url}: {refusal(cause)}.")
        told = f"{self.url} can't be reached: {error or type(error).__name__}"
        if isinstance(error, aiohttp.ServerDisconnectedError) and self.url.startswith("http:") and not self._answered:
            told += ". If it is served with a certificate, say https://"
        return NodeError(told)

    async def _raise(self, answer: Answer) -> None:
        problem: Any = None
        if answer.content_type == "application/problem+json" and (answer.content_length or 0) <= _MOST_PROBLEM:
            problem = _parsed(await answer.read())
        if answer.status == _UNAUTHORIZED:
            raise Misconfigured(f"{self.url} refuses the token. Set that of the node server, as MINI_S3_NODE_TOKEN.")
        if not isinstance(problem, dict):
            raise NodeError(f"{self.url} answered {answer.status} {answer.reason}. Is a node server there?")
        kind = _KINDS.get(str(problem.get("code")), NodeError)
        raise kind(f"{self.url}: {problem.get('detail')}")


class _Body(aiohttp.Payload):
    """Bytes as a body of their own length, sent in pieces: nothing of them is copied here."""

    _value: memoryview

    def __init__(self, value: memoryview) -> None:
        super().__init__(value)
        self._size = value.nbytes

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for at in range(0, len(self._value), _PIECE):
            await writer.write(self._value[at : at + _PIECE])


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol = address[:3]
    opened = socket.socket(family, kind, protocol)
    # A connection that is given up while the server hangs would hold what was not sent yet for ever.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_CONNECT * 1000))
    return opened
