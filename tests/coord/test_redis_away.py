"""Locks among processes when Redis hangs, dies or forgets, and when a process does (rule R8)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis

from app.coord import redis_locks
from app.coord.redis_locks import RedisLocks, open_redis_locks
from app.embedded import redis_server
from tests.coord.tools import RedisServer, until
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio

KEY = "chunk"


@pytest.fixture
async def locks(redis: RedisServer) -> AsyncIterator[RedisLocks]:
    async with open_redis_locks(redis.url) as opened:
        yield opened


@pytest.fixture
async def others(redis: RedisServer) -> AsyncIterator[RedisLocks]:
    """The locks of another process."""
    async with open_redis_locks(redis.url) as opened:
        yield opened


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_redis_locks_hold_in_the_process(
    redis: RedisServer, locks: RedisLocks, others: RedisLocks, how: signal.Signals
) -> None:
    redis.send(how)
    assert not await locks.ping()
    async with asyncio.timeout(PATIENCE):
        assert await locks.take([KEY]) == {KEY}
        assert await locks.take([KEY, "second"]) == {"second"}
        assert await others.take([KEY]) == {KEY}
        waiter = asyncio.create_task(locks.wait([KEY], 10 * PATIENCE))
        await asyncio.sleep(0)
        await locks.release([KEY])
        await waiter
        await locks.wait([KEY], 10 * PATIENCE)
        assert await locks.take([KEY]) == {KEY}
        await locks.release([KEY, "second"])
        await others.release([KEY])


async def test_after_a_pause_of_redis_processes_exclude_each_other_again(
    redis: RedisServer, locks: RedisLocks, others: RedisLocks
) -> None:
    redis.send(signal.SIGSTOP)
    assert await locks.take([KEY])
    await locks.release([KEY])
    redis.send(signal.SIGCONT)
    await until(locks.ping)
    await until(lambda: excluded(locks, others))


async def test_after_a_death_of_redis_processes_exclude_each_other_again(
    redis: RedisServer, locks: RedisLocks, others: RedisLocks
) -> None:
    redis.send(signal.SIGKILL)
    assert await locks.take([KEY])
    await locks.release([KEY])
    with redis.running():
        await until(locks.ping)
        await until(lambda: excluded(locks, others))


async def excluded(one: RedisLocks, other: RedisLocks) -> bool:
    """Whether a fresh key that one holds is denied to the other."""
    key = os.urandom(8).hex()
    assert await one.take([key])
    denied = not await other.take([key])
    await one.release([key])
    if not denied:
        await other.release([key])
    return denied


async def test_a_lock_whose_release_redis_missed_is_open_to_its_own_process(
    redis: RedisServer, locks: RedisLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis carries out the taking when it goes on, and never hears of the release, for it rests then."""
    monkeypatch.setattr(redis_locks, "_LEASE", 3600.0)
    assert await locks.ping()
    redis.send(signal.SIGSTOP)
    assert await locks.take([KEY])
    await locks.release([KEY])
    redis.send(signal.SIGCONT)
    await until(lambda: asyncio.to_thread(redis.keys))

    async def taken_through_redis() -> bool:
        assert await locks.take([KEY]) == {KEY}
        await locks.release([KEY])
        return not redis.keys()

    await until(taken_through_redis)


async def test_a_redis_that_forgets_costs_nothing_but_the_exclusion(
    redis: RedisServer, locks: RedisLocks, others: RedisLocks
) -> None:
    assert await locks.take([KEY])
    redis.flush()
    assert await locks.take([KEY]) == set()
    assert await others.take([KEY]) == {KEY}
    await locks.release([KEY])
    assert await locks.take([KEY]) == set(), "a process released what another one holds"
    await others.release([KEY])
    assert await locks.take([KEY]) == {KEY}
    await locks.release([KEY])


async def test_a_taker_that_is_cancelled_holds_nothing(redis: RedisServer, locks: RedisLocks) -> None:
    redis.send(signal.SIGSTOP)
    taker = asyncio.create_task(locks.take([KEY]))
    await asyncio.sleep(0)
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    assert await locks.take([KEY]) == {KEY}
    await locks.release([KEY])


async def test_a_lock_is_kept_by_renewal(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_locks, "_LEASE", 3600.0)
    monkeypatch.setattr(redis_locks, "_RENEW", 0.05)
    async with open_redis_locks(redis.url) as locks, open_redis_locks(redis.url) as others:
        assert await locks.take([KEY])
        with Redis.from_url(redis.url) as client:
            (name,) = client.scan_iter()
            # Its lease is cut short again and again; only a renewal makes it long once more.
            for _ in range(5):
                assert client.expire(name, 60)
                await until(lambda: asyncio.to_thread(lambda: client.ttl(name) > 600))
        assert await others.take([KEY]) == set()
        await locks.release([KEY])
        assert await others.take([KEY]) == {KEY}
        await others.release([KEY])


async def test_the_locks_of_a_dead_process_end_with_their_lease(
    redis: RedisServer, others: RedisLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process, if it was only asleep, then leaves alone what another one took."""
    monkeypatch.setattr(redis_locks, "_LEASE", 0.3)
    monkeypatch.setattr(redis_locks, "_RENEW", 3600.0)
    async with open_redis_locks(redis.url) as dead:
        assert await dead.take([KEY])
        monkeypatch.setattr(redis_locks, "_LEASE", 3600.0)
        await until(lambda: others.take([KEY]))
        await dead.release([KEY])
        assert redis.keys()
        await others.release([KEY])
        assert not redis.keys()


async def test_a_redis_that_is_away_at_the_start_is_no_error(tmp_path: Path) -> None:
    async with open_redis_locks(redis_server.url(tmp_path / "nowhere")) as locks:
        assert not await locks.ping()
        assert await locks.take([KEY]) == {KEY}
        assert await locks.take([KEY]) == set()
        await locks.release([KEY])
