"""Actors that run the store's real code one step at a time, in an order that a test chooses.

A step leads from one point to the next, or to the actor's end. Points are those of `app.faults` and,
before each blob is read, written or unlinked, those of `SteppedCluster`. One actor moves at a time:
what it does within a step, its transactions included, is atomic for the others. An actor that works
in several tasks is at a point when the first of them is; the others come to theirs meanwhile.

An actor that crashes stays at its point for ever. None of its clean-up runs before `end`, which is
called when all has been checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from app.coord.locks import Locks
from app.faults import pausing
from app.nodes.cluster import Cluster
from app.types import Blob
from tests.support import PATIENCE

Body = Callable[[], Coroutine[Any, Any, None]]

MOST_STEPS = 5_000
"""Steps within which everybody has come to an end: actors that wait for each other for ever do not."""

_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)
"""Whose step this is; tasks that an actor starts inherit it."""


@dataclass(frozen=True)
class Turn:
    """That actor takes so many steps (`who` counts those that are left, round and round); 0: it crashes."""

    who: int
    steps: int


async def reach(point: str) -> None:
    """Be at a point: stay there until it is this actor's turn. Outside of actors, go on."""
    actor = _acting.get()
    if actor:
        await actor.park(point)


class Actor:
    def __init__(self, name: str, body: Body) -> None:
        self.name = name
        self.crashed = False
        self._over = False
        self._one_strand = asyncio.Lock()
        self._gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reached: asyncio.Future[str] | None = None
        self._task = asyncio.create_task(self._play(body))

    @property
    def done(self) -> bool:
        return self._task.done()

    async def _play(self, body: Body) -> None:
        _acting.set(self)
        await self._gate
        await body()

    async def park(self, point: str) -> None:
        """Where an actor works in several tasks at once, these are at points one after the other."""
        async with self._one_strand:
            if self._over:
                return
            assert self._reached
            self._gate = asyncio.get_running_loop().create_future()
            self._reached.set_result(point)
            await self._gate

    async def step(self) -> str:
        """Go on; return the point that is reached, or "end". Raises what the actor raises."""
        self._reached = asyncio.get_running_loop().create_future()
        self._gate.set_result(None)
        happened = (self._reached, self._task)
        await asyncio.wait(happened, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if self._reached.done():
            return self._reached.result()
        assert self._task.done(), f"{self.name} comes to no point"
        self._task.result()
        return "end"

    async def end(self) -> None:
        self._over = True
        self._task.cancel()
        await asyncio.wait([self._task])


class Scheduler:
    """`steps` counts those that were taken; `trace` tells them in words."""

    def __init__(self, bodies: Mapping[str, Body]) -> None:
        self._actors = [Actor(name, body) for name, body in bodies.items()]
        self.steps = 0
        self.trace: list[str] = []

    @property
    def left(self) -> list[Actor]:
        return [actor for actor in self._actors if not (actor.done or actor.crashed)]

    async def play(self, turns: Iterable[Turn]) -> None:
        """Give the turns; then let all that are left come to their ends, one after the other."""
        with pausing(reach):
            for turn in turns:
                if left := self.left:
                    await self._give(turn, left[turn.who % len(left)])
            for actor in self.left:
                while not actor.done:
                    await self._step(actor)

    async def _give(self, turn: Turn, actor: Actor) -> None:
        if not turn.steps:
            actor.crashed = True
            self.trace.append(f"{actor.name} crashes")
        for _ in range(turn.steps):
            if not actor.done:
                await self._step(actor)

    async def _step(self, actor: Actor) -> None:
        self.steps += 1
        assert self.steps < MOST_STEPS, "nobody comes to an end"
        self.trace.append(f"{actor.name} …")
        self.trace[-1] = f"{actor.name}: {await actor.step()}"

    async def end(self) -> None:
        """Whatever still runs is cancelled. What it cleans up then is of no interest any more."""
        ours = {asyncio.current_task()}
        tasks = asyncio.all_tasks() - ours
        actors = asyncio.gather(*(actor.end() for actor in self._actors))
        for task in tasks:
            task.cancel()
        await actors
        if tasks:
            await asyncio.wait(tasks)


class SteppedCluster(Cluster):
    """Nodes in memory. There is a point before each blob that is read, written or unlinked."""

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await reach("about to write")
        await super().write(blob, data)

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        await reach("about to read")
        await super().read_into(blob, buffer)

    async def unlink(self, blobs: Iterable[Blob]) -> set[Blob]:
        left: set[Blob] = set()
        for blob in sorted(blobs, key=lambda blob: (blob.digest, blob.node)):
            await reach("about to unlink")
            left |= await super().unlink([blob])
        return left


class GrantedLocks(Locks):
    """Everybody gets every lock: no rule rests on them (rule R8), and nobody waits for one who is parked."""

    async def take(self, keys: Iterable[str]) -> set[str]:
        return set(keys)

    async def release(self, keys: Iterable[str]) -> None:
        """Nothing was held."""

    async def wait(self, keys: Iterable[str], timeout: float) -> None:
        """Nothing to wait for."""
