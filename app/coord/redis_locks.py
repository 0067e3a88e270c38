"""Single flight among all workers, through Redis.

A lock is a key with a lease, which its process renews; when a process dies, its locks end with the
lease. While Redis is away, locks hold within each process only, and two processes may write the
same chunk: the database then decides whose naming wins.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

from redis.exceptions import RedisError

from app.background import in_background
from app.coord.locks import LocalLocks, Locks
from app.coord.redis_client import ANSWER, REST, open_client
from app.gathering import Gathered
from app.logs import get_logger
from app.metrics import LOCK_FALLBACKS

log = get_logger(__name__)

_LEASE = 10.0
"""Seconds that a lock outlives its process."""
_RENEW = _LEASE / 4
_TOGETHER = 256
"""Keys that are asked for in one call which several callers share."""
_POLL = 0.02, 0.25
_PREFIX = "mini-s3:lock:"

# A key that bears our token already is a relic of a release that Redis never heard of.
_TAKE = """
local taken = {}
for place, key in ipairs(KEYS) do
  local won = redis.call('set', key, ARGV[1], 'nx', 'px', ARGV[2]) or redis.call('get', key) == ARGV[1]
  taken[place] = won and redis.call('pexpire', key, ARGV[2]) or 0
end
return taken
"""
_RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end
"""
_EXTEND = """
for _, key in ipairs(KEYS) do
  if redis.call('get', key) == ARGV[1] then redis.call('pexpire', key, ARGV[2]) end
end
"""


class RedisLocks(Locks):
    """Locks within the process first, then among processes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._local = LocalLocks()
        self._token = secrets.token_hex(8)
        self._held: set[str] = set()
        self._rests_until = 0.0
        self._takings = Gathered(self._take_together, most=_TOGETHER, weigh=len)
        self._releases = Gathered(self._release_together, most=_TOGETHER, weigh=len)

    async def take(self, keys: Iterable[str]) -> set[str]:
        mine = await self._local.take(keys)
        if not mine:
            return mine
        try:
            won = await self._takings(mine)
        except BaseException:
            await self._local.release(mine)
            raise
        await self._local.release(mine - won)
        self._held |= won
        return won

    async def release(self, keys: Iterable[str]) -> None:
        released = set(keys)
        self._held -= released
        try:
            if released:
                await self._releases(released)
        finally:
            await self._local.release(released)

    async def wait(self, keys: Iterable[str], timeout: float) -> None:  # noqa: ASYNC109
        wanted = set(keys)
        here = self._local.held(wanted)
        if here == wanted:
            await self._local.wait(here, timeout)
            return
        names = [_PREFIX + key for key in wanted - here]
        deadline = monotonic() + timeout
        pause, longest = _POLL
        while (left := deadline - monotonic()) > 0:
            held = await self._ask(partial(self._client.exists, *names))
            if held is None or held < len(names):
                return
            nap = min(pause, left)
            await (self._local.wait(here, nap) if here else asyncio.sleep(nap))
            if self._local.held(here) != here:
                return
            pause = min(pause * 2, longest)

    async def _take_together(self, groups: Sequence[set[str]]) -> list[set[str]]:
        """No key is in two of the groups, for each holds it within the process."""
        order = sorted(set().union(*groups))
        answers = await self._eval(_TAKE, order, int(_LEASE * 1000))
        won = set(order) if answers is None else {key for key, answer in zip(order, answers, strict=True) if answer}
        return [group & won for group in groups]

    async def _release_together(self, groups: Sequence[set[str]]) -> list[None]:
        await self._eval(_RELEASE, set().union(*groups))
        return [None] * len(groups)

    async def _eval(self, script: str, keys: Collection[str], *arguments: int) -> Any:
        names = [_PREFIX + key for key in keys]
        return await self._ask(partial(self._client.eval, script, len(names), *names, self._token, *arguments))

    async def ping(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER):
                return bool(await self._client.ping())
        except (RedisError, OSError):
            return False

    async def renew_for_ever(self) -> None:
        """Extend the leases of what this process holds."""
        while True:
            await asyncio.sleep(_RENEW)
            if self._held:
                await self._eval(_EXTEND, self._held, int(_LEASE * 1000))

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Redis's answer, or None when it gives none: then it is left alone for a while."""
        if monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(ANSWER):
                return await call()
        except (RedisError, OSError) as error:
            self._rests_until = monotonic() + REST
            LOCK_FALLBACKS.inc()
            log.warning("redis does not answer, locks hold within this process only", error=str(error) or "timeout")
            return None


@asynccontextmanager
async def open_redis_locks(url: str) -> AsyncIterator[RedisLocks]:
    """Raises ConfigError where the URL can't be used; a Redis that is away is no error."""
    async with open_client(url) as client:
        locks = RedisLocks(client)
        async with in_background(locks.renew_for_ever()):
            yield locks
