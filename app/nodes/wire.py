"""What a node server and those who call it agree on, beside the calls themselves (see `app.api.node`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from app.nodes.base import Space, Stored
from app.types import Blob, NodeId

NODE = "Mini-S3-Node"
"""The header that says which node a call is for: an address may come to lead to another one."""

MOST_NAMES = 1000
"""Blobs that one call may name."""

KEPT = 75
"""Seconds for which a server keeps an idle connection. Clients give it up earlier, so that none is used
just when it is closed."""

_STATES = {True: "finished", False: "unfinished"}
_FINISHED = {word: finished for finished, word in _STATES.items()}


def format_listing(blobs: Iterable[Stored]) -> bytes:
    """A line for each blob: name, size and state, with spaces between."""
    return b"".join(f"{each.blob.name} {each.size} {_STATES[each.finished]}\n".encode() for each in blobs)


def parse_listing(node: NodeId, text: bytes) -> Iterator[Stored]:
    """What `format_listing` was given, as blobs of this node. Raises ValueError where it is garbled."""
    for line in text.decode("ascii").splitlines():
        name, size, state = line.split(" ")
        blob = Blob.parse(node, name)
        if blob is None or state not in _FINISHED:
            raise ValueError(f"not a line of a listing: {line[:100]!r}")
        yield Stored(blob, int(size), _FINISHED[state])


def format_space(space: Space) -> bytes:
    return json.dumps({"free": space.free, "total": space.total}).encode()


def parse_space(text: bytes) -> Space:
    """Raises ValueError where it is garbled."""
    try:
        figures = json.loads(text)
        return Space(int(figures["free"]), int(figures["total"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the figures of a space: {text[:100]!r}") from error
