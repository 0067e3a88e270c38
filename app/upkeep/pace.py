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
