"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.nodes.deadlines import Clock


class FakeTimer:
    def __init__(self, due: float, call: Callable[[], object]) -> None:
        self.due = due
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeClock(Clock):
    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self.now + seconds, call)
        self._timers.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that becomes due, in its order."""
        end = self.now + seconds
        await settle()
        while due := self._next(end):
            self._timers.remove(due)
            self.now = max(self.now, due.due)
            if due.call:
                due.call()
            await settle()
        self.now = end

    def _next(self, end: float) -> FakeTimer | None:
        self._timers = [timer for timer in self._timers if timer.call]
        due = [timer for timer in self._timers if timer.due <= end]
        return min(due, key=lambda timer: timer.due, default=None)


async def settle() -> None:
    """Let everything that is ready run, and what follows from it."""
    for _ in range(30):
        await asyncio.sleep(0)
