"""When a node is left alone, and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nodes import breaker as module
from app.nodes.breaker import Breaker
from app.nodes.health import Latencies


def always(value: float) -> Breaker:
    return Breaker(0.0, jitter=lambda: value)


def fail(breaker: Breaker, now: float = 0.0, *, hung: bool = False) -> None:
    ticket = breaker.admit()
    assert ticket is not None
    breaker.failed(ticket, now, hung=hung)


def test_it_opens_after_failures_in_a_row_or_one_hanging_call() -> None:
    breaker = always(0)
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        ticket = breaker.admit()
        assert ticket is not None
        breaker.succeeded(ticket, 0)
    assert breaker.state == "closed"
    for _ in range(3):
        fail(breaker)
    assert (breaker.state, breaker.admit()) == ("open", None)
    other = always(0)
    fail(other, hung=True)
    assert other.state == "open"


def test_half_open_one_call_at_a_time_tries() -> None:
    breaker = always(0)
    fail(breaker, hung=True)
    breaker.answered(5)
    first = breaker.admit()
    assert first is not None
    assert [breaker.admit() for _ in range(3)] == [None] * 3
    breaker.withdrawn(first)
    second = breaker.admit()
    assert second is not None, "who gave up has proved nothing"
    assert breaker.admit() is None
    breaker.succeeded(second, 6)
    assert (breaker.state, breaker.since) == ("closed", 6)
    assert breaker.admit() is not None


def test_one_failure_opens_it_again_when_half_open() -> None:
    breaker = always(0)
    fail(breaker, hung=True)
    breaker.answered(5)
    fail(breaker, 5)
    assert breaker.state == "open"


@pytest.mark.parametrize("succeeds", [True, False])
def test_calls_that_began_before_a_change_count_no_more(succeeds: bool) -> None:
    breaker = always(0)
    early, late = breaker.admit(), breaker.admit()
    assert early is not None
    assert late is not None
    breaker.failed(early, 0, hung=True)
    breaker.answered(5)
    trial = breaker.admit()
    if succeeds:
        breaker.succeeded(late, 6)
    else:
        breaker.failed(late, 6, hung=True)
    breaker.withdrawn(late)
    assert (breaker.state, breaker.admit()) == ("half-open", None)
    assert trial is not None
    breaker.succeeded(trial, 7)
    assert breaker.state == "closed"


def test_rests_grow_and_are_short_again_after_steady_work() -> None:
    breaker, now, rests = always(0), 0.0, []
    for _ in range(7):
        fail(breaker, now, hung=True)
        rests.append(breaker.rest)
        breaker.answered(now)
        ticket = breaker.admit()
        assert ticket is not None
        breaker.succeeded(ticket, now)
        now += 1
    assert rests == [5, 10, 20, 40, 60, 60, 60], "a node that flaps is left alone for longer and longer"
    now += module._STEADY
    fail(breaker, now, hung=True)
    assert breaker.rest == 5
    breaker.rest_again()
    assert breaker.rest == 10


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 30))
def test_jitter_takes_up_to_half_of_a_rest(jitter: float, more: int) -> None:
    plain, other = always(0), always(jitter)
    for breaker in (plain, other):
        fail(breaker, hung=True)
        for _ in range(more):
            breaker.rest_again()
    assert plain.rest / 2 <= other.rest <= plain.rest <= 60


# Latencies


@given(st.lists(st.floats(0.0001, 100), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.99, 1]))
def test_quantiles_are_within_a_quarter(durations: list[float], share: float) -> None:
    latencies = Latencies()
    for duration in durations:
        latencies.record(10, duration)
    (found,) = latencies.quantiles(10, [share])
    rank = next(at for at in range(len(durations)) if at + 1 >= share * len(durations))
    truth = sorted(durations)[rank]
    assert found is not None
    assert truth * 0.999 <= found <= truth * 1.251


def test_old_durations_are_forgotten() -> None:
    latencies = Latencies()
    latencies.record(0, 5)
    latencies.record(61, 0.001)
    assert [round(value or 0, 3) for value in latencies.quantiles(61, [0.5, 1])] == [0.001, pytest.approx(5, rel=0.25)]
    assert latencies.quantiles(125, [1]) == [pytest.approx(0.001, rel=0.25)]
    assert latencies.quantiles(500, [0.5, 1]) == [None, None]
