"""Cutting: body bytes are copied once, into the buffer of the chunk that they belong to."""

from __future__ import annotations

from app.types import CHUNK_SIZE


class Filling:
    """A chunk in the making. Chunks are cut at fixed steps of `CHUNK_SIZE`."""

    __slots__ = ("_used", "buffer")

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self._used = 0

    def fill(self, piece: memoryview) -> memoryview:
        """Take what still belongs to this chunk; return the rest of the piece."""
        taken = min(len(piece), CHUNK_SIZE - self._used)
        self.buffer[self._used : self._used + taken] = piece[:taken]
        self._used += taken
        return piece[taken:]

    @property
    def full(self) -> bool:
        return self._used == CHUNK_SIZE

    @property
    def chunk(self) -> memoryview:
        return self.buffer[: self._used]
