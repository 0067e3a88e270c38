"""What goes wrong for a client: errors of the server as what they were there, and some that only a client meets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app import errors
from app.client.results import StoredFile
from app.errors import ChunksMissing, MiniS3Error, NotFound, RateLimited, Unavailable


class Unreachable(Unavailable):
    """There was no answer: no connection, one that broke, or silence for too long."""

    code = "unreachable"


class Refused(MiniS3Error):
    """The server answered with an error that this client does not know; `code` and `status` are the server's."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Garbled(Unavailable):
    """Bytes that arrived are not those of the file: they were changed on the way."""

    code = "garbled"


class NoMiniS3(MiniS3Error):
    """What answered there is no server of Mini-S3, or stands before one and can't reach it."""

    code = "no-mini-s3"


class FileChanged(MiniS3Error):
    """A local file was written to while it was read. Nothing of it was stored."""

    code = "file-changed"


class NotRegular(MiniS3Error):
    """A path is no file whose bytes can be stored: a directory, a socket, a link that leads nowhere."""

    code = "not-a-file"


class FileExists(MiniS3Error):
    """A download would overwrite a file, or another download writes the same one."""

    code = "file-exists"


class Ambiguous(NotFound):
    """Several files have the name: `candidates`, newest first."""

    code = "ambiguous-name"

    def __init__(self, name: str, candidates: Sequence[StoredFile]) -> None:
        ids = ", ".join(file.id for file in candidates)
        super().__init__(f"{len(candidates)} files are called {name!r}. Name one by its id: {ids}")
        self.candidates = tuple(candidates)


def _tree(kind: type[MiniS3Error]) -> Iterator[type[MiniS3Error]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _tree(one)


_KINDS = {
    kind.code: kind
    for kind in _tree(MiniS3Error)
    if kind.__module__ in (errors.__name__, __name__) and "code" in vars(kind) and kind is not MiniS3Error
}


def translated(status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> MiniS3Error:
    """The error that a problem document (RFC 9457) of the server tells of."""
    code, detail = str(problem.get("code")), str(problem.get("detail"))
    kind = _KINDS.get(code)
    if kind is RateLimited:
        return RateLimited(detail, _retry_after(headers))
    if kind is ChunksMissing:
        return ChunksMissing([bytes.fromhex(digest) for digest in problem.get("missing", ())])
    if kind is None or kind in (errors.RangeNotSatisfiable, errors.BucketExists, Ambiguous):
        return Refused(detail, code, status)
    return kind(detail)


def _retry_after(headers: Mapping[str, str]) -> int:
    """The seconds in Retry-After (RFC 9110, section 10.2.3), or one."""
    text = headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 1
