"""Counts among processes: they add up, and a Redis that hangs, dies or forgets stops nobody (rule R8)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from app.coord import counts as module
from app.coord.counts import Count, Counts, open_counts
from app.embedded import redis_server
from app.errors import ConfigError
from tests.coord.tools import RedisServer, until
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio

KEY = "client"
HOUR = 3600


@pytest.fixture
async def counts(redis: RedisServer) -> AsyncIterator[Counts]:
    async with open_counts(redis.url) as opened:
        yield opened


@pytest.fixture
async def others(redis: RedisServer) -> AsyncIterator[Counts]:
    """The counts of another process."""
    async with open_counts(redis.url) as opened:
        yield opened


def total(counts: Counts, key: str = KEY) -> int:
    count = counts.get(key)
    return count.total if count else 0


def in_redis(redis: RedisServer, key: str = KEY) -> int:
    with Redis.from_url(redis.url) as client:
        return sum(map(int, client.hvals("mini-s3:hits:" + key)))  # type: ignore[arg-type, union-attr]


async def told_to(redis: RedisServer, hits: int) -> None:
    async def told() -> bool:
        return await asyncio.to_thread(in_redis, redis) == hits

    await until(told)


async def test_processes_learn_in_the_background_what_the_others_counted(
    redis: RedisServer, counts: Counts, others: Counts
) -> None:
    for _ in range(5):
        counts.add(KEY, HOUR)
    await told_to(redis, 5)
    others.add(KEY, HOUR, 3)
    await told_to(redis, 8)
    await others.settle()
    counts.add(KEY, HOUR)
    await told_to(redis, 9)
    await counts.settle()
    assert (total(counts), total(others)) == (9, 8)


async def test_an_exchange_is_there_for_the_asking(counts: Counts, others: Counts) -> None:
    for hits in range(1, 20):
        one = others if hits % 2 else counts
        one.add(KEY, HOUR)
        await one.settle()
        assert total(one) == hits


async def test_the_sum_is_right_after_hits_at_once(redis: RedisServer, counts: Counts, others: Counts) -> None:
    async def hit(one: Counts, key: str) -> None:
        for number in range(200):
            one.add(key, HOUR)
            if number % 7 == 0:
                await one.settle()
            elif number % 3 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(hit(one, key) for one in (counts, others) for key in ("a", "b") for _ in range(4)))
    await counts.settle()
    await others.settle()
    assert (in_redis(redis, "a"), in_redis(redis, "b")) == (1600, 1600)


async def test_more_counts_than_one_exchange_takes_are_all_told(
    redis: RedisServer, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    for number in range(10):
        counts.add(str(number), HOUR, number + 1)

    async def all_told() -> bool:
        return [in_redis(redis, str(number)) for number in range(10)] == list(range(1, 11))

    await until(all_told)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_redis_each_process_counts_and_then_nothing_is_lost(
    redis: RedisServer, counts: Counts, others: Counts, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(module, "REST", 0.1)
    counts.add(KEY, HOUR, 2)
    others.add(KEY, HOUR, 3)
    await counts.settle()
    await others.settle()
    redis.send(how)
    async with asyncio.timeout(PATIENCE):
        for hits in range(4):
            assert counts.add(KEY, HOUR) - hits in (3, 6)
            await counts.settle()
        others.add(KEY, HOUR)
        await others.settle()
    if how is signal.SIGSTOP:
        redis.send(signal.SIGCONT)
        await told_to(redis, 10)
    else:
        with redis.running():
            await told_to(redis, 10)


async def test_what_redis_forgot_is_told_again(redis: RedisServer, counts: Counts, others: Counts) -> None:
    for one in (counts, others):
        one.add(KEY, HOUR, 4)
        await one.settle()
    redis.flush()
    for one in (counts, others):
        one.add(KEY, HOUR)
        await one.settle()
    assert (in_redis(redis), total(others)) == (10, 10)


async def test_what_was_not_told_since_the_asker_gave_up_is_told_later(redis: RedisServer) -> None:
    async with AsyncRedis.from_url(redis.url) as client:
        counts = Counts(client)
        redis.send(signal.SIGSTOP)
        counts.add(KEY, HOUR)
        asking = asyncio.create_task(counts.settle())
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        redis.send(signal.SIGCONT)
        await counts.settle()
    assert in_redis(redis) == 1


async def test_a_window_ends_everywhere(redis: RedisServer, counts: Counts, others: Counts) -> None:
    """Whoever began it, and the next one starts from nothing."""
    counts.add(KEY, 0.5, 7)
    await counts.settle()
    others.add(KEY, 0.5, 1)
    await others.settle()
    assert total(others) == 8

    async def over() -> bool:
        return not total(counts) and not total(others) and not redis.keys()

    await until(over)
    assert counts.add(KEY, HOUR) == 1


async def test_hits_of_an_earlier_window_are_not_told_to_the_next() -> None:
    """Redis's window is much longer than ours has left: it is the one after ours."""
    count = Count(60)
    count.ours, count.told, count.theirs = 9, 7, 20
    count.take(9, (4, 59_000, 0))
    assert (count.ours, count.theirs, count.told) == (2, 4, 0)


async def test_redis_tells_a_later_window_from_ours(redis: RedisServer, counts: Counts, others: Counts) -> None:
    others.add(KEY, HOUR, 4)
    await others.settle()
    counts.add(KEY, HOUR, 9)
    ours = counts.get(KEY)
    assert ours is not None
    ours.ends -= 0.9 * HOUR
    await counts.settle()
    await told_to(redis, 13)
    await counts.settle()
    assert total(counts) == 13
    ours.ends -= 0.9 * HOUR
    counts.add(KEY, HOUR)
    await counts.settle()
    await told_to(redis, 5)


async def test_counts_of_windows_that_are_over_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor those that no Redis has heard of."""
    monkeypatch.setattr(module, "_SWEEP", 10)
    async with open_counts(redis_server.url(tmp_path / "nowhere")) as counts:
        for number in range(100):
            counts.add(str(number), 0)
        counts.add(KEY, HOUR)
        assert total(counts) == 1
        assert max(len(counts._counts), len(counts._untold)) <= 20


async def test_a_redis_that_is_away_at_the_start_is_no_error(tmp_path: Path) -> None:
    async with open_counts(redis_server.url(tmp_path / "nowhere")) as counts:
        assert counts.add(KEY, HOUR) == 1
        await counts.settle()
        assert counts.add(KEY, HOUR) == 2


async def test_a_url_that_can_not_be_used_is_said() -> None:
    with pytest.raises(ConfigError):
        async with open_counts("nonsense://"):
            pass
