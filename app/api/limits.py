"""Rate limits per client address. The one module that knows slowapi and limits.

slowapi asks its storage synchronously, so where that is Redis the question is asked in a thread: a
Redis that hangs delays the requests that ask, never the event loop. While Redis is away, limits are
kept in memory.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.requests import Request
from starlette.responses import Response

from app.errors import RateLimited
from app.logs import get_logger

log = get_logger(__name__)

Kind = Literal["api", "upload", "download"]
Endpoint = Callable[[Request], Awaitable[Response]]

_THREADS = 4
_TIMEOUTS: dict[str, Any] = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}


class RateLimits:
    def __init__(self, rates: dict[Kind, str], redis_url: str) -> None:
        """`rates` as `600/minute`; `redis_url` as redis-py takes it, empty for limits in this process."""
        storage = redis_url.replace("unix://", "redis+unix://", 1) if redis_url.startswith("unix:") else redis_url
        with warnings.catch_warnings():
            # An explicit name keeps slowapi from reading settings out of a `.env` in the working
            # directory; it warns that there is nothing in this one.
            warnings.simplefilter("ignore")
            self._limiter = Limiter(
                key_func=_client,
                storage_uri=storage or "memory://",
                storage_options=_TIMEOUTS if storage else {},
                in_memory_fallback_enabled=True,
                key_style="endpoint",
                key_prefix="mini-s3",
                config_filename=os.devnull,
            )
        self._gates = {kind: self._gate(kind, rate) for kind, rate in rates.items()}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="limits") if storage else None

    def guard(self, kind: Kind, endpoint: Endpoint) -> Endpoint:
        """The endpoint, behind a limit. It raises RateLimited instead where the client is over it."""

        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            await self._in_thread(self._gates[kind], request)
            return await endpoint(request)

        return guarded

    def close(self) -> None:
        if self._threads:
            self._threads.shutdown(wait=False)

    def _gate(self, kind: Kind, rate: str) -> Callable[[Request], None]:
        # slowapi keeps limits by the name of what it decorates.
        def admit(request: Request) -> None: ...

        admit.__name__ = kind
        decorated = self._limiter.limit(rate)(admit)

        def gate(request: Request) -> None:
            for _ in range(2):
                try:
                    decorated(request)
                except RateLimitExceeded as error:
                    wait = self._seconds_left(request)
                    raise RateLimited(
                        f"Only {error.detail} are allowed to one client. Try again in {wait} s.", wait
                    ) from error
                except Exception as error:  # noqa: BLE001 - slowapi lets through whatever its storage raises
                    # It falls back to memory for the first request that fails, and raises for
                    # those that fail at the same moment. The second try of these is in memory.
                    log.info("rate limits not asked", error=str(error))
                else:
                    return

        return gate

    def _seconds_left(self, request: Request) -> int:
        limit, arguments = request.state.view_rate_limit
        try:
            resets_at, _ = self._limiter.limiter.get_window_stats(limit, *arguments)
        except Exception:  # noqa: BLE001 - as above
            return int(limit.get_expiry())
        return max(1, int(resets_at - time.time()) + 1)

    async def _in_thread(self, gate: Callable[[Request], Any], request: Request) -> None:
        if self._threads is None:
            gate(request)
        else:
            await asyncio.get_running_loop().run_in_executor(self._threads, gate, request)


def _client(request: Request) -> str:
    return request.client.host if request.client else "local"
