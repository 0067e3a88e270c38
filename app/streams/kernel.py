"""SHA-256 of several chunks in one call, each in a lane of the processor's vectors.

How fast that is beside OpenSSL differs by an order of magnitude from processor to processor: some have
wide vectors, some have instructions for SHA, some both. So it is measured once in each process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter

try:
    from app.streams import _lanes
except ImportError:  # It was installed where there is no compiler.
    _lanes = None  # type: ignore[assignment]

Buffers = Sequence[bytes | memoryview]

_SAMPLE = 1 << 16
"""Bytes of each buffer that the measurement hashes."""
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Kernel:
    """How chunks are hashed. `least` is the number of equal buffers from which the lanes are worth it; `rates` are the
    MB a second that were measured, with these lanes and without any."""

    kind: str
    lanes: int
    least: float
    rates: tuple[float, float] = field(default=(0, 0), compare=False)

    @property
    def facts(self) -> dict[str, object]:
        """For a log."""
        rate, alone = self.rates
        return {"kind": self.kind, "lanes": self.lanes, "mb_s": round(rate), "openssl_mb_s": round(alone)}

    def digests(self, buffers: Buffers) -> list[bytes]:
        """The digests of the buffers, in their order. The GIL is released."""
        if self.fits(buffers):
            return _lanes.digests(self.kind, buffers)
        return one_by_one(buffers)

    def fits(self, buffers: Buffers) -> bool:
        """Whether these buffers keep enough lanes busy for as long as the longest of them takes."""
        longest = max(map(len, buffers), default=0)
        return sum(map(len, buffers)) >= self.least * longest > 0


def one_by_one(buffers: Buffers) -> list[bytes]:
    return [hashlib.sha256(buffer).digest() for buffer in buffers]


@cache
def best_kernel() -> Kernel:
    """The fastest one here, by a measurement of some milliseconds."""
    sample: Buffers = [bytes(_SAMPLE)] * 16
    alone = _rate(one_by_one, sample)
    best, fastest = Kernel("hashlib", 1, float("inf"), (alone, alone)), alone
    for kind, lanes in (_lanes.kinds() if _lanes else {}).items():
        rate = _rate(lambda buffers, kind=kind: _lanes.digests(kind, buffers), sample)  # type: ignore[misc]
        if rate > fastest:
            best, fastest = Kernel(kind, lanes, lanes * alone / rate, (rate, alone)), rate
    return best


def _rate(hash_all: Callable[[Buffers], list[bytes]], sample: Buffers) -> float:
    """MB a second, the best of some rounds."""
    best = 0.0
    for _ in range(_ROUNDS):
        start = perf_counter()
        hash_all(sample)
        best = max(best, sum(map(len, sample)) / (perf_counter() - start) / 1e6)
    return best
