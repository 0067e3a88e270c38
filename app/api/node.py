"""A storage node's HTTP face: what `app.nodes.http_node` calls on other machines.

Every call bears `Authorization: Bearer TOKEN`, and is refused before its body is read otherwise.
Calls on blobs say in `Mini-S3-Node` which node they mean; where another one is here, that is an
error: a blob that is missing on the wrong node is not lost.

| call | answer |
| --- | --- |
| `GET /v1/identity` | 200, the identity file; 204 where there is none yet |
| `PUT /v1/identity` | 200, the identity that is there now: the body's, if none was |
| `PUT /v1/blobs/NAME` | 201 once the body is durable as this blob. `Content-Length` is required, and so is `Content-Digest` (RFC 9530), by which the body is checked before anything is written: it is the digest of the bytes sent, which the name need not agree with |
| `GET /v1/blobs/NAME?size=N` | 200, the blob's N bytes; it is damaged if it has more or fewer |
| `POST /v1/unlink` | 204. The body names blobs to remove, one a line |
| `POST /v1/quarantine/NAME` | 204 |
| `GET /v1/folders/AB` | 200, the blobs whose digests begin with this byte, in lines of name, size, and `finished` or `unfinished` |
| `GET /v1/space` | 200, `{"free": …, "total": …}` in bytes |

Errors are problem documents (RFC 9457) with the codes of `app.errors`: `blob-missing` (404), `blob-damaged`,
`bad-configuration` (409), `node-full` (507), `node-error` (500), from which the caller makes the same errors again.
"""  # noqa: E501 - a table has long rows

from __future__ import annotations

import hashlib
import json
import re
from asyncio import to_thread
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.api.gate import Authorized, Crowd
from app.api.methods import by_method
from app.api.problems import document, on_error, on_fault, on_http_exception
from app.api.security import surrounded
from app.errors import BadRequest, BlobDamaged, BlobMissing, ConfigError, MiniS3Error, NodeError, NodeFull
from app.http.digest import HEADER as DIGEST
from app.http.digest import parse_content_digest
from app.logs import get_logger
from app.nodes.base import Node, Site, fresh
from app.nodes.wire import MOST_NAMES, NODE, format_listing, format_space
from app.streams.buffers import Loans
from app.types import CHUNK_SIZE, Blob
from app.web.bodies import body_pieces
from app.web.context import Linger, RequestContext

log = get_logger(__name__)

MOST_BLOB = CHUNK_SIZE + (64 << 10)
"""Bytes of the largest blob: a chunk, and what an encoding may add to it."""

_MOST_TEXT = 100 * MOST_NAMES
"""Bytes of the largest body that is no blob."""

_AT_ONCE = 64
"""Requests served at the same time, each with memory for one blob; further ones wait."""

_IDLE = 30.0
"""Seconds without a byte after which a body is given up."""

_STATUS: dict[type[MiniS3Error], int] = {
    BlobMissing: 404,
    BlobDamaged: 409,
    ConfigError: 409,
    NodeError: 500,
    NodeFull: 507,
}
_FOLDER = re.compile("[0-9a-f]{2}")
_NUMBER = re.compile("[0-9]{1,18}")


def build_node_api(site: Site, node: Node, token: str) -> ASGIApp:
    """The face of the node at this site."""
    calls = _Calls(site, node)
    blob = by_method({"GET": calls.read, "PUT": calls.write})
    identity = by_method({"GET": calls.identity, "PUT": calls.claim})
    app = Starlette(
        routes=[
            # Whatever follows is the name, so that a bad one is told from a path that is not known.
            Route("/v1/blobs/{name:path}", blob, methods=["GET", "PUT"]),
            Route("/v1/unlink", calls.unlink, methods=["POST"]),
            Route("/v1/quarantine/{name:path}", calls.quarantine, methods=["POST"]),
            Route("/v1/folders/{folder}", calls.list_blobs, methods=["GET"]),
            Route("/v1/space", calls.space, methods=["GET"]),
            Route("/v1/identity", identity, methods=["GET", "PUT"]),
        ],
        exception_handlers={
            NodeError: _on_node_error,
            ConfigError: _on_node_error,
            MiniS3Error: on_error,
            ClientDisconnect: _on_gone,
            HTTPException: on_http_exception,
            Exception: on_fault,
        },
    )
    app.router.redirect_slashes = False
    return RequestContext(Linger(Authorized(Crowd(app, _AT_ONCE), token)), surrounded)


