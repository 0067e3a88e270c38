"""Who follows how far a transfer is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.client.link import Body


class Watch:
    """Hears of the bytes of one file. Those that were moved and those that were spared add up to its size.

    This one keeps nothing; others derive from it.
    """

    def hashed(self, size: int) -> None:
        """So many bytes were read and hashed here."""

    def moved(self, size: int) -> None:
        """So many went over the network; negative where they have to be sent again."""

    def spared(self, size: int) -> None:
        """So many need not be moved: they are there."""


UNWATCHED = Watch()


def watched(body: Body, watch: Watch) -> Body:
    """The body, whose bytes are counted as they are sent."""
    counted = 0

    async def pieces() -> AsyncIterator[bytes | memoryview]:
        nonlocal counted
        watch.moved(-counted)
        counted = 0
        async for piece in body():
            yield piece
            counted += len(piece)
            watch.moved(len(piece))

    return pieces
