"""SHA-256 of many chunks in one call, off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from app.types import Digest


def _hash(chunks: Sequence[bytes | memoryview]) -> list[Digest]:
    return [Digest(hashlib.sha256(chunk).digest()) for chunk in chunks]


class Hasher:
    """Hashes batches on as many threads as there are cores."""

    def __init__(self) -> None:
        self._lanes = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._lanes, thread_name_prefix="hash")

    async def digests(self, chunks: Sequence[bytes | memoryview]) -> list[Digest]:
        """The digests of the chunks, in their order. The call is not to be cancelled."""
        loop = asyncio.get_running_loop()
        lanes = [chunks[lane :: self._lanes] for lane in range(min(self._lanes, len(chunks)))]
        hashed = await asyncio.gather(*(loop.run_in_executor(self._threads, _hash, lane) for lane in lanes))
        digests: list[Digest] = [Digest(b"")] * len(chunks)
        for lane, part in enumerate(hashed):
            digests[lane :: self._lanes] = part
        return digests

    def close(self) -> None:
        self._threads.shutdown()
