"""A node of another machine, reached over HTTP. The protocol is described in `app.api.node`."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from app.errors import BlobDamaged, NodeError
from app.http.digest import HEADER as DIGEST
from app.http.digest import content_digest
from app.nodes.base import Node, Space, Stored
from app.nodes.http_link import Link
from app.nodes.wire import MOST_NAMES, NODE, parse_listing, parse_space
from app.types import Blob, NodeId

_BLOB = 20.0
_FOLDER = 60.0
"""Seconds for a call on one blob, and on many."""


class HttpNode(Node):
    def __init__(self, node_id: NodeId, link: Link) -> None:
        self.id = node_id
        self._link = link
        self._here: Mapping[str, str] = {NODE: quote(node_id)}

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        headers = {**self._here, DIGEST: content_digest(blob.checksum)}
        async with self._link.call("PUT", _path(blob), patience=_BLOB, headers=headers, body=data):
            pass

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        path = f"{_path(blob)}?size={len(buffer)}"
        async with self._link.call("GET", path, patience=_BLOB, headers=self._here) as answer:
            filled = 0
            async for piece, _ in answer.content.iter_chunks():
                # Too many bytes are not taken: then the sum tells.
                fitting = piece[: len(buffer) - filled]
                buffer[filled : filled + len(fitting)] = fitting
                filled += len(piece)
        if filled != len(buffer):
            raise BlobDamaged(f"{self._link.url} sent {filled} bytes of {blob.name} instead of {len(buffer)}")

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        for at in range(0, len(blobs), MOST_NAMES):
            names = "\n".join(blob.name for blob in blobs[at : at + MOST_NAMES]).encode()
            async with self._link.call("POST", "/v1/unlink", patience=_FOLDER, headers=self._here, body=names):
                pass

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        path = f"/v1/folders/{first_byte:02x}"
        async with self._link.call("GET", path, patience=_FOLDER, headers=self._here) as answer:
            text = await answer.read()
        try:
            return await to_thread(lambda: list(parse_listing(self.id, text)))
        except ValueError as error:
            raise NodeError(f"{self._link.url} sent a garbled list of blobs") from error

    async def quarantine(self, blob: Blob) -> None:
        async with self._link.call("POST", f"/v1/quarantine/{blob.name}", patience=_BLOB, headers=self._here):
            pass

    async def space(self) -> Space:
        async with self._link.call("GET", "/v1/space", patience=_BLOB, headers=self._here) as answer:
            text = await answer.read()
        try:
            return parse_space(text)
        except ValueError as error:
            raise NodeError(f"{self._link.url} sent garbled figures of its space") from error

    async def close(self) -> None:
        await self._link.close()


def _path(blob: Blob) -> str:
    return f"/v1/blobs/{blob.name}"
