"""Digests of bodies: by published check values and other implementations, off the event loop, in bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams import sums
from app.streams.crcs import combine
from app.streams.sums import Kind, Sums, composite, multipart_etag
from tests.streams.tools import MIB, turns

ALL: tuple[Kind, ...] = ("md5", "sha1", "sha256", "crc32", "crc32c", "crc64nvme")
CRCS: tuple[Kind, ...] = ("crc32", "crc32c", "crc64nvme")


def digests(pieces: Sequence[bytes | memoryview], kinds: Collection[Kind] = ALL) -> dict[Kind, bytes]:
    async def run() -> dict[Kind, bytes]:
        running = Sums(kinds)
        for piece in pieces:
            await running.update(piece)
        return dict(await running.finish())

    return asyncio.run(run())


def bitwise_crc(data: bytes, polynomial: int, width: int) -> bytes:
    """A reflected CRC with all ones before and after, one bit at a time, as the specifications define it."""
    reflected = int(f"{polynomial:0{width}b}"[::-1], 2)
    register = ones = (1 << width) - 1
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (reflected if register & 1 else 0)
    return (register ^ ones).to_bytes(width // 8, "big")


def test_check_values() -> None:
    """Those of the catalogue of parametrised CRC algorithms, and of RFC 1321 and FIPS 180."""
    assert {kind: digest.hex() for kind, digest in digests([b"123456789"]).items()} == {
        "md5": "25f9e794323b453885f5181f1b624d0b",
        "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        "crc32": "cbf43926",
        "crc32c": "e3069283",
        "crc64nvme": "ae8b14860a799888",
    }


def test_a_body_of_no_bytes() -> None:
    assert digests([])["md5"] == hashlib.md5(b"").digest()
    assert digests([])["crc64nvme"] == bytes(8)


@given(st.binary(max_size=200))
def test_crcs_by_their_definition(data: bytes) -> None:
    assert digests([data], CRCS) == {
        "crc32": zlib.crc32(data).to_bytes(4, "big"),
        "crc32c": bitwise_crc(data, 0x1EDC6F41, 32),
        "crc64nvme": bitwise_crc(data, 0xAD93D23594C93659, 64),
    }


@given(sizes=st.lists(st.sampled_from([0, 1, 1000, 40_000, 300_000]), max_size=12), seed=st.integers())
def test_pieces_of_any_sizes_in_order(sizes: list[int], seed: int) -> None:
    """Small ones are hashed at once, unless others wait."""
    random = Random(seed)
    pieces = [random.randbytes(size) for size in sizes]
    whole = b"".join(pieces)
    views = [memoryview(piece) for piece in pieces]
    found = digests(views)
    assert found["md5"] == hashlib.md5(whole).digest()
    assert found["sha1"] == hashlib.sha1(whole).digest()
    assert found["sha256"] == hashlib.sha256(whole).digest()
    assert found["crc32"] == zlib.crc32(whole).to_bytes(4, "big")
    assert {kind: found[kind] for kind in ("crc32c", "crc64nvme")} == digests([whole], ("crc32c", "crc64nvme"))


class Watched:
    """A digest that tells in which thread it ran, and can be held up."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.taken = 0
        self.go = threading.Event()
        self.go.set()

    def update(self, data: bytes | memoryview, /) -> None:
        assert self.go.wait(30)
        self.threads.append(threading.get_ident())
        self.taken += len(data)

    def digest(self) -> bytes:
        return self.taken.to_bytes(8, "big")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    monkeypatch.setattr(sums, "_HASHES", {"md5": lambda: watched})
    return watched


def test_only_small_pieces_are_hashed_on_the_event_loop(watched: Watched) -> None:
    here = threading.get_ident()
    digests([bytes(1000)], ["md5"])
    assert watched.threads == [here]
    watched.threads.clear()
    digests([bytes(100_000), bytes(MIB)], ["md5"])
    assert len(watched.threads) == 2
    assert here not in watched.threads


@pytest.mark.anyio
async def test_update_waits_when_too_much_does(watched: Watched) -> None:
    watched.go.clear()
    running = Sums(["md5"])
    for _ in range(4):
        await running.update(bytes(MIB))
    full = asyncio.create_task(running.update(bytes(MIB)))
    await turns(10)
    assert not full.done()
    watched.go.set()
    await full
    assert (await running.finish())["md5"] == (5 * MIB).to_bytes(8, "big")


def test_what_is_given_up_gets_no_turn(watched: Watched) -> None:
    async def give_up() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        watched.go.clear()
        busy, given_up = Sums(["md5"]), Sums(["md5"])
        await busy.update(bytes(MIB))
        await given_up.update(bytes(MIB))
        given_up.close()
        await turns(2)  # the loop tells the threads
        watched.go.set()

    asyncio.run(give_up())  # which waits for the threads
    assert watched.taken == MIB


@pytest.mark.anyio
async def test_an_update_that_is_cancelled_leaves_the_order(watched: Watched) -> None:
    watched.go.clear()
    running = Sums(["md5"])
    full = asyncio.create_task(running.update(bytes(5 * MIB)))
    await turns(10)
    full.cancel()
    watched.go.set()
    assert (await running.finish())["md5"] == (5 * MIB).to_bytes(8, "big")


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
@pytest.mark.parametrize("kind", CRCS)
def test_crcs_of_two_runs_give_that_of_both(kind: Kind, first: bytes, second: bytes) -> None:
    one, two, both = (digests([data], [kind])[kind] for data in (first, second, first + second))
    assert combine(kind, one, two, len(second)) == both


@pytest.mark.parametrize("kind", CRCS)
def test_long_runs_combine(kind: Kind) -> None:
    """5 GiB, the largest part: by doubling, and in equal steps."""
    length = 5 << 10
    powers = [digests([bytes(range(256)) * 20], [kind])[kind]]
    for _ in range(20):
        powers.append(combine(kind, powers[-1], powers[-1], length))
        length *= 2
    stepwise = powers[10]
    for _ in range(1023):
        stepwise = combine(kind, stepwise, powers[10], 5 << 20)
    assert (length, powers[20]) == (5 << 30, stepwise)


def test_digests_do_not_combine() -> None:
    with pytest.raises(KeyError):
        combine("sha256", bytes(32), bytes(32), 1)


def test_digests_of_digests() -> None:
    parts = [hashlib.sha256(part).digest() for part in (b"a", b"b")]
    assert composite("sha256", parts) == hashlib.sha256(parts[0] + parts[1]).digest()
    assert composite("crc32", [b"\x01\x02\x03\x04"]) == zlib.crc32(b"\x01\x02\x03\x04").to_bytes(4, "big")


def test_the_etag_of_a_multipart_upload() -> None:
    parts = [hashlib.md5(part).digest() for part in (b"", b"")]
    assert multipart_etag(parts) == '"5873dd45edd01f09c1ef2e7819369e8e-2"'
