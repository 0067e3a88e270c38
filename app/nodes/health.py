"""How a node did lately, in figures that do not grow, and in those that Prometheus is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal, get_args

from app.errors import NodeError, NodeHung
from app.metrics import NODE_BREAKER, NODE_ERRORS, NODE_STATE, NODE_TIMEOUTS, note_call
from app.nodes.breaker import Breaker, BreakerState
from app.types import NodeId

Call = Literal["write", "read", "unlink", "list_blobs", "quarantine", "space"]
NodeState = Literal["active", "readonly", "draining", "removing", "full", "down", "absent"]

_STATES: tuple[NodeState, ...] = get_args(NodeState)
_BREAKER: tuple[BreakerState, ...] = ("closed", "half-open", "open")

_WINDOW = 60.0
"""Seconds of a window; quantiles are over the present one and the one before."""

_LEAST, _STEP, _BUCKETS = 1e-4, 1.25, 64
"""Durations are told apart in steps of a quarter, from 0.1 ms to two minutes."""


@dataclass(frozen=True, slots=True)
class Health:
    """Since this process was started; `p50` and `p99` are seconds over the last one to two minutes, None
    without calls. `errors` include `timeouts`; `last_error` is the code of the last one; `writes` is the
    breaker of writes alone; `seconds` is how long it is since one of the two changed."""

    breaker: BreakerState
    writes: BreakerState
    seconds: float
    calls: int
    errors: int
    timeouts: int
    p50: float | None
    p99: float | None
    last_error: str | None


class Latencies:
    """Quantiles of durations, within a quarter of the truth. Times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._now, self._before = [0] * _BUCKETS, [0] * _BUCKETS
        self._window = 0

    def record(self, now: float, seconds: float) -> None:
        self._turn(now)
        steps = log(max(seconds, _LEAST) / _LEAST) / log(_STEP)
        self._now[min(int(steps), _BUCKETS - 1)] += 1

    def quantiles(self, now: float, shares: Sequence[float]) -> list[float | None]:
        """For each share the duration that so many of the calls did not exceed."""
        self._turn(now)
        counts = [some + more for some, more in zip(self._now, self._before, strict=True)]
        return [_quantile(counts, share) for share in shares]

    def _turn(self, now: float) -> None:
        passed = int(now // _WINDOW) - self._window
        if passed:
            self._before = self._now if passed == 1 else [0] * _BUCKETS
            self._now = [0] * _BUCKETS
            self._window += passed


def _quantile(counts: Sequence[int], share: float) -> float | None:
    wanted, seen = share * sum(counts), 0
    for step, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return round(_LEAST * _STEP ** (step + 1), 6)
    return None


class Record:
    """What became of a node's calls. Times are of a monotonic clock, in seconds."""

    def __init__(self, node: NodeId) -> None:
        self.last_answer = float("-inf")
        self.last_error: str | None = None
        self._node = node
        self._calls = self._errors = self._timeouts = 0
        self._latencies = Latencies()

    def answered(self, call: Call, began: float, now: float) -> None:
        self.last_answer = now
        self._ended(call, began, now)

    def failed(self, call: Call, began: float, now: float, error: NodeError) -> None:
        self._errors += 1
        self.last_error = error.code
        NODE_ERRORS.labels(self._node, call).inc()
        if isinstance(error, NodeHung):
            self._timeouts += 1
            NODE_TIMEOUTS.labels(self._node, call).inc()
        self._ended(call, began, now)

    def _ended(self, call: Call, began: float, now: float) -> None:
        self._calls += 1
        self._latencies.record(now, now - began)
        note_call(self._node, call, now - began)

    def health(self, breaker: Breaker, writing: Breaker, now: float) -> Health:
        p50, p99 = self._latencies.quantiles(now, (0.5, 0.99))
        counts = (self._calls, self._errors, self._timeouts)
        since = max(breaker.since, writing.since)
        return Health(breaker.state, writing.state, now - since, *counts, p50, p99, self.last_error)


def show(node: NodeId, state: NodeState, breaker: BreakerState = "closed", writes: BreakerState = "closed") -> None:
    """Tell Prometheus how this process sees a node."""
    NODE_STATE.labels(node).set(_STATES.index(state))
    NODE_BREAKER.labels(node, "all").set(_BREAKER.index(breaker))
    NODE_BREAKER.labels(node, "write").set(_BREAKER.index(writes))


def show_no_more(node: NodeId) -> None:
    """The node was removed. In a scrape of several processes no figure can be taken back."""
    NODE_STATE.labels(node).set(-1)
    for calls in ("all", "write"):
        NODE_BREAKER.labels(node, calls).set(0)
