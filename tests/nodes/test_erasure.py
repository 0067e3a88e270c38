"""Shards of a code: any `needed` give the chunk back, and their format never changes."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nodes.erasure import decode, encode
from app.types import Redundancy


def shards_of(chunk: bytes, redundancy: Redundancy) -> list[bytes]:
    room = memoryview(bytearray(redundancy.spare * redundancy.blob_size(len(chunk))))
    return [bytes(shard) for shard in encode(chunk, redundancy, room)]


@given(st.binary(min_size=1, max_size=3000), st.integers(2, 8), st.integers(1, 4), st.integers(0, 1000))
def test_any_of_them_give_the_chunk_back(chunk: bytes, needed: int, spare: int, seed: int) -> None:
    redundancy = Redundancy(needed, spare)
    shards = dict(enumerate(shards_of(chunk, redundancy)))
    assert {len(shard) for shard in shards.values()} == {redundancy.blob_size(len(chunk))}
    some = {number: shards[number] for number in Random(seed).sample(sorted(shards), needed)}
    assert decode(some, redundancy, len(chunk)) == chunk


def test_so_does_every_choice_of_four_of_six() -> None:
    chunk = Random(1).randbytes((1 << 20) + 1 - 4096)
    redundancy = Redundancy(4, 2)
    shards = dict(enumerate(shards_of(chunk, redundancy)))
    for numbers in combinations(shards, 4):
        assert decode({number: shards[number] for number in numbers}, redundancy, len(chunk)) == chunk


@pytest.mark.parametrize("size", [1, 7, 8, 4096, 99_999])
def test_the_first_ones_are_the_chunk_itself(size: int) -> None:
    chunk = Random(2).randbytes(size)
    joined = b"".join(shards_of(chunk, Redundancy(4, 2))[:4])
    assert joined[:size] == chunk
    assert not joined[size:].strip(b"\0")


def product(one: int, other: int) -> int:
    """In GF(2^8), of the polynomial x^8 + x^4 + x^3 + x^2 + 1."""
    result = 0
    while other:
        if other & 1:
            result ^= one
        one = (one << 1) ^ (0x11D if one & 0x80 else 0)
        other >>= 1
    return result


def inverse(one: int) -> int:
    return next(other for other in range(1, 256) if product(one, other) == 1)


@pytest.mark.parametrize("redundancy", [Redundancy(4, 2), Redundancy(3, 3), Redundancy(10, 4)], ids=str)
def test_the_parities_are_those_of_the_cauchy_matrix(redundancy: Redundancy) -> None:
    """What is stored now is to be read by any later version: row i, column j holds 1 / (i xor j)."""
    chunk = bytes(number % 251 for number in range(60 * redundancy.needed))
    shards = shards_of(chunk, redundancy)
    for row, parity in enumerate(shards[redundancy.needed :], redundancy.needed):
        factors = [inverse(row ^ column) for column in range(redundancy.needed)]
        for at, byte in enumerate(parity):
            expected = 0
            for factor, shard in zip(factors, shards, strict=False):
                expected ^= product(factor, shard[at])
            assert byte == expected


def test_a_view_is_taken_as_well_as_bytes() -> None:
    chunk = Random(3).randbytes(1000)
    shards = encode(memoryview(bytearray(chunk)), Redundancy(2, 1), memoryview(bytearray(500)))
    views = {number: memoryview(bytearray(shard)) for number, shard in enumerate(shards)}
    assert decode({1: views[1], 2: views[2]}, Redundancy(2, 1), 1000) == chunk
