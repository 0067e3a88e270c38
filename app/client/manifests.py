"""Which chunks a file of the store consists of."""

from __future__ import annotations

from app.client.errors import NoMiniS3
from app.client.link import Link, Request
from app.client.local import content_id_of
from app.client.results import Span, StoredFile
from app.types import Digest


async def manifest(link: Link, file: StoredFile) -> list[Span]:
    """All chunks of the file, which its content id vouches for. Raises MiniS3Error."""
    spans: list[Span] = []
    after: int | None = 0
    while after is not None:
        answer = await link.json(Request("GET", f"/api/files/{file.id}/manifest", {"after": after}))
        spans += [Span(one["offset"], one["size"], Digest(bytes.fromhex(one["digest"]))) for one in answer["chunks"]]
        after = answer["next"]
    if content_id_of(spans) != file.content_id:
        raise NoMiniS3(f"The list of chunks of {file.id} is not that of its content id: this client is too old for it.")
    return spans
