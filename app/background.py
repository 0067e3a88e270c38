"""Work beside other work: it begins when a block is entered, and is called off when the block is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from app.logs import get_logger

log = get_logger(__name__)

_AGAIN = 1.0
"""Seconds after which work that was called off, and goes on, is called off again."""


@asynccontextmanager
async def in_background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do work that never ends by itself for as long as the block lasts.

    If it fails all the same, that is logged at once, and raised at the end of the block.
    """

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("background work ended", exc_info=task.exception())

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    try:
        yield
    finally:
        await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    while not task.done():
        task.cancel()
        # Before Python 3.12 a cancellation is lost that meets `asyncio.wait_for` when it has just got its
        # result, as in redis-py: then the work would go on, and be waited for, for ever.
        await asyncio.wait([task], timeout=_AGAIN)
    if not task.cancelled():
        task.result()
