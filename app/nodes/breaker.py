"""When to leave a node alone, and when to try it again: a circuit breaker, without a clock of its own.

closed ── 3 failures in a row, or a hanging call ──▶ open ── rest over, and it answers ──▶ half-open
half-open ── the one call that is let through succeeds ──▶ closed, fails ──▶ open, for longer
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal

BreakerState = Literal["closed", "half-open", "open"]

_FAILURES = 3
"""In a row, after which the node is left alone. One may be the blob's fault, or the network's."""

_REST, _LONGEST_REST = 5.0, 60.0
"""Seconds of the first rest, which doubles with each one, up to the longest. The jitter takes up to half
of each away, so that many processes do not come back to a node at the same moment."""

_STEADY = 60.0
"""Seconds that a node must have worked for its next rest to be a first one: others flap."""


class Breaker:
    """Times are those of one monotonic clock, in seconds.

    A call is admitted with a ticket, and says with it how it ended. Tickets of an earlier state count no
    more: what a call proves that began before the node failed is not that it works again.
    """

    def __init__(self, now: float, jitter: Callable[[], float] = random.random) -> None:
        self.state: BreakerState = "closed"
        self.since = now
        self.rest = 0.0
        self._jitter = jitter
        self._ticket = 0
        self._failures = 0
        self._rests = 0
        self._trying = False

    @property
    def admits(self) -> bool:
        return self.state == "closed" or (self.state == "half-open" and not self._trying)

    def admit(self) -> int | None:
        """A ticket, or None: the node is to be left alone. Half-open, one call has it at a time."""
        if not self.admits:
            return None
        self._trying = self.state == "half-open"
        return self._ticket

    def counts(self, ticket: int) -> bool:
        return ticket == self._ticket

    def succeeded(self, ticket: int, now: float) -> None:
        if self.counts(ticket):
            self._failures = 0
            if self.state == "half-open":
                self._become("closed", now)

    def failed(self, ticket: int, now: float, *, hung: bool) -> None:
        if self.counts(ticket):
            self._failures += 1
            if hung or self.state == "half-open" or self._failures >= _FAILURES:
                self.open(now)

    def withdrawn(self, ticket: int) -> None:
        """The call ended before it proved anything."""
        if self.counts(ticket):
            self._trying = False

    def open(self, now: float) -> None:
        """Leave the node alone for `rest` seconds, and until `answered`."""
        if self.state == "closed" and now - self.since >= _STEADY:
            self._rests = 0
        self._become("open", now)
        self.rest_again()

    def rest_again(self) -> None:
        """Open, and it did not answer: the next rest is longer."""
        self.rest = min(_REST * 2**self._rests, _LONGEST_REST) * (1 - self._jitter() / 2)
        self._rests = min(self._rests + 1, 8)

    def answered(self, now: float) -> None:
        """Open, and it answers: a call may try."""
        self._become("half-open", now)

    def _become(self, state: BreakerState, now: float) -> None:
        self.state, self.since = state, now
        self._ticket += 1
        self._failures, self._trying = 0, False


class Tickets:
    """Those of one call, with all breakers that it had to pass."""

    def __init__(self, tickets: dict[Breaker, int]) -> None:
        self._tickets = tickets

    @classmethod
    def take(cls, breakers: Iterable[Breaker]) -> Tickets | None:
        """None if one of them does not admit the call."""
        wanted = list(breakers)
        if not all(breaker.admits for breaker in wanted):
            return None
        return cls({breaker: ticket for breaker in wanted if (ticket := breaker.admit()) is not None})

    def succeed(self, now: float) -> bool:
        """Whether a breaker was closed by this."""
        before = [breaker.state for breaker in self._tickets]
        for breaker, ticket in self._tickets.items():
            breaker.succeeded(ticket, now)
        return before != [breaker.state for breaker in self._tickets]

    def fail(self, now: float, *, hung: bool) -> list[Breaker]:
        """The breakers that were opened by this."""
        before = {breaker: breaker.state for breaker in self._tickets}
        for breaker, ticket in self._tickets.items():
            breaker.failed(ticket, now, hung=hung)
        return [breaker for breaker, state in before.items() if breaker.state == "open" != state]

    def withdraw(self, *breakers: Breaker) -> None:
        """The call has proved nothing to these, or to any: it counts no more there."""
        for breaker in breakers or tuple(self._tickets):
            breaker.withdrawn(self._tickets.pop(breaker))
