"""Memory for bodies: on their way in within one budget for the whole process, shared fairly; on their
way out lent, and used again as soon as nobody looks at it.

On the way in, memory is handed out in buffers of one chunk, which begin at page boundaries, as writing past the page
cache asks for. An upload may hold its share of the budget, which shrinks as more uploads run; whoever
holds least is served first. An upload that waits holds nothing that it could not first send on its
way, so that every upload moves and none fails for want of memory. A buffer that was given back while
a write that hangs still looks at it is not used again before that has ended, and beyond the budget until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ctypes import c_ubyte
from mmap import PAGESIZE, mmap
from weakref import finalize

from app.metrics import BUFFERS
from app.types import CHUNK_SIZE


class BufferPool:
    """`memory` bytes, cut into buffers of `CHUNK_SIZE`; each upload holds at most `most` of them."""

    def __init__(self, memory: int, most: int) -> None:
        self._unused = memory // CHUNK_SIZE
        self._capacity = self._unused
        self._most = most
        self._memory = Loans(self._capacity)
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
        return self._memory.lend(CHUNK_SIZE)

    def _take_back(self, share: Share, buffers: int) -> None:
        self._unused += buffers
        share.held -= buffers
        BUFFERS.dec(CHUNK_SIZE * buffers)
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
                self._take_back(share, 1)
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
        """The upload needs these no more. Their memory is free when nobody else looks at it."""
        if buffers:
            self._pool._take_back(self, len(buffers))

    def close(self) -> None:
        """The upload has ended; it holds no buffer any more."""
        self._pool._close(self)


_SMALL = 64 << 10
"""Bytes up to which memory is not worth keeping."""

_MOST = CHUNK_SIZE + PAGESIZE
"""Bytes of a loan at the most: the shards of a chunk may be a few bytes longer than that."""

_Loan = c_ubyte * _MOST


class Loans:
    """Memory for chunks on their way out. Fresh memory costs more than what is read into it: the kernel
    clears it page by page. So up to `most` buffers are kept.

    A server may keep a piece for longer than the call that sends it, and none says when it lets go.
    Therefore each loan is an object of its own over the same memory: every view of a piece, and every
    view of that, holds it, and when it goes the memory is free.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[mmap] = []

    def lend(self, size: int) -> memoryview:
        """Memory of `size` bytes, at most `_MOST`, with anything in it, for as long as it is held."""
        if size <= _SMALL:
            return memoryview(bytearray(size))
        memory = self._free.pop() if self._free else mmap(-1, _MOST)
        loan = _Loan.from_buffer(memory)
        finalize(loan, self._take_back, memory).atexit = False
        return memoryview(loan).cast("B")[:size]

    def _take_back(self, memory: mmap) -> None:
        if len(self._free) < self._most:
            self._free.append(memory)
