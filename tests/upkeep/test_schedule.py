"""What a server does by itself, whoever asks for it, and whatever goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.api.views import stats_view
from app.metrics import exposition
from app.models.buckets import Buckets
from app.models.lifecycle import Filter, Rule
from app.models.objects import Objects, Position
from app.models.tasks import Task
from app.types import Redundancy
from app.upkeep.rebalance import parameters_of
from app.upkeep.schedule import Times
from app.upkeep.tending import Tending
from tests.conftest import OpenStore
from tests.models.builders import put_object
from tests.support import eventually_async
from tests.upkeep.test_tending import NODES, directories, filled, held, is_well
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio

QUICK = Times(mend=0.01, tend=0.01, settled=0.2, after_fault=0.01)


def task_is(store: Upkept, kind: Any, state: str, **figures: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        task = await store.tending().tasks.read(kind)
        return task is not None and task.state == state and figures.items() <= vars_of(task).items()

    return reached


def vars_of(task: Task) -> dict[str, int]:
    return {"chunks": task.done.chunks, "blobs": task.done.blobs, "left": task.left}


async def test_nodes_are_emptied_filled_and_made_up_for_by_themselves(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path, QUICK, redundancy=2, nodes=directories(tmp_path, 4)) as store:
        files = await filled(store, 8)
        assert not await store.tending().tasks.read("drain"), "nothing is to be done"

        on_node = held(store)["node1"]
        await store.drain("node1")
        await eventually_async(task_is(store, "drain", "done", blobs=on_node))
        assert held(store)["node1"] == 0

        lacking = held(store)["node2"]
        await store.database["nodes"].delete_many({"_id": "node2"})
        await eventually_async(task_is(store, "repair", "done", blobs=lacking))
        assert await store.placed() == [{"node3", "node4"}] * 8

        await store.tending().tasks.ask("rebalance", parameters_of(Redundancy(1, 0)))
        await eventually_async(task_is(store, "rebalance", "done", chunks=8))
        assert held(store).total() == 8 + lacking, "what lies on a node that was removed is left alone"
        await is_well(store, files)


async def test_what_lifecycle_rules_let_expire_goes_by_itself(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path, replace(QUICK, expire=0.01)) as store:
        buckets = Buckets(store.database)
        await buckets.create("b", "alice", {})
        rule = Rule("long ago", True, Filter("a"), date=datetime(2020, 1, 1, tzinfo=UTC))
        await buckets.set("b", "lifecycle", {"rules": [asdict(rule)], "minimum": ""})
        await put_object(store.database, "b", "a")
        await put_object(store.database, "b", "b")

        async def is_gone() -> bool:
            return [version.key for version in await Objects(store.database).page("b", "", Position(), 9)] == ["b"]

        await eventually_async(is_gone)
        assert stats_view(await store.parts.statistics.read())["lifecycle"]["versionsKept"] == 0
        assert b'mini_s3_lifecycle_expired_total{what="removed"}' in exposition()


async def test_whatever_happens_it_goes_on_later(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail when an error that nobody had thought of ended the loop."""
    failures: list[str] = []
    real = Tending.walk

    async def walk(self: Tending, chore: Any) -> Any:
        if len(failures) < 3:
            failures.append(chore.kind)
            raise RuntimeError("a fault")
        return await real(self, chore)

    monkeypatch.setattr(Tending, "walk", walk)
    async with upkept(open_store, tmp_path, QUICK) as store:
        files = await filled(store, 3)
        await store.drain("node1")
        await eventually_async(task_is(store, "drain", "done"))
        assert len(failures) == 3
        assert held(store).keys() <= set(NODES[1:])
        await is_well(store, files)


async def test_a_chunk_that_can_not_be_coped_with_holds_up_no_other(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upkept(open_store, tmp_path) as store:
        await filled(store, 9)
        await store.drain("node1")
        tending = store.tending()
        drain = tending.drain()
        drain.together = 1
        real, seen = drain.tend, []

        async def tend(chunks: Any) -> Any:
            seen.append(chunks)
            if len(seen) == 1:
                raise RuntimeError("a fault")
            return await real(chunks)

        monkeypatch.setattr(drain, "tend", tend)
        task = await tending.walk(drain)
        assert task
        assert (task.done.chunks, dict(task.done.waiting)) == (2, {"a fault: see the log": 1})
        assert held(store)["node1"] == 1
