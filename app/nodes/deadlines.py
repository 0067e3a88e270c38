"""Calls that end in time, whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Protocol, TypeVar

from app.errors import NodeHung

T = TypeVar("T")


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock:
    """Time that passes by itself."""

    def time(self) -> float:
        """Seconds; they never go back."""
        return monotonic()

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)


class Deadlines:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Future[str]] = set()

    async def within(self, seconds: float, call: Coroutine[Any, Any, T]) -> T:
        """The call's answer. Raises NodeHung when there is none after so many seconds, or when all are given up.

        Then, and where the caller is cancelled, the call is cancelled too but not waited for: it goes
        on for as long as it likes.
        """
        task = asyncio.create_task(call)
        over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: _end(over, ""))
        timer = self._clock.call_later(seconds, lambda: _end(over, f"no answer within {seconds:.3g} s"))
        self._waiting.add(over)
        try:
            reason = await over
        finally:
            self._waiting.discard(over)
            timer.cancel()
            if not task.done():
                task.cancel()
                self._left.add(task)
                task.add_done_callback(self._forget)
        if not task.done():
            raise NodeHung(reason)
        return task.result()

    def give_up(self, reason: str) -> None:
        """End all calls under way as if their time were over."""
        for over in self._waiting:
            _end(over, reason)

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            # An error that is not looked at would be logged as forgotten.
            task.exception()


def _end(over: asyncio.Future[str], reason: str) -> None:
    if not over.done():
        over.set_result(reason)
