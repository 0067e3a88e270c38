"""Memory for uploads: bounded, fair, and always moving."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.streams.buffers import BufferPool, Share
from app.types import CHUNK_SIZE

pytestmark = pytest.mark.anyio


async def test_no_more_is_handed_out_than_there_is() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=6)
    share = pool.open_share()
    buffers = [share.take_nowait() for _ in range(8)]
    assert [buffer is not None for buffer in buffers] == [True] * 6 + [False] * 2
    assert (pool.in_use, share.held) == (6, 6)
    share.give_back([buffer for buffer in buffers if buffer])
    assert (pool.in_use, share.held) == (0, 0)


async def test_a_share_shrinks_as_others_come() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=8)
    first = pool.open_share()
    held = [await first.take() for _ in range(8)]
    second = pool.open_share()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.give_back([held.pop()])
    assert len(await waiting) == CHUNK_SIZE
    first.give_back([held.pop()])
    assert first.take_nowait() is None
    assert second.take_nowait() is not None


async def test_whoever_holds_least_is_served_first() -> None:
    pool = BufferPool(6 * CHUNK_SIZE, most=6)
    rich, poor, hog = pool.open_share(), pool.open_share(), pool.open_share()
    hogged = [await hog.take() for _ in range(2)]
    kept = [await rich.take(), await poor.take(), await poor.take()]
    kept_more = hog.take_nowait() or await rich.take()
    late = pool.open_share()
    order: list[str] = []

    async def wait(share: Share, name: str) -> None:
        await share.take()
        order.append(name)

    tasks = [asyncio.create_task(wait(rich, "rich")), asyncio.create_task(wait(late, "late"))]
    await asyncio.sleep(0)
    hog.give_back([hogged.pop()])
    await asyncio.wait([tasks[1]])
    assert order == ["late"]
    assert kept_more is not None
    assert len(kept) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_waiter_that_is_cancelled_takes_nothing_along() -> None:
    pool = BufferPool(4 * CHUNK_SIZE, most=4)
    first, second = pool.open_share(), pool.open_share()
    held = [await first.take(), await first.take()]
    held += [await second.take(), await second.take()]
    for served_first in (False, True):
        waiting = asyncio.create_task(first.take())
        await asyncio.sleep(0)
        if served_first:
            first.give_back([held.pop(0)])
            waiting.cancel()
        else:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert pool.in_use == 3


async def test_many_uploads_on_little_memory_all_end() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=6)
    rng = random.Random(1)
    most = 0

    async def upload() -> None:
        nonlocal most
        share = pool.open_share()
        for _ in range(10):
            buffers = [await share.take()]
            while len(buffers) < 4 and (more := share.take_nowait()):
                buffers.append(more)
            most = max(most, pool.in_use)
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            share.give_back(buffers)
        share.close()

    await asyncio.gather(*(upload() for _ in range(200)))
    assert most == 8
    assert pool.in_use == 0
