"""Memory for bodies on their way in: one budget for the whole process, shared fairly.

Memory is handed out in buffers of one chunk, which begin at page boundaries, as writing past the page
cache asks for. An upload may hold its share of the budget, which shrinks as more uploads run; whoever
holds least is served first. An upload that waits holds nothing that it could not first send on its
way, so that every upload moves and none fails for want of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from mmap import mmap

from app.metrics import BUFFERS
from app.types import CHUNK_SIZE


class BufferPool:
    """`memory` bytes, cut into buffers of `CHUNK_SIZE`; each upload holds at most `most` of them."""

    def __init__(self, memory: int, most: int) -> None:
        self._unused = memory // CHUNK_SIZE
        self._capacity = self._unused
        self._most = most
        self._spare: list[memoryview] = []
        self._shares: set[Share] = set()
        self._waiting: list[tuple[Share, asyncio.Future[memoryview]]] = []

    @property
    def in_use(self) -> int:
        """Buffers that uploads hold."""
        return self._capacity - self._unused

    def open_share(self) -> Share:
        share = Share(self)
        self._shares.add(share)
        return share

    @property
    def _fair(self) -> int:
        return min(self._most, max(1, self._capacity // max(1, len(self._shares))))

    def _allowed(self, share: Share) -> bool:
        return self._unused > 0 and share.held < self._fair

    def _over_fair(self, share: Share) -> bool:
        return share.held > self._fair and any(not waiter.done() for _, waiter in self._waiting)

    def _hand_out(self, share: Share) -> memoryview:
        self._unused -= 1
        share.held += 1
        BUFFERS.inc(CHUNK_SIZE)
        return self._spare.pop() if self._spare else memoryview(mmap(-1, CHUNK_SIZE))

    def _take_back(self, share: Share, buffers: Sequence[memoryview]) -> None:
        self._spare.extend(buffers)
        self._unused += len(buffers)
        share.held -= len(buffers)
        BUFFERS.dec(CHUNK_SIZE * len(buffers))
        self._serve()

    def _serve(self) -> None:
        self._waiting = [(share, waiter) for share, waiter in self._waiting if not waiter.done()]
        for share, waiter in sorted(self._waiting, key=lambda entry: entry[0].held):
            if self._allowed(share):
                waiter.set_result(self._hand_out(share))

    async def _wait(self, share: Share) -> memoryview:
        waiter: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._take_back(share, [waiter.result()])
            raise

    def _close(self, share: Share) -> None:
        self._shares.discard(share)
        self._serve()


class Share:
    """What one upload holds of the pool."""

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self.held = 0

    @property
    def owes(self) -> bool:
        """Whether others wait for memory while this upload holds more than its share."""
        return self._pool._over_fair(self)

    def take_nowait(self) -> memoryview | None:
        return self._pool._hand_out(self) if self._pool._allowed(self) else None

    async def take(self) -> memoryview:
        """A buffer of `CHUNK_SIZE` bytes, with anything in it."""
        return self.take_nowait() or await self._pool._wait(self)

    def give_back(self, buffers: Sequence[memoryview]) -> None:
        if buffers:
            self._pool._take_back(self, buffers)

    def close(self) -> None:
        """The upload has ended; it holds no buffer any more."""
        self._pool._close(self)
