"""One upload session of the server: what is told it, asked of it, and sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.client.link import Body, Link, Request
from app.client.results import How, Span, StoredFile, Upload
from app.types import ContentId, Digest

MOST_PARTS = 10_000
"""The highest number that a part may have."""


class Session:
    """All calls may be repeated, and are, while the server is away. They raise MiniS3Error, and NoSuchUpload where
    the session was given up, or expired."""

    def __init__(self, link: Link, session: str, parts: int = 0, *, done: bool = False) -> None:
        """`parts`: the highest number that a part of it has. One that is `done` became a file already."""
        self.id = session
        self.done = done
        self._link = link
        self._path = f"/api/uploads/{session}"
        self._parts = parts

    @classmethod
    async def begin(cls, link: Link, name: str, content_type: str, size: int | None) -> Session:
        view = {"name": name, "contentType": content_type} | ({} if size is None else {"size": size})
        answer = await link.json(Request.with_json("POST", "/api/uploads", view))
        return cls(link, answer["id"])

    @classmethod
    async def resume(cls, link: Link, session: str) -> Session:
        answer = await link.json(Request("GET", f"/api/uploads/{session}"))
        parts = max((part["number"] for part in answer["parts"]), default=0)
        return cls(link, session, parts, done="fileId" in answer)

    async def missing(self, spans: Sequence[Span]) -> set[Digest]:
        """Which of these chunks have to be sent; at most 10,000 at a time."""
        request = Request.with_json("POST", f"{self._path}/missing", {"chunks": _listed(spans)})
        answer = await self._link.json(request)
        return {Digest(bytes.fromhex(digest)) for digest in answer["missing"]}

    @property
    def takes_parts(self) -> bool:
        """Otherwise chunks have to go one by one."""
        return self._parts < MOST_PARTS

    async def send(self, body: Body, size: int) -> None:
        """Send chunks, one after the other, of which only the last may be shorter than where files are cut."""
        self._parts += 1
        path = f"{self._path}/parts/{self._parts}"
        await self._link.json(Request("PUT", path, body=body, size=size))

    async def send_chunk(self, span: Span, body: Body) -> None:
        """Send one chunk. Raises DigestMismatch where the bytes are others."""
        path = f"{self._path}/chunks/{span.digest.hex()}"
        await self._link.json(Request("PUT", path, body=body, size=span.size))

    async def complete(self, spans: Sequence[Span]) -> Any:
        """The file of these chunks, or the one that the session became before. Raises ChunksMissing where some are not
        there."""
        return await self._complete({"chunks": _listed(spans)})

    async def complete_by_content(self, content_id: ContentId) -> Any:
        """The file that holds what another one holds. Raises ContentUnknown where there is none."""
        return await self._complete({"contentId": content_id})

    async def _complete(self, view: object) -> Any:
        return await self._link.json(Request.with_json("POST", f"{self._path}/complete", view))

    async def abort(self) -> None:
        await self._link.json(Request("DELETE", self._path))


def _listed(spans: Sequence[Span]) -> list[dict[str, object]]:
    return [{"digest": span.digest.hex(), "size": span.size} for span in spans]


def uploads_of(answer: Any, how: How, sent: Sequence[int]) -> list[Upload]:
    """The files that the answer to an upload tells of, in their order, with the bytes that were sent of each."""
    files = map(StoredFile.parse, answer["files"])
    return [Upload(file, how, size) for file, size in zip(files, sent, strict=True)]
