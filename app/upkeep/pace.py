"""How fast work in the background may go, and how it tells how far it is."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol


class Pace:
    """Work that may use a share of the time: after each piece it rests in proportion.

    `share` is above 0 and at most 1, which means no rest.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._since = monotonic()

    async def rest(self) -> None:
        """To be called between two pieces of work."""
        busy = monotonic() - self._since
        await asyncio.sleep(busy * (1 / self._share - 1))
        self._since = monotonic()


class Throttle:
    """At most `rate` bytes a second for all who share it; 0 lets as many pass as come."""

    def __init__(self, rate: float = 0) -> None:
        self._rate = rate
        self._free_at = monotonic()

    async def take(self, size: int) -> None:
        """To be called before so many bytes are read or written."""
        if self._rate:
            begins = max(monotonic(), self._free_at)
            self._free_at = begins + size / self._rate
            await asyncio.sleep(begins - monotonic())


def due_in(last: float, following: float, since_last: float, left: float) -> float:
    """Seconds to wait for work that is spread over a time evenly.

    Of what there is to do, the part `last` (0 to 1) was done `since_last` seconds ago, and there were `left`
    seconds for the rest then. The next piece begins at `following`. Whoever was away does not hurry more
    than is needed to be done in time.
    """
    if last >= 1 or left <= 0:
        return 0.0
    return max(0.0, left * (following - last) / (1 - last) - since_last)


class Progress(Protocol):
    """Hears of stages and of units done in them."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins that has about so many units."""

    def advance(self, units: int) -> None:
        """So many more are done."""


class Silence:
    """A `Progress` that nobody sees."""

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, units: int) -> None: ...
