"""SHA-256 of many chunks in one call, off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from app.streams.kernel import best_kernel
from app.types import Digest

_HERE = 32 << 10
"""Bytes that are hashed on the event loop: at most 0.1 ms, as long as it takes to ask a thread."""


class Hasher:
    """Hashes batches on as many threads as there are cores, and on each in as many lanes as it has."""

    def __init__(self) -> None:
        self.kernel = best_kernel()
        self._cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._cores, thread_name_prefix="hash")

    async def digests(self, chunks: Sequence[bytes | memoryview]) -> list[Digest]:
        """The digests of the chunks, in their order. The call is not to be cancelled."""
        if sum(map(len, chunks)) <= _HERE:
            return [Digest(hashlib.sha256(chunk).digest()) for chunk in chunks]
        loop = asyncio.get_running_loop()
        parts = self._parts(chunks)
        shares = [chunks[part::parts] for part in range(parts)]
        hashed = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self.kernel.digests, share) for share in shares)
        )
        digests: list[Digest] = [Digest(b"")] * len(chunks)
        for part, some in enumerate(hashed):
            digests[part::parts] = map(Digest, some)
        return digests

    def _parts(self, chunks: Sequence[bytes | memoryview]) -> int:
        """Among how many threads to share: lanes that are full come before threads that are busy."""
        at_once = self.kernel.lanes if self.kernel.fits(chunks) else 1
        return min(self._cores, max(1, -(-len(chunks) // at_once)))

    def close(self) -> None:
        self._threads.shutdown()
