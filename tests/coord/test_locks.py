"""What locks promise: one holder a key, takers that never wait, waiters that wake.

One suite for locks of one process and for locks among processes: each lock object stands for one
process's, and `rivals` are two takers that must exclude each other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.coord.locks import LocalLocks, Locks
from app.coord.redis_locks import open_redis_locks
from app.errors import ConfigError
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio

Rivals = tuple[Locks, Locks]


@pytest.fixture(params=["one process", "one process with redis", "two processes"])
async def rivals(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Rivals]:
    async with AsyncExitStack() as stack:
        if request.param == "one process":
            locks: Locks = LocalLocks()
            yield locks, locks
            return
        first = await stack.enter_async_context(open_redis_locks(redis_url))
        if request.param == "two processes":
            yield first, await stack.enter_async_context(open_redis_locks(redis_url))
        else:
            yield first, first


@pytest.fixture
def keys() -> list[str]:
    """Three keys that no other test knows."""
    return [f"{name}-{secrets.token_hex(8)}" for name in "abc"]


async def test_a_key_has_one_holder(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    assert await one.take(keys[:2]) == set(keys[:2])
    assert await other.take(keys) == {keys[2]}
    assert await one.take(keys) == set()
    await one.release(keys[:2])
    assert await other.take(keys) == set(keys[:2])
    await other.release(keys)


async def test_a_key_that_is_named_twice_is_taken_once(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    assert await one.take([keys[0], keys[0]]) == {keys[0]}
    assert await other.take(iter(keys[:1])) == set()
    await one.release(iter(keys[:1]))
    assert await other.take(keys[:1]) == {keys[0]}
    await other.release(keys[:1])


async def test_no_keys_are_no_work(rivals: Rivals) -> None:
    for locks in rivals:
        assert await locks.take([]) == set()
        await locks.release([])
        await locks.wait([], PATIENCE)


async def test_of_many_takers_one_wins_each_key(rivals: Rivals, keys: list[str]) -> None:
    taken = await asyncio.gather(*(locks.take(keys) for locks in rivals * 10))
    assert sorted(key for won in taken for key in won) == sorted(keys)
    for locks, won in zip(rivals * 10, taken, strict=True):
        await locks.release(won)


async def test_holders_never_overlap(rivals: Rivals, keys: list[str]) -> None:
    holders: dict[str, object] = {}

    async def work(locks: Locks) -> None:
        left = set(keys)
        while left:
            won = await locks.take(left)
            me = object()
            for key in won:
                assert key not in holders
                holders[key] = me
            await asyncio.sleep(0)
            for key in won:
                assert holders.pop(key) is me
            await locks.release(won)
            left -= won
            if left and not won:
                await locks.wait(left, PATIENCE)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(work(locks) for locks in rivals * 4))


async def test_a_waiter_wakes_when_the_key_is_released(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    await one.take(keys[:1])
    waiter = asyncio.create_task(other.wait(keys[:1], 10 * PATIENCE))
    await asyncio.sleep(0)
    assert not waiter.done()
    await one.release(keys[:1])
    await asyncio.wait_for(waiter, PATIENCE)
    assert await other.take(keys[:1])
    await other.release(keys[:1])


async def test_a_waiter_gives_up(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    await one.take(keys)
    await asyncio.wait_for(other.wait(keys, 0.05), PATIENCE)
    assert await other.take(keys) == set()
    await one.release(keys)


async def test_nobody_waits_for_what_is_free(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    await one.take(keys[:2])
    await asyncio.wait_for(other.wait(keys, 10 * PATIENCE), PATIENCE)
    await one.release(keys[:2])


async def test_a_waiter_for_keys_of_several_holders_wakes_for_the_first(redis_url: str, keys: list[str]) -> None:
    async with open_redis_locks(redis_url) as here, open_redis_locks(redis_url) as elsewhere:
        for first, then in ((here, elsewhere), (elsewhere, here)):
            assert await first.take(keys[:1])
            assert await then.take(keys[1:])
            waiter = asyncio.create_task(here.wait(keys, 10 * PATIENCE))
            await asyncio.sleep(0)
            await first.release(keys[:1])
            await asyncio.wait_for(waiter, PATIENCE)
            await then.release(keys[1:])


async def test_a_waiter_that_is_cancelled_leaves_nothing(rivals: Rivals, keys: list[str]) -> None:
    one, other = rivals
    await one.take(keys)
    waiter = asyncio.create_task(other.wait(keys, 10 * PATIENCE))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await one.release(keys)
    assert await other.take(keys) == set(keys)
    await other.release(keys)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:port"])
async def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="MINI_S3_REDIS_URL"):
        async with open_redis_locks(url):
            pass
