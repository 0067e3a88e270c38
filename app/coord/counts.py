"""Counts of hits in windows of time, in this process and, through Redis, in all together.

Counting never waits: it is done in memory, and what was counted is exchanged behind it, every
EXCHANGE seconds while there is something to tell. Until then a process does not know what the
others counted; who needs to know at once asks for an exchange.

In Redis a count is a hash with one field a process, which holds all that this process counted in
the window. So an exchange may be repeated, or come late, and nothing is counted twice; and what a
Redis forgot is there again after the next one. While Redis is away the processes count alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from time import monotonic
from typing import Any

from redis.exceptions import RedisError

from app.background import in_background
from app.coord.redis_client import ANSWER, REST, open_client
from app.logs import get_logger

log = get_logger(__name__)

EXCHANGE = 0.05
"""Seconds between two exchanges."""
_BATCH = 500
"""Counts in one exchange: bounds how long Redis does nothing else."""
_SWEEP = 1000
"""Counts in memory before those whose window is over are looked for."""
_PREFIX = "mini-s3:hits:"

# For each key: what we counted, the milliseconds left of our window, and of how many. A window that
# others began much later than ours is the next one, and our hits belong to the one before.
_TELL = """
local answers = {}
for place, key in ipairs(KEYS) do
  local ours, left, length = ARGV[3 * place - 1], tonumber(ARGV[3 * place]), tonumber(ARGV[3 * place + 1])
  local ends = redis.call('pttl', key)
  local same = ends - left <= length / 2
  if same then
    redis.call('hset', key, ARGV[1], ours)
    if ends < 0 then
      redis.call('pexpire', key, left)
      ends = left
    end
  end
  local sum = 0
  for _, hits in ipairs(redis.call('hvals', key)) do sum = sum + hits end
  answers[place] = {sum, ends, same and 1 or 0}
end
return answers
"""


class Count:
    """Hits in one window of `length` seconds, which `ends` by the clock `monotonic`."""

    __slots__ = ("ends", "length", "ours", "theirs", "told")

    def __init__(self, length: float) -> None:
        self.length = length
        self.ends = monotonic() + length
        self.ours = self.theirs = self.told = 0

    @property
    def total(self) -> int:
        """What is known here: it may lack what others counted since the last exchange."""
        return self.ours + self.theirs

    def take(self, told: int, answer: tuple[int, int, int]) -> None:
        """Redis's answer when `told` of our hits were told."""
        total, left, same = answer
        self.ends = monotonic() + left / 1000
        if same:
            self.told = told
            self.theirs = total - told
        else:
            self.ours -= self.told
            self.told = 0
            self.theirs = total


class Counts:
    def __init__(self, client: Any = None) -> None:
        """`client`: of redis-py, or None for counts in this process only."""
        self.shared = client is not None
        self._client = client
        self._name = secrets.token_hex(8)
        self._counts: dict[str, Count] = {}
        self._sweep_at = _SWEEP
        self._untold: dict[str, Count] = {}
        self._news = asyncio.Event()
        self._exchanging = asyncio.Lock()
        self._rests_until = 0.0

    def add(self, key: str, length: float, hits: int = 1) -> int:
        """Count hits in the window that is open, or in a new one. The total as far as it is known."""
        count = self._counts.get(key)
        if count is None or count.ends <= monotonic():
            count = self._open(key, length)
        count.ours += hits
        if self.shared:
            self._untold[key] = count
            self._news.set()
        return count.total

    def get(self, key: str) -> Count | None:
        """None if no window is open."""
        count = self._counts.get(key)
        return count if count is not None and count.ends > monotonic() else None

    async def settle(self) -> None:
        """Exchange what was counted last with the other processes. Without Redis it returns, soon or at once."""
        async with self._exchanging:
            now = monotonic()
            if not self._untold or now < self._rests_until:
                return
            batch = _open_ones({key: self._untold.pop(key) for key in list(islice(reversed(self._untold), _BATCH))})
            try:
                await self._exchange(batch, now)
            except (RedisError, OSError, TimeoutError) as error:
                self._rests_until = monotonic() + REST
                log.warning("redis does not answer, processes count alone", error=str(error) or "timeout")
                self._untold = batch | self._untold
            except BaseException:
                self._untold = batch | self._untold
                raise

    async def exchange_for_ever(self) -> None:
        while True:
            await self._news.wait()
            await self.settle()
            if not self._untold:
                self._news.clear()
            await asyncio.sleep(EXCHANGE)

    async def _exchange(self, batch: dict[str, Count], now: float) -> None:
        if not batch:
            return
        told = [count.ours for count in batch.values()]
        words: list[Any] = [self._name]
        for count in batch.values():
            words += (count.ours, max(1, int((count.ends - now) * 1000)), int(count.length * 1000))
        names = [_PREFIX + key for key in batch]
        async with asyncio.timeout(ANSWER):
            answers = await self._client.eval(_TELL, len(names), *names, *words)
        for (key, count), ours, answer in zip(batch.items(), told, answers, strict=True):
            count.take(ours, answer)
            if count.ours > count.told:
                self._untold.setdefault(key, count)

    def _open(self, key: str, length: float) -> Count:
        if len(self._counts) >= self._sweep_at:
            self._counts, self._untold = _open_ones(self._counts), _open_ones(self._untold)
            self._sweep_at = max(_SWEEP, 2 * len(self._counts))
        count = self._counts[key] = Count(length)
        return count


def _open_ones(counts: dict[str, Count]) -> dict[str, Count]:
    now = monotonic()
    return {key: count for key, count in counts.items() if count.ends > now}


@asynccontextmanager
async def open_counts(url: str) -> AsyncIterator[Counts]:
    """`url` as redis-py takes it; empty for counts in this process only. A Redis that is away is no error.

    Raises ConfigError where the URL can't be used.
    """
    if not url:
        yield Counts()
        return
    async with open_client(url) as client:
        counts = Counts(client)
        async with in_background(counts.exchange_for_ever()):
            yield counts
