"""Small files: several in one form, as browsers send them (RFC 7578), without asking first."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from urllib.parse import quote

from app.client.errors import Unreachable
from app.client.link import Link, Request
from app.client.results import StoredFile, Upload
from app.client.sessions import uploads_of
from app.client.watch import Watch
from app.errors import Damaged, MiniS3Error
from app.types import ContentId

MOST_FILES = 100
MOST_BYTES = 8 << 20
"""Of one form, at the most, beside its first file."""

_LOOKED_AT = 1000
"""Files that one list tells of."""
_TOLERANCE = timedelta(seconds=2)
"""Between the clock in the header Date, which tells whole seconds, and that of the database."""


@dataclass(frozen=True, slots=True)
class Small:
    """A file in memory, of at most one chunk."""

    name: str
    content_type: str
    content: bytes
    watch: Watch

    @property
    def content_id(self) -> ContentId:
        return ContentId(hashlib.sha256(self.content).hexdigest())


async def send(link: Link, files: Sequence[Small]) -> list[Upload]:
    """Store these files, all or none; tried again while the server is away.

    Where an answer was lost, it is found out first whether the files are there. Raises MiniS3Error.
    """
    retries = link.retries()
    began = monotonic()
    request = _form(files)
    while True:
        try:
            answer = await link.json(request, repeat=False)
            uploads = uploads_of(answer, "whole", [len(file.content) for file in files])
            break
        except Unreachable as error:
            await retries.wait(error)
            if there := await _appeared(link, files, monotonic() - began):
                uploads = [Upload(file, "whole", file.size) for file in there]
                break
        except MiniS3Error as error:
            await retries.wait(error)
    if [upload.file.content_id for upload in uploads] != [file.content_id for file in files]:
        raise Damaged("The bytes that the server stored are not those that were sent. Delete the file, and try again.")
    for file in files:
        file.watch.moved(len(file.content))
    return uploads


async def _appeared(link: Link, files: Sequence[Small], seconds: float) -> list[StoredFile] | None:
    """The files, if they all came up in the last `seconds` by the server's clock; None where that can't be told."""
    try:
        async with link.open(Request("GET", "/api/files", {"limit": _LOOKED_AT})) as answer:
            since = parsedate_to_datetime(answer.headers["Date"]) - timedelta(seconds=seconds) - _TOLERANCE
            newest = [StoredFile.parse(view) for view in (await answer.json())["files"]]
    except (MiniS3Error, KeyError, ValueError):
        return None
    recent = {(file.name, file.content_id): file for file in reversed(newest) if file.created_at >= since}
    found = [recent.get((file.name, file.content_id)) for file in files]
    return [file for file in found if file] if all(found) else None


def _form(files: Sequence[Small]) -> Request:
    boundary = secrets.token_hex(16)
    closing = f"--{boundary}--\r\n".encode()
    heads = [_head(boundary, file) for file in files]

    async def body() -> AsyncIterator[bytes]:
        for head, file in zip(heads, files, strict=True):
            yield head
            yield file.content
            yield b"\r\n"
        yield closing

    size = sum(len(head) + len(file.content) + 2 for head, file in zip(heads, files, strict=True)) + len(closing)
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Request("POST", "/api/upload", headers=kind, body=body, size=size)


def _head(boundary: str, file: Small) -> bytes:
    # In the extended form (RFC 8187): in the plain one %22 and a quote are written alike.
    name = f"filename*=UTF-8''{quote(file.name, safe='')}"
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; {name}\r\n'
        f"Content-Type: {file.content_type}\r\n\r\n"
    ).encode()
