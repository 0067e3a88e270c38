"""Batches are hashed rightly however they are shared among lanes and threads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams import _lanes, kernel
from app.streams.hasher import Hasher
from app.streams.kernel import Kernel, best_kernel

ALL = [Kernel("hashlib", 1, float("inf")), *(Kernel(kind, lanes, 3) for kind, lanes in _lanes.kinds().items())]


@pytest.fixture(params=ALL, ids=lambda kind: kind.kind)
def hasher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hasher]:
    monkeypatch.setattr("app.streams.hasher.best_kernel", lambda: request.param)
    hasher = Hasher()
    yield hasher
    hasher.close()


@given(lengths=st.lists(st.sampled_from([0, 1, 63, 64, 1000, 100_000]), max_size=40), seed=st.integers())
@pytest.mark.parametrize("chosen", ALL, ids=lambda kind: kind.kind)
def test_a_batch_of_any_lengths(chosen: Kernel, lengths: list[int], seed: int) -> None:
    random = Random(seed)
    batch = [memoryview(random.randbytes(length)) for length in lengths]
    assert chosen.digests(batch) == [hashlib.sha256(chunk).digest() for chunk in batch]


def test_shares_come_back_in_order(hasher: Hasher) -> None:
    for count in (0, 1, 2, 3, 16, 17, 40):
        batch = [number.to_bytes(2, "big") * 500 for number in range(count)]
        assert asyncio.run(hasher.digests(batch)) == [hashlib.sha256(chunk).digest() for chunk in batch]


def test_lanes_are_for_buffers_that_keep_them_busy() -> None:
    lanes = Kernel("avx512", 16, 4)
    assert lanes.fits([bytes(100)] * 4)
    assert not lanes.fits([bytes(100)] * 3)
    assert not lanes.fits([bytes(1000), *[bytes(100)] * 15])
    assert not lanes.fits([])
    assert not lanes.fits([b""] * 9)


@pytest.fixture
def measured_anew() -> Iterator[None]:
    best_kernel.cache_clear()
    yield
    best_kernel.cache_clear()


@pytest.mark.usefixtures("measured_anew")
def test_without_the_extension_hashlib_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_lanes", None)
    assert best_kernel() == Kernel("hashlib", 1, float("inf"))
    assert best_kernel().digests([b"abc"] * 20) == [hashlib.sha256(b"abc").digest()] * 20


@pytest.mark.usefixtures("measured_anew")
@pytest.mark.parametrize("fastest", [kind.kind for kind in ALL])
def test_the_fastest_is_chosen(monkeypatch: pytest.MonkeyPatch, fastest: str) -> None:
    """By what is measured, which is made up here."""
    order = ["hashlib", *_lanes.kinds()]
    rates = iter([1000.0 if kind == fastest else 500.0 for kind in order])
    monkeypatch.setattr(kernel, "_rate", lambda *_: next(rates))
    assert best_kernel().kind == fastest
