"""Moving blobs to where they would be placed now, and keeping chunks as is wanted now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.models.chunk import Chunk
from app.models.tallies import Tallies, Tally
from app.models.tasks import Done, Parameters
from app.types import Blob, NodeId, Redundancy
from app.upkeep.chore import Chore, Levels
from app.upkeep.mover import Mover
from app.upkeep.places import Places
from app.upkeep.restorer import NO_ANSWER, NO_PLACE
from app.upkeep.shares import Shares

_CONVERT, _MOVE = 0, 1


@dataclass(frozen=True, slots=True)
class Move:
    """New blobs of a chunk on these nodes instead of some."""

    drop: tuple[Blob, ...]
    to: tuple[NodeId, ...]
    redundancy: Redundancy


class Rebalance(Chore):
    """Only what must move does. Chunks that are kept otherwise than `redundancy` says are converted first, if
    that is given. Then, where each chunk has nodes where it belongs, those that are elsewhere go there; else
    nodes that hold more than their shares give to others."""

    kind = "rebalance"
    share = 0.25

    def __init__(
        self,
        places: Places,
        mover: Mover,
        tallies: Tallies,
        redundancy: Redundancy | None = None,
    ) -> None:
        super().__init__(places)
        self._mover = mover
        self._tallies = tallies
        self._redundancy = redundancy
        self._shares = Shares({}, {})
        self._size = 1.0

    @property
    def parameters(self) -> Parameters:
        return parameters_of(self._redundancy)

    async def look(self) -> None:
        await super().look()
        tally = await self._tallies.read()
        self._shares = Shares(self._places.sharing, {node: held.bytes for node, held in tally.nodes.items()})
        self._size = _mean(tally)

    def level(self, chunk: Chunk) -> int | None:
        if chunk.state != "live" or not chunk.refs:
            return None
        if self._wanted(chunk) != chunk.redundancy:
            return _CONVERT
        return _MOVE if self._move(chunk) else None

    def adjusted(self, counted: Levels) -> Levels:
        """Of what lies on nodes that have too much, only the surplus goes."""
        if not self._places.by_digest:
            counted[_MOVE] = min(counted[_MOVE], round(self._shares.surplus / self._size))
        return +counted

    def is_over(self, level: int) -> bool:
        return level == _MOVE and not self._places.by_digest and not self._shares.surplus

    async def tend(self, chunks: Sequence[Chunk]) -> Done:
        moves = [(chunk, self._planned(chunk)) for chunk in chunks]
        done = Done()
        for some in await asyncio.gather(*(self._make(chunk, move) for chunk, move in moves)):
            done.add(some)
        return done

    def _wanted(self, chunk: Chunk) -> Redundancy:
        return self._redundancy.for_size(chunk.size) if self._redundancy else chunk.redundancy

    def _planned(self, chunk: Chunk) -> Move | None:
        """The move that is to be made now, and that counts as made for those which are planned next."""
        if self._wanted(chunk) != chunk.redundancy:
            return self._conversion(chunk, self._wanted(chunk))
        move = self._move(chunk)
        if move:
            for blob, node in zip(move.drop, move.to, strict=True):
                self._shares.move(chunk.blob_size, blob.node, node)
        return move

    def _conversion(self, chunk: Chunk, wanted: Redundancy) -> Move:
        grows = not wanted.coded and not chunk.redundancy.coded and len(chunk.blobs) < wanted.total
        kept = chunk.nodes if grows else ()
        nodes = self._places.free(chunk.digest, wanted.total - len(kept), kept)
        return Move(() if grows else chunk.blobs, tuple(nodes), wanted)

    def _move(self, chunk: Chunk) -> Move | None:
        if self._places.by_digest:
            home = self._places.home(chunk.digest, chunk.redundancy.total)
            pairs = list(
                zip(
                    (blob for blob in chunk.blobs if blob.node not in home),
                    (node for node in home if node not in chunk.nodes),
                    strict=False,
                )
            )
        else:
            pairs = self._to_share(chunk)
        if not pairs:
            return None
        return Move(tuple(blob for blob, _ in pairs), tuple(node for _, node in pairs), chunk.redundancy)

    def _to_share(self, chunk: Chunk) -> list[tuple[Blob, NodeId]]:
        ready = [node for node in self._places.sharing if self._places.takes(node)]
        for blob in chunk.blobs:
            target = self._shares.target(blob.node, chunk.blob_size, chunk.nodes, ready)
            if target:
                return [(blob, target)]
        return []

    async def _make(self, chunk: Chunk, move: Move | None) -> Done:
        if move is None:
            return Done()
        kept = len(chunk.blobs) - len(move.drop)
        short = move.redundancy != chunk.redundancy and kept + len(move.to) < move.redundancy.total
        if short or not all(map(self._places.takes, move.to)):
            return Done(waiting=Counter({NO_PLACE: 1}))
        if not await self._mover.recast(chunk, move.drop, move.to, move.redundancy):
            return Done(waiting=Counter({NO_ANSWER: 1}))
        written = len(move.to) * move.redundancy.blob_size(chunk.size)
        return Done(chunks=1, bytes=written, blobs=len(move.to))


def _mean(tally: Tally) -> float:
    """Bytes of a blob, on average."""
    blobs = sum(held.chunks for held in tally.nodes.values())
    return sum(held.bytes for held in tally.nodes.values()) / blobs if blobs else 1.0


def parameters_of(redundancy: Redundancy | None) -> Parameters:
    """What a rebalance is asked for with."""
    return {"redundancy": str(redundancy) if redundancy else None}


def redundancy_of(parameters: Parameters) -> Redundancy | None:
    """The redundancy that one was asked for."""
    text = parameters.get("redundancy")
    return Redundancy.parse(text) if text else None
