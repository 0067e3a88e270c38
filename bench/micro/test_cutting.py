"""Cutting a body into chunks in pooled buffers, beside a copy of as many bytes in steps of a chunk."""

from __future__ import annotations

import secrets

import pytest

from app.streams.buffers import BufferPool, Share
from app.streams.chunker import Filling
from bench.http import MIB
from bench.micro.conftest import Measure, amount, pieces

SIZE = 16 * MIB
BODY = secrets.token_bytes(SIZE)

pytestmark = pytest.mark.benchmark(group="cutting 16 MiB")


@pytest.fixture
def share() -> Share:
    """Of a pool whose buffers have been used: memory that is new costs more."""
    share = BufferPool(SIZE, SIZE // MIB).open_share()
    _cut(share, [BODY])
    return share


@pytest.mark.parametrize("size", [64 << 10, 256 << 10], ids=amount)
def test_filling(measure: Measure, share: Share, size: int) -> None:
    body = pieces(BODY, size)
    assert measure(SIZE, lambda: _cut(share, body)) == SIZE // MIB


def test_floor_copy(measure: Measure, share: Share) -> None:
    body = pieces(BODY, MIB)
    buffers = [_taken(share) for _ in body]

    def copy() -> None:
        for buffer, piece in zip(buffers, body, strict=True):
            buffer[:] = piece

    measure(SIZE, copy)
    assert b"".join(buffers) == BODY


def _cut(share: Share, body: list[bytes]) -> int:
    """As `app.streams.ingest` does it; how many chunks there were."""
    filling: Filling | None = None
    filled: list[memoryview] = []
    for piece in body:
        rest = memoryview(piece)
        while rest:
            filling = filling or Filling(_taken(share))
            rest = filling.fill(rest)
            if filling.full:
                filled.append(filling.buffer)
                filling = None
    share.give_back(filled)
    return len(filled)


def _taken(share: Share) -> memoryview:
    buffer = share.take_nowait()
    assert buffer is not None
    return buffer
