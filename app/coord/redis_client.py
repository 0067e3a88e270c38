"""Connecting to Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.errors import ConfigError

ANSWER = 0.5
"""Seconds within which Redis must answer."""

REST = 2.0
"""Seconds for which it is left alone after it failed to."""


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[Any]:
    """A client that tries each call once, and not for long. A Redis that is away is no error yet.

    Raises ConfigError where the URL can't be used.
    """
    try:
        client = Redis.from_url(url, socket_timeout=ANSWER, socket_connect_timeout=ANSWER, retry=Retry(NoBackoff(), 0))
    except ValueError as error:
        raise ConfigError(f"MINI_S3_REDIS_URL can't be used: {error}") from error
    try:
        yield client
    finally:
        await cast("Any", client).aclose()
