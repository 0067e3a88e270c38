"""The tasks that go through all chunks: how far each is, so that whoever takes it up goes on there.

    upkeep: {_id: kind, holder, until, asked, parameters, state, levels, position, total, done, bytes, findings,
             blobs, waiting: {reason: chunks}, seconds, startedAt, at}

`holder` and `until` are the task's lease (see `leases`). A round passes all chunks, in the order of
their digests, once for each of its `levels`; those up to `position` have been seen to on the first of
the levels that are left. `startedAt`, and `at`, when that position was noted, are the server's time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from app.models.database import Database, Document

Kind = Literal["repair", "scrub", "drain", "rebalance"]
State = Literal["running", "waiting", "done"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Parameters = dict[str, Any]
"""What a round is about. One that is broken off is taken up by whoever comes with the same ones."""


@dataclass(slots=True)
class Done:
    """What was done with some chunks: `chunks` are those with which nothing is left to do, `bytes` what was
    read or written for it; `findings` counts bad and missing blobs, `blobs` new ones; `waiting` chunks
    with which there is something left to do, by the reason."""

    chunks: int = 0
    bytes: int = 0
    findings: int = 0
    blobs: int = 0
    waiting: Counter[str] = field(default_factory=Counter)

    def add(self, more: Done) -> None:
        self.chunks += more.chunks
        self.bytes += more.bytes
        self.findings += more.findings
        self.blobs += more.blobs
        self.waiting += more.waiting


@dataclass(slots=True)
class Task:
    """A round of a kind. `total` chunks were found to need something, `seconds` were spent; `held` says
    whether somebody is at it."""

    kind: Kind
    parameters: Parameters = field(default_factory=dict)
    state: State = "running"
    levels: list[int] = field(default_factory=list)
    position: bytes = b""
    total: int = 0
    done: Done = field(default_factory=Done)
    seconds: float = 0.0
    started_at: datetime | None = None
    at: datetime | None = None
    held: bool = False

    @property
    def left(self) -> int:
        return max(0, self.total - self.done.chunks) if self.state != "done" else 0

    @property
    def eta(self) -> float | None:
        """Seconds that it will take at the pace so far, where that can be told."""
        return self.seconds * self.left / self.done.chunks if self.done.chunks else None

    @classmethod
    def read(cls, document: Document) -> Task:
        return cls(
            document["_id"],
            document["parameters"],
            document["state"],
            document["levels"],
            document["position"],
            document["total"],
            Done(
                document["done"],
                document["bytes"],
                document["findings"],
                document["blobs"],
                Counter(document["waiting"]),
            ),
            document["seconds"],
            document["startedAt"],
            document["at"],
            document.get("held", False),
        )

    def write(self) -> Document:
        return {
            "parameters": self.parameters,
            "state": self.state,
            "levels": self.levels,
            "position": self.position,
            "total": self.total,
            "done": self.done.chunks,
            "bytes": self.done.bytes,
            "findings": self.done.findings,
            "blobs": self.done.blobs,
            "waiting": dict(self.done.waiting),
            "seconds": self.seconds,
        }


class Tasks:
    """All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._upkeep = database["upkeep"]

    async def read(self, kind: Kind) -> Task | None:
        """The task as it was last noted, or None if there was none yet."""
        return next((task for task in await self._all([kind])), None)

    async def all(self) -> list[Task]:
        """Of each kind the last one."""
        return await self._all(KINDS)

    async def _all(self, kinds: Any) -> list[Task]:
        known = {"$match": {"_id": {"$in": list(kinds)}, "startedAt": {"$ne": None}}}
        held = {"$and": ["$holder", {"$gt": ["$until", "$$NOW"]}]}
        documents = await self._upkeep.aggregate([known, {"$addFields": {"held": held}}, {"$sort": {"_id": 1}}])
        return [Task.read(document) for document in documents]

    async def note(self, task: Task) -> None:
        """Keep how far the task is. Its times become the server's."""
        fields = {name: {"$literal": value} for name, value in task.write().items()}
        stays = {"$eq": ["$position", {"$literal": task.position}]}
        times = (
            {"startedAt": {"$literal": task.started_at}, "at": {"$cond": [stays, "$at", "$$NOW"]}}
            if task.started_at
            else {"startedAt": "$$NOW", "at": "$$NOW"}
        )
        change = [{"$set": {**fields, **times}}]
        await self._upkeep.update_one({"_id": task.kind}, change, upsert=True)
        kept = await self._upkeep.find_one({"_id": task.kind}, fields={"startedAt": 1, "at": 1})
        if kept:
            task.started_at, task.at = kept["startedAt"], kept["at"]

    async def ask(self, kind: Kind, parameters: Parameters) -> None:
        """Let a server do a round, with these parameters."""
        await self._upkeep.update_one({"_id": kind}, {"$set": {"asked": parameters}}, upsert=True)

    async def asked(self, kind: Kind) -> Parameters | None:
        """The parameters of the round that was asked for, if one was."""
        document = await self._upkeep.find_one({"_id": kind}, fields={"asked": 1})
        return document.get("asked") if document else None

    async def answered(self, kind: Kind, parameters: Parameters) -> None:
        """The round that was asked for was done, unless another was asked for since."""
        await self._upkeep.update_one({"_id": kind, "asked": parameters}, {"$unset": {"asked": ""}})
