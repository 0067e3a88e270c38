"""Chunks, and their digests."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams import chunker
from app.streams.chunker import Filling
from app.streams.hasher import Hasher
from app.types import CHUNK_SIZE

pytestmark = pytest.mark.anyio

STEP = 32


def chunks_of(pieces: list[bytes], step: int) -> list[bytes]:
    """As an upload cuts: each buffer is used again, with the last chunk's bytes in it."""
    chunks: list[bytes] = []
    buffer = bytearray(step)
    filling = Filling(buffer)
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = filling.fill(rest)
            if filling.full:
                chunks.append(bytes(filling.chunk))
                filling = Filling(buffer)
    return [*chunks, bytes(filling.chunk)] if filling.chunk else chunks


near_the_step = st.sampled_from([0, 1, STEP - 1, STEP, STEP + 1, 2 * STEP - 1, 2 * STEP, 2 * STEP + 1, 5 * STEP])


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(near_the_step | st.integers(0, 3 * STEP), max_size=12))
def test_any_pieces_give_the_slices_of_the_file(sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    content = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunker, "CHUNK_SIZE", STEP)
        assert chunks_of(pieces, STEP) == [content[start : start + STEP] for start in range(0, len(content), STEP)]


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("piece", [65_536, 100_003, 3 * CHUNK_SIZE])
def test_the_step_is_one_mebibyte(extra: int, piece: int) -> None:
    content = os.urandom(2 * CHUNK_SIZE + extra)
    pieces = [content[start : start + piece] for start in range(0, len(content), piece)]
    assert chunks_of(pieces, CHUNK_SIZE) == [content[at : at + 1048576] for at in range(0, len(content), 1048576)]


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
@pytest.mark.parametrize(
    "sizes", [[], [0], [1], [5, 0], [5, 0, 100_000], [70_000] * 16, [70_000] * 17, list(range(17)), [0] * 17]
)
async def test_digests_are_those_of_hashlib_in_order(
    sizes: list[int], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    hasher = Hasher()
    try:
        contents = [os.urandom(size) for size in sizes]
        expected = [hashlib.sha256(content).digest() for content in contents]
        assert await hasher.digests(contents) == expected
        assert await hasher.digests([memoryview(bytearray(content)) for content in contents]) == expected
    finally:
        hasher.close()
