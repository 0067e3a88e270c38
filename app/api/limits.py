"""Rate limits per client address. The one module that knows slowapi and limits.

slowapi asks its storage synchronously, on the event loop: so the storage is one of our own, which
counts in memory and exchanges its counts with the other workers' through Redis every 50 ms.

A limit therefore holds over all workers but for what the others admitted in the last 50 ms. Where
less than a quarter of a limit is left, or fewer than 100 requests, a request waits until its count
was exchanged, and what is counted there decides; a limit of 100 or less is never exceeded. Redis has
half a second for that. While it is away each worker keeps the limits for itself, without waiting.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal, cast

from limits.storage import Storage
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.requests import Request
from starlette.responses import Response

from app.api.methods import Endpoint
from app.coord.counts import Counts
from app.errors import RateLimited

Kind = Literal["api", "upload", "download"]

_NEAR = 100
"""Requests left of a limit below which each one is counted in Redis before it is admitted."""


class _Memory(Storage):
    """Counts as a storage of `limits`, for its fixed windows."""

    STORAGE_SCHEME = ["mini-s3"]  # noqa: RUF012 - as the library declares it

    def __init__(self, uri: str | None = None, *, counts: Counts, **options: Any) -> None:
        super().__init__(uri, **options)
        self._counts = counts

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self._counts.add(key, expiry, amount)

    def get(self, key: str) -> int:
        count = self._counts.get(key)
        return count.total if count else 0

    def get_expiry(self, key: str) -> float:
        count = self._counts.get(key)
        return time.time() + (count.ends - time.monotonic() if count else 0)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        raise NotImplementedError


class RateLimits:
    def __init__(self, rates: dict[Kind, str], counts: Counts) -> None:
        """`rates` as `600/minute`."""
        self._counts = counts
        with warnings.catch_warnings():
            # An explicit name keeps slowapi from reading settings out of a `.env` in the working
            # directory; it warns that there is nothing in this one.
            warnings.simplefilter("ignore")
            self._limiter = Limiter(
                key_func=_client,
                storage_uri="mini-s3://",
                storage_options=cast("Any", {"counts": counts}),
                key_style="endpoint",
                key_prefix="mini-s3",
                config_filename=os.devnull,
            )
        self._gates = {kind: self._gate(kind, rate) for kind, rate in rates.items()}

    def guard(self, kind: Kind, endpoint: Endpoint) -> Endpoint:
        """The endpoint, behind a limit. It raises RateLimited instead where the client is over it."""
        gate = self._gates[kind]

        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            try:
                gate(request)
            except RateLimitExceeded as error:
                raise self._refused(request) from error
            if self._counts.shared:
                await self._settled(request)
            return await endpoint(request)

        return guarded

    def _gate(self, kind: Kind, rate: str) -> Callable[[Request], None]:
        # slowapi keeps limits by the name of what it decorates.
        def admit(request: Request) -> None: ...

        admit.__name__ = kind
        gate: Callable[[Request], None] = self._limiter.limit(rate)(admit)
        return gate

    async def _settled(self, request: Request) -> None:
        """Raises RateLimited where the limit is near, and the other workers have used it up."""
        limit, arguments = request.state.view_rate_limit
        count = self._counts.get(limit.key_for(*arguments))
        if count is None or limit.amount - count.total >= max(_NEAR, limit.amount // 4):
            return
        place = count.ours
        await self._counts.settle()
        # The exchange may tell that the next window has begun, in which we have fewer.
        if min(place, count.ours) + count.theirs > limit.amount:
            raise self._refused(request)

    def _refused(self, request: Request) -> RateLimited:
        limit, arguments = request.state.view_rate_limit
        resets_at, _ = self._limiter.limiter.get_window_stats(limit, *arguments)
        wait = max(1, int(resets_at - time.time()) + 1)
        return RateLimited(f"Only {limit} are allowed to one client. Try again in {wait} s.", wait)


def _client(request: Request) -> str:
    return request.client.host if request.client else "local"


# slowapi looks for it at each request; without this, it would be worked out each time.
_client.__signature__ = inspect.signature(_client)  # type: ignore[attr-defined]
