"""Chunks that a reader found damaged: noted without holding it up, and mended within moments."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from app.errors import MiniS3Error
from app.logs import get_logger
from app.metrics import note_mended
from app.models.suspects import Suspects
from app.types import Digest
from app.upkeep.pace import Throttle
from app.upkeep.restorer import Restorer

log = get_logger(__name__)

_MOST = 1000
"""Chunks that wait in memory to be noted."""

_AGAIN = 1.0
"""Seconds between two tries to note them while the database is away."""

_BATCH = 16

_LATER = 60.0
"""Seconds after which a chunk is looked at again that could not be mended."""


class Suspicion:
    """What the readers of a process found."""

    def __init__(self, suspects: Suspects) -> None:
        self._suspects = suspects
        self._found: set[Digest] = set()
        self._some = asyncio.Event()

    def note(self, digest: Digest) -> None:
        """Never waits and never fails."""
        if len(self._found) < _MOST:
            self._found.add(digest)
            self._some.set()

    async def write_for_ever(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            found, self._found = self._found, set()
            try:
                await self._suspects.note(found)
            except MiniS3Error as error:
                log.info("suspects not noted", error=error.message)
                self._keep(found)
                await asyncio.sleep(_AGAIN)

    def _keep(self, found: Collection[Digest]) -> None:
        for digest in found:
            self.note(digest)


class Mender:
    """Mends what was noted, the oldest first."""

    def __init__(self, suspects: Suspects, restorer: Restorer, throttle: Throttle) -> None:
        self._suspects = suspects
        self._restorer = restorer
        self._throttle = throttle

    async def mend(self) -> None:
        """See to all that is due now. Raises DatabaseUnavailable."""
        while due := await self._suspects.due(_BATCH):
            for suspect in due:
                restored = await self._restorer.restore(suspect.digest)
                await self._throttle.take(restored.bytes)
                note_mended("repair", restored.bytes, restored.made)
                if restored.outcome == "later":
                    await self._suspects.postpone(suspect, _LATER)
                else:
                    await self._suspects.clear(suspect)
