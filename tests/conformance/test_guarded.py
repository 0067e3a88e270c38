"""A node that fails or hangs keeps nobody waiting, and comes back by itself."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.errors import BlobDamaged, BlobMissing, ConfigError, NodeDown, NodeError, NodeFull, NodeHung
from app.nodes.cluster import Cluster
from app.nodes.guarded import TERMS, GuardedNode
from app.types import Blob, Digest, NodeId, Redundancy, new_generation
from tests.conformance.clock import FakeClock, settle
from tests.conformance.nodes import FaultyNode, MemoryNode, read_blob

pytestmark = pytest.mark.anyio

LONGEST_REST = 60.0


class Guarded:
    """A node with faults behind a guard whose time a test tells."""

    def __init__(self, **options: Any) -> None:
        self.memory = MemoryNode("n")
        self.faulty = FaultyNode(self.memory)
        self.faults = self.faulty.faults
        self.clock = FakeClock()
        self.guard = GuardedNode(self.faulty, clock=self.clock, **options)

    @property
    def breaker(self) -> str:
        return self.guard.health.breaker

    async def ends(self, call: Awaitable[Any], seconds: float = 1.0) -> Any:
        """What the call gives, or raises, when so much time passes."""
        task = asyncio.ensure_future(call)
        await self.clock.advance(seconds)
        assert task.done(), "it should have ended by now"
        return task.result()

    async def hang(self) -> None:
        """Open the breaker by a write that hangs. The node goes on hanging."""
        self.faults.answering = asyncio.Event()
        with pytest.raises(NodeHung):
            await self.ends(self.guard.write(blob(), b"x"), TERMS["write"].deadline)
        assert (self.breaker, self.guard.state) == ("open", "down")

    async def half_open(self) -> None:
        await self.hang()
        self.faults.answering = None
        await self.clock.advance(LONGEST_REST)
        assert self.breaker == "half-open"


def blob() -> Blob:
    return Blob(NodeId("n"), Digest(b"d" * 32), new_generation())


CALLS: dict[str, Callable[[GuardedNode], Awaitable[Any]]] = {
    "write": lambda guard: guard.write(blob(), b"x"),
    "read": lambda guard: guard.read(blob(), 1),
    "unlink": lambda guard: guard.unlink([blob()]),
    "list_blobs": lambda guard: guard.list_blobs(0),
    "quarantine": lambda guard: guard.quarantine(blob()),
    "space": lambda guard: guard.space(),
}
RETRIED = {"read", "list_blobs", "space"}


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_ends_at_its_deadline(name: str) -> None:
    house = Guarded()
    house.faults.answering = asyncio.Event()
    task = asyncio.ensure_future(CALLS[name](house.guard))
    await house.clock.advance(TERMS[name].deadline - 0.01)  # type: ignore[index]
    assert not task.done()
    await house.clock.advance(0.02)
    assert isinstance(task.exception(), NodeHung)
    assert house.breaker == ("closed" if name == "space" else "open")
    assert (house.guard.health.timeouts, house.guard.health.last_error) == (1, "node-hung")


@pytest.mark.parametrize("name", CALLS)
async def test_an_open_guard_refuses_at_once_and_does_not_ask(name: str) -> None:
    house = Guarded()
    await house.hang()
    before = house.guard.health
    with pytest.raises(NodeDown):
        await CALLS[name](house.guard)
    assert house.guard.health.calls == before.calls
    assert not house.guard.takes_writes


@pytest.mark.parametrize("name", CALLS)
async def test_only_what_may_be_repeated_is_tried_again(name: str) -> None:
    house = Guarded()
    tries = 0

    async def answer(error: NodeError | None) -> None:
        nonlocal tries
        tries += 1
        raise NodeError(f"failure {tries}")

    house.faulty._answer = answer  # type: ignore[method-assign]
    with pytest.raises(NodeError, match="failure"):
        await house.ends(CALLS[name](house.guard))
    assert tries == (3 if name in RETRIED else 1)
    assert house.guard.health.errors == 1, "a call fails once, however often it was tried"


async def test_a_failure_that_passes_is_not_seen() -> None:
    house, one = Guarded(), blob()
    await house.guard.write(one, b"x")
    house.faults.read = NodeError("for a moment")
    task = asyncio.ensure_future(house.guard.read(one, 1))
    await settle()
    house.faults.read = None
    assert await house.ends(task) == b"x"
    assert house.guard.health.errors == 0


async def test_tries_end_with_the_deadline() -> None:
    """Also where the first ones failed, and the last one hangs."""
    house = Guarded()
    house.faults.read = NodeError("broken")
    task = asyncio.ensure_future(house.guard.read(blob(), 1))
    await settle()
    house.faults.answering = asyncio.Event()
    await house.clock.advance(TERMS["read"].deadline)
    assert isinstance(task.exception(), NodeHung)


@pytest.mark.parametrize("error", [BlobMissing("missing"), BlobDamaged("short"), NodeFull("full")])
async def test_what_a_healthy_node_says_is_neither_tried_again_nor_held_against_it(error: NodeError) -> None:
    house = Guarded()
    house.faults.write = house.faults.read = NodeError("broken")
    for _ in range(2):
        with pytest.raises(NodeError):
            await house.guard.write(blob(), b"x")
    house.faults.write = house.faults.read = error
    call = "write" if isinstance(error, NodeFull) else "read"
    for _ in range(5):
        with pytest.raises(type(error)):
            await CALLS[call](house.guard)
    house.faults.write = NodeError("broken")
    for _ in range(2):
        with pytest.raises(NodeError):
            await house.guard.write(blob(), b"x")
    assert house.breaker == "closed", "two failures, an answer, two failures"


@pytest.mark.parametrize("error", [BlobMissing("missing"), BlobDamaged("short"), NodeFull("full")])
async def test_such_an_answer_closes_a_half_open_guard(error: NodeError) -> None:
    house = Guarded()
    await house.half_open()
    house.faults.write = house.faults.read = error
    with pytest.raises(type(error)):
        await CALLS["write" if isinstance(error, NodeFull) else "read"](house.guard)
    assert house.breaker == "closed"


async def test_a_full_node_takes_no_writes_for_a_while_and_is_read() -> None:
    house, one = Guarded(), blob()
    await house.guard.write(one, b"x")
    house.faults.write = NodeFull("full")
    with pytest.raises(NodeFull):
        await house.guard.write(blob(), b"x")
    assert (house.guard.state, house.guard.takes_writes) == ("full", False)
    assert await house.guard.read(one, 1) == b"x"
    assert (house.guard.state, house.guard.takes_writes) == ("full", False)
    await house.clock.advance(5)
    assert (house.guard.state, house.guard.takes_writes) == ("full", True)
    house.faults.write = None
    await house.guard.write(blob(), b"x")
    assert (house.guard.state, house.guard.takes_writes) == ("active", True)


async def test_exactly_one_call_tries_a_half_open_node() -> None:
    house = Guarded()
    await house.half_open()
    assert house.guard.takes_writes
    house.faults.answering = asyncio.Event()
    calls = [asyncio.ensure_future(house.guard.write(blob(), b"x")) for _ in range(50)]
    await settle()
    assert sum(not call.done() for call in calls) == 1
    assert not house.guard.takes_writes
    house.faults.answering.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert Counter(map(type, outcomes)) == {NodeDown: 49, type(None): 1}
    assert (house.breaker, len(house.memory.blobs)) == ("closed", 1)


async def test_a_trial_that_is_cancelled_lets_another_try() -> None:
    house = Guarded()
    await house.half_open()
    house.faults.answering = asyncio.Event()
    trial = asyncio.ensure_future(house.guard.read(blob(), 1))
    await settle()
    trial.cancel()
    await asyncio.wait([trial])
    house.faults.answering = None
    await house.guard.write(blob(), b"x")
    assert house.breaker == "closed"


async def test_room_is_no_proof_that_a_disk_works() -> None:
    house = Guarded()
    await house.half_open()
    await house.guard.space()
    assert house.breaker == "half-open"
    assert house.guard.takes_writes, "and nobody is kept from trying by those who ask for it"


async def test_a_node_that_goes_on_hanging_is_asked_ever_less_and_by_the_guard_alone() -> None:
    house = Guarded()
    asked = 0
    await house.hang()
    space = house.faulty.space

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await space()

    house.faulty.space = counted  # type: ignore[method-assign]
    await house.clock.advance(600)
    assert 600 / (LONGEST_REST + 5) <= asked <= 600 / (LONGEST_REST / 2) + 4
    assert house.breaker == "open"


async def test_a_disk_that_became_read_only_is_read_and_emptied() -> None:
    house, one = Guarded(), blob()
    await house.guard.write(one, b"x")
    house.faults.write = NodeError("read-only file system")
    for _ in range(3):
        assert house.guard.takes_writes
        with pytest.raises(NodeError):
            await house.guard.write(blob(), b"x")
    assert (house.guard.takes_writes, house.guard.state) == (False, "down")
    assert (house.guard.health.breaker, house.guard.health.writes) == ("closed", "open")
    with pytest.raises(NodeDown):
        await house.guard.write(blob(), b"x")
    assert await house.guard.read(one, 1) == b"x"
    await house.guard.unlink([one])
    assert not house.guard.takes_writes, "neither proves that it can be written"
    house.faults.write = None
    await house.clock.advance(5)
    assert (house.guard.takes_writes, house.guard.health.writes) == (True, "half-open")
    await house.guard.write(blob(), b"x")
    assert house.guard.health.writes == "closed"


async def test_after_a_write_that_hung_reads_go_on_and_one_write_tries() -> None:
    house = Guarded()
    await house.half_open()
    with pytest.raises(BlobMissing):
        await house.guard.read(blob(), 1)
    assert (house.breaker, house.guard.health.writes) == ("closed", "half-open")
    house.faults.answering = asyncio.Event()
    calls = [asyncio.ensure_future(house.guard.write(blob(), b"x")) for _ in range(10)]
    await settle()
    assert sum(not call.done() for call in calls) == 1
    house.faults.answering.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert house.guard.health.writes == "closed"


@pytest.mark.parametrize("name", ["read", "unlink", "list_blobs", "quarantine"])
async def test_failures_are_held_against_a_node_only_if_it_does_not_answer_either(name: str) -> None:
    """Whoever asks for what a bad sector holds, again and again, keeps nobody from the rest."""
    house = Guarded()
    setattr(house.faults, name, NodeError("bad sector"))
    for _ in range(9):
        with pytest.raises(NodeError, match="bad sector"):
            await house.ends(CALLS[name](house.guard))
    assert (house.guard.state, house.guard.takes_writes) == ("active", True)
    house.faults.space = NodeError("no disk")
    for _ in range(3):
        with pytest.raises(NodeError, match="bad sector"):
            await house.ends(CALLS[name](house.guard))
    with pytest.raises(NodeDown):
        await CALLS[name](house.guard)


async def test_a_slow_node_is_not_a_hanging_one() -> None:
    """One stuck call among many that are answered fails alone."""
    house = Guarded()
    house.faults.answering = asyncio.Event()
    stuck = asyncio.ensure_future(house.guard.write(blob(), b"x"))
    await house.clock.advance(TERMS["write"].deadline / 2)
    house.faults.answering = None
    await house.guard.write(blob(), b"x")
    await house.clock.advance(TERMS["write"].deadline)
    assert isinstance(stuck.exception(), NodeHung)
    assert house.breaker == "closed"


async def test_a_flapping_node_rests_longer_each_time() -> None:
    house = Guarded()
    rests = []
    for _ in range(5):
        began = house.clock.now
        await house.half_open()
        rests.append(house.clock.now - house.guard.health.seconds - began - TERMS["write"].deadline)
        await house.guard.write(blob(), b"x")
        assert house.breaker == "closed"
    for number, rest in enumerate(rests):
        assert min(5 * 2**number, 60) / 2 <= rest <= min(5 * 2**number, 60), rests


# Who it is


async def test_a_node_that_is_not_the_right_one_does_not_come_into_use() -> None:
    wrong: list[Exception] = [ConfigError("another disk"), NodeError("no answer"), ValueError("a mistake of ours")]

    async def verify() -> None:
        if wrong:
            raise wrong.pop()

    house = Guarded(verify=verify, answers=False)
    assert house.guard.state == "down"
    while wrong:
        with pytest.raises(NodeDown):
            await house.guard.read(blob(), 1)
        left = len(wrong)
        await house.clock.advance(LONGEST_REST)
        assert len(wrong) < left
    await house.clock.advance(LONGEST_REST)
    assert house.breaker == "half-open"
    await house.guard.write(blob(), b"x")
    assert house.guard.state == "active"


async def test_a_closed_guard_asks_no_more() -> None:
    house = Guarded()
    await house.hang()
    await house.guard.close()
    house.faults.answering = None
    await house.clock.advance(600)
    assert house.breaker == "open"


async def test_closing_does_not_wait_for_calls_that_hang() -> None:
    house = Guarded()

    async def close() -> None:
        await asyncio.Event().wait()

    house.faulty.close = close  # type: ignore[method-assign]
    await house.ends(house.guard.close(), 5)


# Silence

SIGN = 1.0 + 5.0
"""Seconds after which a node that gives no sign of life is left alone, at the most."""


class Silent(Guarded):
    """A node that says who it is only while `there` is set."""

    def __init__(self) -> None:
        super().__init__(verify=self._verify)
        self.there = asyncio.Event()
        self.there.set()
        self.asked = 0

    async def _verify(self) -> None:
        self.asked += 1
        await self.there.wait()

    def go(self) -> None:
        """From now on it answers nothing."""
        self.there.clear()
        self.faults.answering = asyncio.Event()

    def come_back(self) -> None:
        self.there.set()
        self.faults.answering = None


@pytest.mark.parametrize("name", [name for name in CALLS if name != "space"])
async def test_calls_end_soon_where_there_is_no_sign_of_life(name: str) -> None:
    """Long before their deadlines, so that they are done elsewhere."""
    house = Silent()
    house.go()
    with pytest.raises(NodeHung):
        await house.ends(CALLS[name](house.guard), SIGN)
    assert house.breaker == "open"
    with pytest.raises(NodeDown):
        await house.guard.read(blob(), 1)
    house.come_back()
    await house.clock.advance(LONGEST_REST)
    await house.guard.write(blob(), b"x")
    assert house.breaker == "closed"


async def test_a_disk_that_is_busy_for_long_but_says_who_it_is_gets_its_time() -> None:
    house = Silent()
    house.faults.answering = asyncio.Event()
    write = asyncio.ensure_future(house.guard.write(blob(), b"x"))
    await house.clock.advance(TERMS["write"].deadline - 1)
    assert house.asked > 3
    house.faults.answering.set()
    await house.ends(write)
    assert house.breaker == "closed"


async def test_a_node_that_answers_others_is_not_left_alone_for_a_question_that_gets_lost() -> None:
    house = Silent()
    house.go()
    write = asyncio.ensure_future(house.guard.write(blob(), b"x"))
    await house.clock.advance(2)
    house.faults.answering, hanging = None, house.faults.answering
    await house.guard.write(blob(), b"y")
    await house.clock.advance(4)
    assert house.breaker == "closed"
    assert not write.done()
    hanging.set()
    await house.ends(write)


async def test_reads_that_are_called_off_tell_of_a_node_that_hangs() -> None:
    """As they are when another copy is there first. Seen to be asked in vain for ever when only deadlines told."""
    house = Silent()
    house.go()
    for _ in range(4):
        read = asyncio.ensure_future(house.guard.read(blob(), 1))
        await house.clock.advance(0.2)
        read.cancel()
        assert not house.guard.is_prompt
    await house.clock.advance(SIGN)
    assert house.breaker == "open"
    house.come_back()
    await house.clock.advance(LONGEST_REST)
    assert (house.breaker, house.guard.is_prompt) == ("half-open", True)


async def test_nobody_is_asked_for_a_sign_of_life_who_owes_none() -> None:
    house = Silent()
    for _ in range(3):
        await house.guard.write(blob(), b"x")
        await house.clock.advance(60)
    assert house.asked == 0
    read = asyncio.ensure_future(house.guard.read(blob(), 1))
    read.cancel()
    await house.clock.advance(60)
    assert house.asked <= 1


# Memory


async def test_a_write_that_is_left_may_go_on_reading() -> None:
    """In a thread that nobody can call off; its error later is nobody's either."""
    going, seen = threading.Event(), []

    class Threaded(MemoryNode):
        async def write(self, blob: Blob, data: bytes | memoryview) -> None:
            def late() -> None:
                going.wait()
                seen.append(bytes(data))
                raise NodeError("too late")

            await asyncio.get_running_loop().run_in_executor(threads, late)

    clock = FakeClock()
    with ThreadPoolExecutor(1) as threads:
        guard = GuardedNode(Threaded("n"), clock=clock)
        task = asyncio.ensure_future(guard.write(blob(), b"x"))
        await clock.advance(TERMS["write"].deadline)
        assert isinstance(task.exception(), NodeHung)
        going.set()
    assert seen == [b"x"]


async def test_near_nodes_are_read_first_and_far_ones_tried_again_later() -> None:
    """A read that nobody waited for counts as well. Seen to fail when copies were read in turn."""
    clock = FakeClock()
    near, far = (FaultyNode(MemoryNode(name)) for name in ("near", "far"))
    guards = {node.id: GuardedNode(node, clock=clock) for node in (near, far)}
    cluster = Cluster(guards.values())
    blobs = [Blob(node, Digest(b"d" * 32), new_generation()) for node in guards]
    for blob in blobs:
        await cluster.write(blob, b"x")

    def first() -> set[str]:
        return {cluster.by_readiness(blobs, Redundancy(1, 1))[0].node for _ in range(4)}

    assert first() == {"near", "far"}
    answering = far.faults.answering = asyncio.Event()
    reading = asyncio.ensure_future(read_blob(cluster, blobs[1], 1))
    await clock.advance(0.1)
    reading.cancel()
    await asyncio.wait([reading])
    answering.set()
    await read_blob(cluster, blobs[0], 1)
    await read_blob(cluster, blobs[1], 1)
    assert first() == {"near"}
    await clock.advance(61)
    assert first() == {"near", "far"}
