"""Work beside other work: it begins when a block is entered, and is called off when the block is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

from app.logs import get_logger

log = get_logger(__name__)


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
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
