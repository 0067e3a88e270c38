"""Rate limits of several workers on one Redis: they share a count, and keep their own while Redis is away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle

import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.api.limits import Endpoint, RateLimits
from app.coord.counts import Counts, open_counts
from app.errors import RateLimited
from tests.coord.tools import RedisServer
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def workers(redis: RedisServer) -> AsyncIterator[list[Counts]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_counts(redis.url)) for _ in range(3)]


async def answer(_request: Request) -> Response:
    return Response()


def guarded(counts: Counts, rate: str) -> Endpoint:
    return RateLimits({"api": rate}, counts).guard("api", answer)


def request(client: str = "10.0.0.1") -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [], "client": (client, 5)})


async def admitted(endpoint: Endpoint, client: str = "10.0.0.1") -> bool:
    try:
        await endpoint(request(client))
    except RateLimited:
        return False
    return True


@pytest.mark.parametrize("rate", ["7/hour", "100/minute"])
async def test_a_small_limit_is_never_exceeded(workers: list[Counts], rate: str) -> None:
    limit = int(rate.partition("/")[0])
    endpoints = [guarded(counts, rate) for counts in workers]
    one_by_one = [await admitted(endpoint) for endpoint, _ in zip(cycle(endpoints), range(limit + 20), strict=False)]
    assert one_by_one == [True] * limit + [False] * 20
    turns = zip(cycle(endpoints), range(3 * limit), strict=False)
    at_once = await asyncio.gather(*(admitted(endpoint, "10.0.0.2") for endpoint, _ in turns))
    assert limit - 2 * len(workers) <= sum(at_once) <= limit


async def test_a_large_limit_is_exact_for_a_client_who_takes_turns(workers: list[Counts]) -> None:
    """Each worker admits without asking while much is left, and knows of the others when it is near."""
    endpoints = [guarded(counts, "400/hour") for counts in workers]
    said = []
    for endpoint, number in zip(cycle(endpoints), range(500), strict=False):
        if number % 10 == 0:
            await asyncio.gather(*(counts.settle() for counts in workers))
        said.append(await admitted(endpoint))
    assert said == [True] * 400 + [False] * 100


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_redis_each_worker_keeps_the_limit(
    redis: RedisServer, workers: list[Counts], how: signal.Signals
) -> None:
    endpoints = [guarded(counts, "5/hour") for counts in workers]
    assert await admitted(endpoints[0])
    redis.send(how)
    async with asyncio.timeout(PATIENCE):
        assert [await admitted(endpoints[0]) for _ in range(6)] == [True] * 4 + [False] * 2
        assert [await admitted(endpoints[1]) for _ in range(6)] == [True] * 5 + [False]


async def test_a_refusal_tells_the_limit_and_when_to_come_again(workers: list[Counts]) -> None:
    endpoints = [guarded(counts, "1/minute") for counts in workers]
    assert await admitted(endpoints[0])
    for endpoint in endpoints:
        with pytest.raises(RateLimited, match=r"Only 1 per 1 minute are allowed to one client\. Try again in \d+ s"):
            await endpoint(request())
        with pytest.raises(RateLimited) as refused:
            await endpoint(request())
        assert 1 <= refused.value.retry_after <= 61


async def test_one_worker_needs_no_redis() -> None:
    endpoint = guarded(Counts(), "3/hour")
    assert [await admitted(endpoint) for _ in range(5)] == [True] * 3 + [False] * 2
    assert await admitted(endpoint, "10.0.0.9")
