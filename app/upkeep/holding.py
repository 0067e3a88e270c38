"""Holding a lease for as long as some work goes on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.background import in_background
from app.errors import MiniS3Error
from app.logs import get_logger
from app.models.leases import Lease

log = get_logger(__name__)

LEASE = 30.0
"""Seconds after which the lease of somebody who crashed is free."""

RENEW = 10.0
"""Seconds after which it is asked for again, by its holder and by the others."""


class Keeper:
    """Asks for a lease again and again, for one holder."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._holder = secrets.token_hex(8)
        self.held = False
        """Whether it was ours when it was last asked for. Others may have taken it since."""

    async def ask(self) -> bool:
        """Raises DatabaseUnavailable."""
        self.held = await self._lease.take(self._holder, LEASE)
        return self.held

    async def ask_for_ever(self) -> None:
        while True:
            try:
                await self.ask()
            except MiniS3Error as error:
                self.held = False
                log.info("no database to ask for a lease", error=error.message)
            await asyncio.sleep(RENEW)

    async def give_back(self) -> None:
        """Never raises: what is not given back runs out."""
        if self.held:
            self.held = False
            with suppress(MiniS3Error):
                await self._lease.give_back(self._holder)


@asynccontextmanager
async def holding(lease: Lease) -> AsyncIterator[Keeper | None]:
    """Keep the lease; None if another has it. Raises DatabaseUnavailable."""
    keeper = Keeper(lease)
    if not await keeper.ask():
        yield None
        return
    try:
        async with in_background(keeper.ask_for_ever()):
            yield keeper
    finally:
        await keeper.give_back()
