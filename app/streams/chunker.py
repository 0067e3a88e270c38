"""Cutting: body bytes are copied once, into the buffer of the chunk that they belong to."""

from __future__ import annotations

from app.types import CHUNK_SIZE


def room_at(offset: int) -> int:
    """Bytes from there to the next cut, in a file that came at once."""
    return CHUNK_SIZE - offset % CHUNK_SIZE


class Filling:
    """A chunk in the making. Chunks are cut at fixed steps of `CHUNK_SIZE`; one that begins between two of them has
    `room` for less."""

    __slots__ = ("_room", "_used", "buffer")

    def __init__(self, buffer: memoryview, room: int = 0) -> None:
        self.buffer = buffer
        self._room = room or CHUNK_SIZE
        self._used = 0

    def fill(self, piece: memoryview) -> memoryview:
        """Take what still belongs to this chunk; return the rest of the piece."""
        taken = min(len(piece), self._room - self._used)
        self.buffer[self._used : self._used + taken] = piece[:taken]
        self._used += taken
        return piece[taken:]

    @property
    def full(self) -> bool:
        return self._used == self._room

    @property
    def chunk(self) -> memoryview:
        return self.buffer[: self._used]
