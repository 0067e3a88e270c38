"""Many callers, few calls: what is asked for while an answer is awaited is asked for together, next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")


class Gathered(Generic[W, R]):
    """A call that takes the wishes of many, and is made for as many as there are at the moment.

    A lone wish goes at once. While a call is under way further wishes wait, and the next call takes
    them all, as far as their weights sum up to `most`. So nobody waits where there is no crowd, and a
    crowd costs few round trips. A call always begins after the wishes that it takes.
    """

    def __init__(
        self,
        call: Callable[[Sequence[W]], Awaitable[Sequence[R | Exception]]],
        *,
        most: int,
        weigh: Callable[[W], int] = lambda _: 1,
    ) -> None:
        """`call` answers each wish, in their order; an exception is raised where that wish was made. What
        `call` raises itself is raised for all of them."""
        self._call = call
        self._most = most
        self._weigh = weigh
        self._waiting: deque[tuple[W, asyncio.Future[R]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, wish: W) -> R:
        """The answer to this wish. Whoever is cancelled while waiting may have got it nevertheless."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._next())
        finally:
            self._working = None

    def _next(self) -> list[tuple[W, asyncio.Future[R]]]:
        group = [self._waiting.popleft()]
        weight = self._weigh(group[0][0])
        while self._waiting and (weight := weight + self._weigh(self._waiting[0][0])) <= self._most:
            group.append(self._waiting.popleft())
        return group

    async def _answer(self, group: Sequence[tuple[W, asyncio.Future[R]]]) -> None:
        wanted = [(wish, answer) for wish, answer in group if not answer.done()]
        if not wanted:
            return
        outcomes: Sequence[R | Exception]
        try:
            outcomes = await self._call([wish for wish, _ in wanted])
        except asyncio.CancelledError:
            for _, answer in [*wanted, *self._waiting]:
                answer.cancel()
            self._waiting.clear()
            raise
        except Exception as error:  # noqa: BLE001 - it is raised where the wishes were made
            outcomes = [error] * len(wanted)
        for (_, answer), outcome in zip(wanted, outcomes, strict=True):
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
