"""SHA-256 of a batch on one core: every kernel that this processor has, and the one that was chosen for it."""

from __future__ import annotations

import hashlib
import secrets

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from app.streams.kernel import Kernel, best_kernel
from bench.http import MIB
from bench.micro.conftest import Measure

try:
    from app.streams import _lanes
except ImportError:  # It was installed where there is no compiler.
    _lanes = None  # type: ignore[assignment]

KERNELS = {
    "hashlib": Kernel("hashlib", 1, float("inf")),
    **{kind: Kernel(kind, lanes, 1.0) for kind, lanes in (_lanes.kinds() if _lanes else {}).items()},
}
BATCHES = {
    "16 x 1 MiB": [MIB] * 16,
    "16 x 4 KiB": [4096] * 16,
    "1 x 1 MiB": [MIB],
    "16 of mixed lengths": [MIB >> number % 8 for number in range(16)],
}


@pytest.fixture(params=BATCHES)
def batch(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> list[bytes]:
    benchmark.group = f"hashing {request.param}"
    return [secrets.token_bytes(size) for size in BATCHES[request.param]]


@pytest.mark.parametrize("name", [*KERNELS, "chosen"])
def test_hashing(measure: Measure, batch: list[bytes], name: str) -> None:
    kernel = KERNELS.get(name) or best_kernel()
    digests = measure(sum(map(len, batch)), lambda: kernel.digests(batch))
    assert digests == [hashlib.sha256(buffer).digest() for buffer in batch]
