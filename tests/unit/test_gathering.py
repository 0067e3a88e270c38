"""Calls that are made together: every wish gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.gathering import Gathered

pytestmark = pytest.mark.anyio


class Call:
    """Doubles numbers, when it is let; odd ones are refused."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Event()
        self.fails: list[Exception] = []

    async def __call__(self, wishes: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(wishes))
        await self.go.wait()
        if self.fails:
            raise self.fails.pop()
        return [ValueError(wish) if wish % 2 else 2 * wish for wish in wishes]


async def _asked(gathered: Gathered[int, int], *wishes: int) -> list[asyncio.Task[int]]:
    """The wishes, each made by a task of its own, as far as they come by themselves."""
    tasks = [asyncio.create_task(gathered(wish)) for wish in wishes]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_for_meanwhile_is_asked_for_together() -> None:
    call = Call()
    gathered = Gathered(call, most=100)
    first = await _asked(gathered, 2)
    others = await _asked(gathered, 4, 6, 8)
    assert call.groups == [[2]]
    call.go.set()
    assert await asyncio.gather(*first, *others) == [4, 8, 12, 16]
    assert call.groups == [[2], [4, 6, 8]]


async def test_a_group_ends_where_its_weight_is_reached_and_takes_one_wish_however_heavy() -> None:
    call = Call()
    gathered = Gathered(call, most=10, weigh=lambda wish: wish)
    tasks = await _asked(gathered, 4, 6, 2, 40, 2)
    call.go.set()
    assert await asyncio.gather(*tasks) == [8, 12, 4, 80, 4]
    assert call.groups == [[4, 6], [2], [40], [2]]


async def test_a_refusal_is_raised_where_the_wish_was_made_and_nowhere_else() -> None:
    call = Call()
    call.go.set()
    tasks = await _asked(Gathered(call, most=100), 2, 3, 4)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[0] == 4
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == 8


async def test_a_call_that_fails_fails_those_that_it_was_made_for_and_the_next_goes_on() -> None:
    call = Call()
    call.fails.append(ConnectionError("away"))
    gathered = Gathered(call, most=100)
    first = await _asked(gathered, 2)
    others = await _asked(gathered, 4, 6)
    call.go.set()
    with pytest.raises(ConnectionError):
        await first[0]
    assert await asyncio.gather(*others) == [8, 12]


async def test_whoever_is_cancelled_leaves_the_others_alone() -> None:
    call = Call()
    gathered = Gathered(call, most=100)
    under_way = await _asked(gathered, 2)
    waiting = await _asked(gathered, 4, 6)
    under_way[0].cancel()
    waiting[0].cancel()
    await asyncio.wait([under_way[0], waiting[0]])
    call.go.set()
    assert await waiting[1] == 12
    assert call.groups == [[2], [6]]
    assert await gathered(8) == 16


async def test_when_the_work_is_cancelled_nobody_waits_for_ever() -> None:
    call = Call()
    gathered = Gathered(call, most=100)
    tasks = [*await _asked(gathered, 2), *await _asked(gathered, 4)]
    working = gathered._working
    assert working
    working.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    call.go.set()
    assert await gathered(8) == 16
