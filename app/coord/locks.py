"""Single flight: one writer a key, the others wait for it and then look again.

Locks save work, nothing else: whoever holds none still ends correctly (rule R8). A taker never
waits while it holds anything, so no order of keys can deadlock.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable


class Locks(ABC):
    @abstractmethod
    async def take(self, keys: Iterable[str]) -> set[str]:
        """Take those of the keys that are free, at once; return them. Never waits, never fails."""

    @abstractmethod
    async def release(self, keys: Iterable[str]) -> None:
        """Give back keys that `take` returned."""

    @abstractmethod
    async def wait(self, keys: Iterable[str], timeout: float) -> None:  # noqa: ASYNC109
        """Return when one of the keys may be free, or after `timeout` seconds."""


class LocalLocks(Locks):
    """Locks within one process."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Event] = {}

    async def take(self, keys: Iterable[str]) -> set[str]:
        free = {key for key in keys if key not in self._held}
        self._held.update((key, asyncio.Event()) for key in free)
        return free

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are taken."""
        return {key for key in keys if key in self._held}

    async def release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._held.pop(key).set()

    async def wait(self, keys: Iterable[str], timeout: float) -> None:  # noqa: ASYNC109
        wanted = set(keys)
        if self.held(wanted) != wanted or not wanted:
            return
        waiting = [asyncio.ensure_future(self._held[key].wait()) for key in wanted]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiting:
                waiter.cancel()