class _Calls:
    def __init__(self, site: Site, node: Node) -> None:
        self._site = site
        self._node = node
        self._known: str | None = None
        self._memory = Loans(_AT_ONCE)

    async def read(self, request: Request) -> Response:
        blob = self._blob(request.path_params["name"])
        size = request.query_params.get("size", "")
        if not _NUMBER.fullmatch(size) or int(size) > MOST_BLOB:
            raise BadRequest(f"Say how many bytes the blob has: ?size=N, with N up to {MOST_BLOB}.")
        await self._meant(request)
        memory = self._lend(int(size))
        await self._node.read_into(blob, memory)
        return Response(memory, media_type="application/octet-stream")

    async def write(self, request: Request) -> Response:
        blob = self._blob(request.path_params["name"])
        size = _length(request, MOST_BLOB)
        expected = parse_content_digest(request.headers.get(DIGEST, ""))
        if expected is None:
            raise BadRequest(f"The header {DIGEST} must name the SHA-256 of the body: sha-256=:BASE64:.")
        await self._meant(request)
        memory = self._lend(size)
        await _receive(request, memory)
        if await to_thread(lambda: hashlib.sha256(memory).digest()) != expected:
            raise BadRequest(f"The body is not what {DIGEST} says: it was changed on its way. Send it again.")
        await self._node.write(blob, memory)
        return Response(status_code=201)

    async def unlink(self, request: Request) -> Response:
        names = (await _text(request)).decode("utf-8", "replace").splitlines()
        if len(names) > MOST_NAMES:
            raise BadRequest(f"Name at most {MOST_NAMES} blobs in one call.")
        blobs = list(map(self._blob, names))
        await self._meant(request)
        await self._node.unlink(blobs)
        return Response(status_code=204)

    async def quarantine(self, request: Request) -> Response:
        blob = self._blob(request.path_params["name"])
        await self._meant(request)
        await self._node.quarantine(blob)
        return Response(status_code=204)

    async def list_blobs(self, request: Request) -> Response:
        folder = request.path_params["folder"]
        if not _FOLDER.fullmatch(folder):
            raise BadRequest("A folder is named by two hexadecimal digits: 00 to ff.")
        await self._meant(request)
        found = await self._node.list_blobs(int(folder, 16))
        return Response(await to_thread(format_listing, found), media_type="text/plain")

    async def space(self, request: Request) -> Response:
        await self._meant(request)
        return Response(format_space(await self._node.space()), media_type="application/json")

    async def identity(self, request: Request) -> Response:  # noqa: ARG002
        return _told(await self._site.identity())

    async def claim(self, request: Request) -> Response:
        identity = await _text(request)
        if _id_of(identity) is None:
            raise BadRequest("An identity is a JSON object with an id.")
        return _told(await self._site.claim(identity))

    def _blob(self, name: str) -> Blob:
        blob = Blob.parse(self._node.id, name)
        if blob is None:
            raise BadRequest("A blob's name is 64 hexadecimal digits, a dot, and 16 more, in lower case.")
        return blob

    async def _meant(self, request: Request) -> None:
        """Raises NodeError where the call is for another node than the one that is here."""
        meant = unquote(request.headers.get(NODE, ""))
        if not meant:
            raise BadRequest(f"The header {NODE} must name the node that is meant.")
        if meant != self._known:
            self._known = _id_of(await self._site.identity() or b"")
        if self._known is None:
            raise NodeError("There is no node here. Is its disk mounted?")
        if meant != self._known:
            raise NodeError(f"The node here is {self._known}, not {meant}. Does its address lead where it should?")

    def _lend(self, size: int) -> memoryview:
        return self._memory.lend(size) if size <= CHUNK_SIZE else fresh(size)


def _length(request: Request, most: int) -> int:
    length = request.headers.get("content-length", "")
    if not _NUMBER.fullmatch(length):
        raise HTTPException(411, "Say with Content-Length how long the body is.")
    if int(length) > most:
        raise HTTPException(413, f"The body may have at most {most} bytes.")
    return int(length)


async def _receive(request: Request, memory: memoryview) -> None:
    """Fill the memory with the body, whose length it has."""
    filled = 0
    async for piece in body_pieces(request.receive, _IDLE):
        memory[filled : filled + len(piece)] = piece
        filled += len(piece)


async def _text(request: Request) -> bytes:
    text = memoryview(bytearray(_length(request, _MOST_TEXT)))
    await _receive(request, text)
    return bytes(text)


def _told(identity: bytes | None) -> Response:
    return Response(status_code=204) if identity is None else Response(identity, media_type="application/json")


def _id_of(identity: bytes) -> str | None:
    """The id that an identity file says, or None where it says none."""
    try:
        found = json.loads(identity)["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


async def _on_node_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MiniS3Error)  # noqa: S101 - registered for its kinds only
    if not isinstance(error, BlobMissing):
        log.warning("node call failed", code=error.code, error=error.message)
    return document(request, _STATUS[type(error)], error.code, error.message, {})


async def _on_gone(_request: Request, _error: Exception) -> Response:
    log.info("client gone in mid-body")
    return Response(status_code=400)
