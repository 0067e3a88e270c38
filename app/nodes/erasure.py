"""Reed-Solomon: cutting a chunk into shards, and making it again of any `needed` ones.

The format is our own. Of k + m shards, all of s = ceil(size / k) bytes, the first k are the chunk's bytes one
after the other, with zeros behind the last; the others are parities of those, by ISA-L's Cauchy
matrix over GF(2^8). The arithmetic is liberasurecode's (through pyeclib), whose fragments begin with a
header. That says nothing of the bytes behind it, so it is cut off, and made anew to decode.

The library gives wrong bytes, in silence, for shards that are damaged: only those whose digests
are right are to be passed in. It takes nothing but `bytes`; a memoryview ends the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import lru_cache

from pyeclib.ec_iface import ECDriver

from app.types import Redundancy

Bytes = bytes | memoryview

_HEADER = 80
"""Bytes before each fragment of the library."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of settings of glibc's malloc (mallopt(3))."""


def encode(chunk: Bytes, redundancy: Redundancy, parities: memoryview) -> list[Bytes]:
    """The shards of a chunk, in order. The first ones are views of it, except where it does not fill
    them; the parities are written to `parities`, which has room for all of them."""
    size = redundancy.blob_size(len(chunk))
    whole = bytes(chunk).ljust(size * redundancy.needed, b"\0")
    fragments = _driver(redundancy).encode(whole)[redundancy.needed :]
    for number, fragment in enumerate(fragments):
        parities[number * size : (number + 1) * size] = memoryview(fragment)[_HEADER:]
    source = memoryview(chunk if len(chunk) == len(whole) else whole)
    return [
        *(source[at : at + size] for at in range(0, len(whole), size)),
        *(parities[at : at + size] for at in range(0, len(fragments) * size, size)),
    ]


def decode(shards: Mapping[int, Bytes], redundancy: Redundancy, size: int) -> memoryview:
    """The chunk of `size` bytes, of `needed` of its shards by their numbers, each of which is good."""
    headers = _headers(redundancy, redundancy.blob_size(size))
    fragments = [headers[number] + bytes(shard) for number, shard in shards.items()]
    return memoryview(_driver(redundancy).decode(fragments))[:size]


@lru_cache
def _driver(redundancy: Redundancy) -> ECDriver:
    _keep_freed_memory()
    return ECDriver(k=redundancy.needed, m=redundancy.spare, ec_type="isa_l_rs_cauchy")


@lru_cache(maxsize=1024)
def _headers(redundancy: Redundancy, size: int) -> tuple[bytes, ...]:
    """What the library writes before shards of this size, whatever they hold."""
    fragments = _driver(redundancy).encode(bytes(size * redundancy.needed))
    return tuple(bytes(fragment[:_HEADER]) for fragment in fragments)


def _keep_freed_memory() -> None:
    """The library takes three times a chunk's memory for each call. Where malloc gives that back to the kernel
    in between, which then has to clear it again, a chunk takes 1.9 ms of the processor's time instead of 0.2."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, 4 << 20)
        mallopt(_TRIM_THRESHOLD, 16 << 20)
