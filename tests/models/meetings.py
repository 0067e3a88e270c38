"""Transactions that meet where a test wants them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.models.database import Database


@asynccontextmanager
async def amidst(owner: type, method: str, other: Callable[[], Awaitable[Any]]) -> AsyncIterator[list[Any]]:
    """When `method` is called for the first time, `other` gets as far as it can before it: to its end, or to a
    conflict with a transaction that is open. What it returned is in the list in the end."""
    real, attempt = getattr(owner, method), Database._attempt
    outcomes: list[Any] = []
    tasks: list[asyncio.Task[None]] = []
    stopped = asyncio.Event()

    async def attempted(*args: Any) -> Any:
        try:
            return await attempt(*args)
        finally:
            if tasks:
                stopped.set()

    async def work() -> None:
        try:
            outcomes.append(await other())
        finally:
            stopped.set()

    async def called(*args: Any, **options: Any) -> Any:
        if not tasks:
            tasks.append(asyncio.create_task(work()))
            await stopped.wait()
        return await real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_attempt", staticmethod(attempted))
        patch.setattr(owner, method, called)
        yield outcomes
        assert tasks, f"{owner.__name__}.{method} was not called"
        await asyncio.gather(*tasks)
