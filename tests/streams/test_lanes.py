"""Many SHA-256 at once are each what `hashlib` says.

`MINI_S3_TEST_LANES` names another build of the extension that is tested instead: `make sanitize`.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams import _lanes as built


def another(path: str) -> Any:
    loader = ExtensionFileLoader("_lanes", path)
    spec = spec_from_loader("_lanes", loader)
    assert spec
    return module_from_spec(spec)


ELSEWHERE = os.environ.get("MINI_S3_TEST_LANES")
lanes: Any = another(ELSEWHERE) if ELSEWHERE else built

KINDS = list(lanes.kinds())
every_kind = pytest.mark.parametrize("kind", KINDS)

NIST = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    ),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
]
"""FIPS 180-2, appendix B, and the longer example of NIST's test data."""


def expected(buffers: Sequence[Any]) -> list[bytes]:
    return [hashlib.sha256(buffer).digest() for buffer in buffers]


def test_this_processor_has_lanes() -> None:
    assert lanes.kinds().items() <= {"avx512": 16, "avx2": 8}.items()
    assert KINDS, "the machine that runs the tests must have AVX2"


@every_kind
def test_the_examples_of_nist(kind: str) -> None:
    messages, digests = zip(*NIST, strict=True)
    assert [digest.hex() for digest in lanes.digests(kind, messages)] == list(digests)
    for message, digest in NIST:
        assert lanes.digests(kind, [message]) == [bytes.fromhex(digest)]


@every_kind
def test_every_length(kind: str) -> None:
    data = Random(1).randbytes(5000)
    near = [64 * blocks + more for blocks in range(5, 70) for more in (-9, -8, -1, 0, 1)]
    for length in [*range(301), *near]:
        batch = [data[start : start + length] for start in range(17)]
        assert lanes.digests(kind, batch) == expected(batch), length


@every_kind
@given(lengths=st.lists(st.integers(0, 400) | st.sampled_from([4096, 10_000, 65_536]), max_size=60), seed=st.integers())
def test_mixed_lengths(kind: str, lengths: list[int], seed: int) -> None:
    random = Random(seed)
    batch = [random.randbytes(length) for length in lengths]
    assert lanes.digests(kind, batch) == expected(batch)


@every_kind
def test_buffers_of_all_sorts(kind: str) -> None:
    data = bytearray(os.urandom(3000))
    with mmap.mmap(-1, 4096) as pages:
        pages.write(os.urandom(4096))
        with memoryview(pages) as whole, whole[4096 - 129 :] as end:
            batch = [bytes(data), data, memoryview(data)[1:2000], memoryview(bytes(data))[63:], end, memoryview(b"")]
            assert lanes.digests(kind, batch) == expected(batch)
    del batch
    data.clear()  # Nobody holds it any more.


@every_kind
def test_any_number_of_buffers(kind: str) -> None:
    assert lanes.digests(kind, []) == []
    for count in (1, 7, 8, 9, 15, 16, 17, 33, 1000):
        batch = (number.to_bytes(4, "big") * 40 for number in range(count))
        assert lanes.digests(kind, batch) == expected([number.to_bytes(4, "big") * 40 for number in range(count)])


@every_kind
def test_many_threads_at_once(kind: str) -> None:
    batches = [[os.urandom(length + more) for more in range(20)] for length in range(3000, 3040)]
    with ThreadPoolExecutor(8) as threads:
        for batch, digests in zip(batches, threads.map(lambda batch: lanes.digests(kind, batch), batches), strict=True):
            assert digests == expected(batch)


@every_kind
def test_what_is_no_buffer_is_refused(kind: str) -> None:
    held = bytearray(100)
    for wrong, error in [("text", TypeError), (7, TypeError), (memoryview(bytes(200))[::2], BufferError)]:
        with pytest.raises(error):
            lanes.digests(kind, [held, b"x", wrong])
    held.clear()
    with pytest.raises(TypeError):
        lanes.digests(kind, 7)
    with pytest.raises(ValueError, match="this processor has no sse9"):
        lanes.digests("sse9", [b""])
