"""CRCs of bodies, and of bodies behind each other.

CRC-32 is zlib's (polynomial 0x04C11DB7, as Ethernet and gzip), CRC-32C is Castagnoli's (RFC 3720, appendix B.4),
CRC-64/NVME is that of the NVM Express Command Set specification (polynomial 0xAD93D23594C93659). All three are
reflected, and written as big-endian bytes, as the S3 API reference says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from awscrt import checksums as crt

# zlib's CRC-32 is the faster one of the two; it has no way to combine.
_CONTINUE: Mapping[str, tuple[Callable[[bytes | memoryview, int], int], int]] = {
    "crc32": (zlib.crc32, 4),
    "crc32c": (crt.crc32c, 4),
    "crc64nvme": (crt.crc64nvme, 8),
}

_COMBINE: Mapping[str, Callable[[int, int, int], int]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}


class Crc:
    """A CRC with its state, in the form of hashlib's objects."""

    __slots__ = ("_continue", "_size", "_value")

    def __init__(self, kind: str) -> None:
        self._continue, self._size = _CONTINUE[kind]
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._continue(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def combine(kind: str, first: bytes, second: bytes, second_length: int) -> bytes:
    """The CRC of two runs of bytes, one behind the other, from the CRC of each and the second one's length in bytes.

    `kind` is one of the CRCs; other digests can't be combined (KeyError).
    """
    both = _COMBINE[kind](int.from_bytes(first, "big"), int.from_bytes(second, "big"), second_length)
    return both.to_bytes(len(first), "big")
