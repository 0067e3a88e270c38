"""What a walk through all chunks may be for: the reasons to do something with one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from app.models.chunk import Chunk
from app.models.tasks import Done, Kind, Parameters, Task
from app.upkeep.places import Places

Levels = Counter[int]
"""How many chunks there are of each level."""


class Chore(ABC):
    """Calls that await something raise DatabaseUnavailable."""

    kind: Kind
    share = 0.5
    """The part of the time that a server may give it."""
    page = 1000
    """Chunks whose documents are read together."""
    together = 8
    """Chunks seen to together: each takes memory for itself and for its parities."""
    is_paced = False
    """Whether `due_in` is to be asked: then each page waits for its time."""
    goes_on = False
    """Whether it is over only when a round finds nothing to do. Otherwise one round is all."""

    def __init__(self, places: Places) -> None:
        self._places = places

    @property
    def parameters(self) -> Parameters:
        """What it is about, as far as that may change between rounds. To be read after `look`."""
        return {}

    async def look(self) -> None:
        """Learn how things are now; called when chunks were read, and before they are judged."""
        await self._places.look()

    @abstractmethod
    def level(self, chunk: Chunk) -> int | None:
        """How urgent it is to do something with this chunk, the lowest level first; None where there is
        nothing to do."""

    async def expected(self) -> Levels | None:
        """How much there is to do, where that is known without looking at each chunk."""
        return None

    def adjusted(self, counted: Levels) -> Levels:
        """How much there is to do, where so many chunks have been counted."""
        return counted

    def is_over(self, level: int) -> bool:  # noqa: ARG002
        """Whether nothing is left to do of this level, whatever chunks there are."""
        return False

    async def due_in(self, task: Task, following: bytes) -> float:  # noqa: ARG002
        """Seconds to wait before the chunk `following` is seen to, or, where that is empty, before the
        round ends."""
        return 0.0

    def cost(self, chunk: Chunk) -> int:
        """Bytes, about, that are read or written for a chunk."""
        return chunk.size

    @abstractmethod
    async def tend(self, chunks: Sequence[Chunk]) -> Done:
        """Do what there is to do with these chunks, all of one level. They may have changed meanwhile."""
