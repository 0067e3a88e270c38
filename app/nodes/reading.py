"""Reading blobs from a directory, past the kernel's cache where the disk is faster without it.

A disk without moving parts gives a chunk faster than it can be sent; the cache would only cost memory,
and the processor's time to fill it: here 0.05 s a GiB past the cache, 0.6 to 1.3 s into it. A slower
disk is read through it, so that what is asked for often comes from memory. Which it is, is found out
by reading: the first chunks are read past the cache, and timed.
"""

from __future__ import annotations

import errno
import os
from ctypes import addressof, c_char
from pathlib import Path
from time import perf_counter

from app.errors import BlobDamaged
from app.nodes.durable import ALIGNED, DIRECT

_WORTH = 64 << 10
"""Bytes from which it matters. Smaller blobs are read through the cache."""
_SAMPLES = 32
_FAST = 2e-9
"""Seconds a byte, of the fastest read: 2 ms for a chunk of 1 MiB. The others waited for each other."""


class Reader:
    """Reads the blobs of one disk, in any thread."""

    def __init__(self) -> None:
        self._best = float("inf")
        self._samples = 0
        self._able = bool(DIRECT)

    @property
    def past_cache(self) -> bool:
        """Whether large blobs are read past the kernel's cache now."""
        return self._able and (self._samples < _SAMPLES or self._best <= _FAST)

    def fill(self, path: Path, buffer: memoryview) -> None:
        """Fill the buffer with what the file holds.

        Raises BlobDamaged where the file is longer or shorter than the buffer, and OSError.
        """
        if len(buffer) >= _WORTH and self.past_cache and _aligned(buffer):
            try:
                started = perf_counter()
                _fill(path, buffer, DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._able = False
            else:
                self._best = min(self._best, (perf_counter() - started) / len(buffer))
                self._samples += 1
                return
        _fill(path, buffer, 0)


def _aligned(buffer: memoryview) -> bool:
    return len(buffer) % ALIGNED == 0 and addressof(c_char.from_buffer(buffer)) % ALIGNED == 0


def _fill(path: Path, buffer: memoryview, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        size = os.fstat(descriptor).st_size
        filled = os.readv(descriptor, [buffer]) if size == len(buffer) else 0
    finally:
        os.close(descriptor)
    if not size == filled == len(buffer):
        raise BlobDamaged(f"{path} has {size} bytes instead of {len(buffer)}")
