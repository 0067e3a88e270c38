"""Whether this process can take uploads just now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.errors import DatabaseUnavailable
from app.nodes.cluster import Cluster

_ANSWER = 2.0


@dataclass(frozen=True, slots=True)
class State:
    """`redis` is None where the store works without one."""

    database: bool
    redis: bool | None
    nodes_up: int
    nodes_total: int

    @property
    def takes_uploads(self) -> bool:
        return self.database and self.nodes_up > 0


class Readiness:
    """`ping_database` raises DatabaseUnavailable; `ping_redis` answers yes or no, and is None without Redis."""

    def __init__(
        self,
        cluster: Cluster,
        ping_database: Callable[[], Awaitable[None]],
        ping_redis: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        self._cluster = cluster
        self._ping_database = ping_database
        self._ping_redis = ping_redis

    async def check(self) -> State:
        """Never raises, and answers within a few seconds."""
        database, redis, statuses = await asyncio.gather(self._database(), self._redis(), self._cluster.statuses())
        up = sum(status.state == "active" for status in statuses)
        return State(database, redis, up, len(statuses))

    async def _database(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER):
                await self._ping_database()
        except (DatabaseUnavailable, TimeoutError):
            return False
        return True

    async def _redis(self) -> bool | None:
        return await self._ping_redis() if self._ping_redis else None
