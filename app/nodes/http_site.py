"""Node servers as sites of nodes: who is there, and how a new one is claimed."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

from app.errors import ConfigError
from app.nodes.base import Site
from app.nodes.http_link import Answer, Link, Misconfigured
from app.nodes.http_node import HttpNode
from app.types import NodeId

_NOTHING = 204
_PORTS = {"http": 80, "https": 443}
_PATIENCE = 10.0
"""Seconds for a question to a server whether it is there."""


class HttpSite(Site):
    def __init__(self, url: str, token: str, trust: ssl.SSLContext | None = None) -> None:
        """`trust` as a Link takes it. Raises ConfigError where no node server can be at the URL, or without a token."""
        parts = urlsplit(url)
        self._host, self._port = _address(parts)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.location = f"{parts.scheme}://{host}:{self._port}"
        if not token:
            raise ConfigError(
                f"The node server {self.location} asks for its token. "
                "Set it with --node-token, or as MINI_S3_NODE_TOKEN."
            )
        self._token = token
        self._trust = trust

    @property
    def name(self) -> str:
        return f"{self._host}-{self._port}"

    async def identity(self) -> bytes | None:
        async with self._asked("GET") as answer:
            return await answer.read() if answer.status != _NOTHING else None

    async def claim(self, identity: bytes) -> bytes:
        async with self._asked("PUT", identity) as answer:
            return await answer.read()

    def open(self, node_id: NodeId) -> HttpNode:
        return HttpNode(node_id, self._link())

    def _link(self) -> Link:
        return Link(self.location, self._token, self._trust)

    @asynccontextmanager
    async def _asked(self, method: str, body: bytes | None = None) -> AsyncIterator[Answer]:
        link = self._link()
        try:
            async with link.call(method, "/v1/identity", patience=_PATIENCE, body=body) as answer:
                yield answer
        except Misconfigured as error:
            raise ConfigError(error.message) from error
        finally:
            await link.close()


def _address(parts: SplitResult) -> tuple[str, int]:
    try:
        host, port = parts.hostname, _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    # What stands before the host is a secret, and may not be shown.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if not host or not port:
        raise ConfigError(
            f"{shown}: name a node server by host and port, as in http://10.0.0.2:8001 or https://node1:8001."
        )
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"{shown}: the URL of a node server has nothing but host and port; its token is set apart.")
    return host, port
