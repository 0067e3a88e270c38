"""How long a node has owed answers and given none, to anybody."""

from __future__ import annotations

from collections.abc import Callable

from app.nodes.deadlines import Clock, Timer

_LONG = 1.0
"""Seconds of silence, after each of which the node is to be asked for a sign of life."""


class Silence:
    """A caller who had enough of waiting ends no silence: reads are called off as soon as another copy is there."""

    def __init__(self, clock: Clock, ask: Callable[[], None]) -> None:
        """`ask` is called while a silence lasts, at most once a second; what it hears it says with `end`."""
        self._clock = clock
        self._ask = ask
        self._since: float | None = None
        self._owed = 0
        self._timer: Timer | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self._since is None else self._clock.time() - self._since

    def owed(self) -> None:
        """A call has begun."""
        self._owed += 1
        if self._since is None:
            self._since = self._clock.time()
        if self._timer is None:
            self._timer = self._clock.call_later(_LONG, self._listen)

    def answered(self) -> None:
        self._owed -= 1
        self.end()

    def called_off(self) -> None:
        self._owed -= 1

    def end(self) -> None:
        """A sign of life; the next silence begins at once if answers are still owed."""
        self._since = self._clock.time() if self._owed else None

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _listen(self) -> None:
        self._timer = None
        if self._since is None:
            return
        rest = _LONG - self.seconds
        if rest <= 0:
            self._ask()
        self._timer = self._clock.call_later(rest if rest > 0 else _LONG, self._listen)
