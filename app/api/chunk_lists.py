"""Bodies that list chunks, read as they come: a list of a million must not stand in memory as JSON. Sans-io."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

from app.errors import BadRequest
from app.store.negotiation import MAX_CHUNK
from app.types import ChunkRef, Digest

_MOST_BESIDE = 1 << 20
"""Bytes of a document that is no list of chunks, and of what stands around one."""

_HEAD = re.compile(rb'\s*\{\s*"chunks"\s*:\s*\[')
_TAIL = re.compile(rb"\]\s*\}\s*")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class ChunkLists:
    """Reads `{"chunks": [{"digest": …, "size": …}, …]}`, or any other document, which must be short.

    `feed` gives what was listed in each piece; `listed` tells that it is such a list. The document is good only if
    `finish` returns. Both raise BadRequest.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._count = 0
        self.listed = False
        self._closed = False

    def feed(self, data: bytes) -> Sequence[ChunkRef]:
        self._rest += data
        if not self.listed and (head := _HEAD.match(self._rest)):
            self.listed = True
            self._rest = self._rest[head.end() :]
        refs = self._items() if self.listed and not self._closed else []
        if len(self._rest) > _MOST_BESIDE:
            _refuse()
        return refs

    def finish(self) -> dict[str, Any]:
        """The document, but for the chunks that were listed; empty where there was none."""
        if self.listed:
            if not (self._closed and _TAIL.fullmatch(self._rest)):
                _refuse()
            return {}
        document = _parsed(self._rest) if self._rest.strip() else {}
        if not isinstance(document, dict):
            _refuse()
        return document

    def _items(self) -> list[ChunkRef]:
        """Take all that are complete. There is no bracket or brace inside of them."""
        end = self._rest.find(b"]")
        self._closed = end >= 0
        stop = end if self._closed else self._rest.rfind(b"}") + 1
        items, self._rest = self._rest[:stop].strip(), self._rest[stop:]
        if not items:
            return []
        if self._count:
            if not items.startswith(b",") or items == b",":
                _refuse()
            items = items[1:]
        refs = [_ref(item) for item in _parsed(b"[" + items + b"]")]
        self._count += len(refs)
        return refs


def parse_digest(text: object) -> Digest:
    """Raises BadRequest."""
    if not (isinstance(text, str) and _DIGEST.fullmatch(text)):
        raise BadRequest("A digest must be a SHA-256 in 64 hexadecimal digits.")
    return Digest(bytes.fromhex(text))


def _ref(item: object) -> ChunkRef:
    if not isinstance(item, dict):
        _refuse()
    size = item.get("size")
    if type(size) is not int or not 1 <= size <= MAX_CHUNK:
        raise BadRequest(f"The `size` of a chunk must be a whole number from 1 to {MAX_CHUNK}.")
    return ChunkRef(parse_digest(item.get("digest")), size)


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is no JSON that can be read: {error}.") from error


def _refuse() -> NoReturn:
    raise BadRequest('The body must be a JSON object; a list of chunks is {"chunks": [{"digest": "…", "size": 1}, …]}.')
