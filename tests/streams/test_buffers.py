"""Memory for uploads: bounded, fair, and always moving. Memory for downloads: never lent twice at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.streams import buffers
from app.streams.buffers import BufferPool, Loans, Share
from app.types import CHUNK_SIZE
from tests.streams.tools import turns

pytestmark = pytest.mark.anyio


async def test_no_more_is_handed_out_than_there_is() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=6)
    share = pool.open_share()
    buffers = [share.take_nowait() for _ in range(8)]
    assert [buffer is not None for buffer in buffers] == [True] * 6 + [False] * 2
    assert (pool.in_use, share.held) == (6, 6)
    share.give_back([buffer for buffer in buffers if buffer])
    assert (pool.in_use, share.held) == (0, 0)


async def test_a_share_shrinks_as_others_come() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=8)
    first = pool.open_share()
    held = [await first.take() for _ in range(8)]
    second = pool.open_share()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.give_back([held.pop()])
    assert len(await waiting) == CHUNK_SIZE
    first.give_back([held.pop()])
    assert first.take_nowait() is None
    assert second.take_nowait() is not None


async def test_whoever_holds_least_is_served_first() -> None:
    pool = BufferPool(6 * CHUNK_SIZE, most=6)
    rich, poor, hog = pool.open_share(), pool.open_share(), pool.open_share()
    hogged = [await hog.take() for _ in range(2)]
    kept = [await rich.take(), await poor.take(), await poor.take()]
    kept_more = hog.take_nowait() or await rich.take()
    late = pool.open_share()
    order: list[str] = []

    async def wait(share: Share, name: str) -> None:
        await share.take()
        order.append(name)

    tasks = [asyncio.create_task(wait(rich, "rich")), asyncio.create_task(wait(late, "late"))]
    await asyncio.sleep(0)
    hog.give_back([hogged.pop()])
    await asyncio.wait([tasks[1]])
    assert order == ["late"]
    assert kept_more is not None
    assert len(kept) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_waiter_that_is_cancelled_takes_nothing_along() -> None:
    pool = BufferPool(4 * CHUNK_SIZE, most=4)
    first, second = pool.open_share(), pool.open_share()
    held = [await first.take(), await first.take()]
    held += [await second.take(), await second.take()]
    for served_first in (False, True):
        waiting = asyncio.create_task(first.take())
        await asyncio.sleep(0)
        if served_first:
            first.give_back([held.pop(0)])
            waiting.cancel()
        else:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert pool.in_use == 3


async def test_many_uploads_on_little_memory_all_end() -> None:
    pool = BufferPool(8 * CHUNK_SIZE, most=6)
    rng = random.Random(1)
    most = 0

    async def upload() -> None:
        nonlocal most
        share = pool.open_share()
        for _ in range(10):
            buffers = [await share.take()]
            while len(buffers) < 4 and (more := share.take_nowait()):
                buffers.append(more)
            most = max(most, pool.in_use)
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            share.give_back(buffers)
        share.close()

    await asyncio.gather(*(upload() for _ in range(200)))
    assert most == 8
    assert pool.in_use == 0


async def test_a_newcomer_is_served_before_those_who_hold_more() -> None:
    """Forty-nine uploads that want ever more do not keep the fiftieth waiting: the next buffer is its own."""
    pool = BufferPool(100 * CHUNK_SIZE, most=48)
    shares = [pool.open_share() for _ in range(49)]
    held = {share: [await share.take(), await share.take()] for share in shares}
    assert pool.in_use == 98
    hungry = [asyncio.create_task(share.take()) for share in shares]
    await turns(3)
    kept = [await pool.open_share().take(), await pool.open_share().take()]
    newcomer = asyncio.create_task(pool.open_share().take())
    await turns(3)
    assert not newcomer.done()
    shares[7].give_back([held[shares[7]].pop()])
    assert len(await newcomer) == CHUNK_SIZE
    assert not any(task.done() for task in hungry)
    assert pool.in_use == 100
    assert len(kept) == 2
    for task in hungry:
        task.cancel()
    await asyncio.gather(*hungry, return_exceptions=True)


async def test_who_holds_more_than_the_share_owes_it_while_others_wait() -> None:
    pool = BufferPool(4 * CHUNK_SIZE, most=4)
    rich, poor = pool.open_share(), pool.open_share()
    held = [await rich.take(), await rich.take()]
    kept = [await poor.take(), await poor.take()]
    late = pool.open_share()
    assert not rich.owes
    waiting = asyncio.create_task(late.take())
    await turns(1)
    assert (rich.owes, poor.owes, late.owes) == (True, True, False)
    rich.give_back([held.pop()])
    await waiting
    assert (rich.owes, poor.owes) == (False, False)
    waiting = asyncio.create_task(late.take())
    await turns(1)
    assert (rich.owes, poor.owes) == (False, True)
    waiting.cancel()
    await turns(1)
    assert not poor.owes
    assert len(kept) == 2


async def test_memory_given_back_is_not_used_again_while_anybody_looks_at_it() -> None:
    """As the thread of a write that hangs does."""
    pool = BufferPool(2 * CHUNK_SIZE, most=2)
    share = pool.open_share()
    buffer = await share.take()
    buffer[:5] = b"first"
    looked_at = buffer[:5]
    share.give_back([buffer])
    del buffer
    others = [await share.take() for _ in range(2)]
    for other in others:
        other[:5] = b"other"
    assert bytes(looked_at) == b"first"
    assert pool.in_use == 2, "and nobody has less because of it"


async def test_memory_given_back_is_used_again(made: list[int]) -> None:
    pool = BufferPool(4 * CHUNK_SIZE, most=4)
    share = pool.open_share()
    for _ in range(10):
        buffers = [await share.take() for _ in range(4)]
        share.give_back(buffers)
        del buffers
    assert len(made) == 4


# Loans


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all memory that is made."""
    sizes: list[int] = []

    def make(descriptor: int, size: int) -> mmap:
        sizes.append(size)
        return mmap(descriptor, size)

    monkeypatch.setattr(buffers, "mmap", make)
    return sizes


def test_memory_is_lent_again_when_nobody_looks_at_it(made: list[int]) -> None:
    loans = Loans(most=2)
    for _ in range(5):
        piece = loans.lend(CHUNK_SIZE)
        piece[:3] = b"abc"
        del piece
    assert len(made) == 1
    several = [loans.lend(CHUNK_SIZE) for _ in range(3)]
    assert len(made) == 3
    del several
    several = [loans.lend(CHUNK_SIZE - 1) for _ in range(3)]
    assert len(made) == 4, "two are kept at the most"
    assert [len(piece) for piece in several] == [CHUNK_SIZE - 1] * 3


@pytest.mark.parametrize("look", [lambda piece: piece[5:9], lambda piece: memoryview(piece)[5:9], lambda piece: piece])
def test_memory_is_not_lent_again_while_any_view_of_it_is_left(
    made: list[int], look: Callable[[memoryview], memoryview]
) -> None:
    """Seen to fail when the memory was taken back with the piece that was lent, whatever looked at it."""
    loans = Loans(most=8)
    piece = loans.lend(CHUNK_SIZE)
    piece[:] = b"a" * CHUNK_SIZE
    kept = look(piece)
    del piece
    for _ in range(3):
        loans.lend(CHUNK_SIZE)[:] = b"b" * CHUNK_SIZE
    assert bytes(kept) == b"a" * len(kept)
    assert len(made) == 2
    del kept
    both = [loans.lend(CHUNK_SIZE) for _ in range(2)]
    assert len(made) == 2
    assert len(both) == 2


def test_small_pieces_are_not_kept(made: list[int]) -> None:
    loans = Loans(most=8)
    assert [len(loans.lend(size)) for size in (0, 1, 64 << 10)] == [0, 1, 64 << 10]
    assert made == []


# Against a model


@dataclass(eq=False)
class Upload:
    share: Share
    held: list[memoryview] = field(default_factory=list)
    waiting: asyncio.Task[memoryview] | None = None


class PoolMachine(RuleBasedStateMachine):
    """Uploads come, take, wait, are cancelled, give back and go, in any order.

    The model of who is served: as long as there is memory, the one that waits and holds least, if it
    holds less than its share. Seen to fail when a cancelled waiter keeps what it was given, when the
    longest wait goes first, and when a closed share does not let others have more.
    """

    CAPACITY, MOST = 7, 4

    def __init__(self) -> None:
        super().__init__()
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(buffers, "CHUNK_SIZE", 8)
        self.loop = asyncio.new_event_loop()
        self.pool = BufferPool(self.CAPACITY * 8 + 7, self.MOST)
        self.uploads: list[Upload] = []
        self.queue: list[Upload] = []
        """The model: who waits, in the order of arrival."""
        self.holds: dict[Upload, int] = {}

    def teardown(self) -> None:
        tasks = [upload.waiting for upload in self.uploads if upload.waiting]
        for task in tasks:
            task.cancel()
        self.run(asyncio.wait(tasks) if tasks else turns(1))
        self.loop.close()
        self.patched.undo()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    # The model

    def fair(self) -> int:
        return min(self.MOST, max(1, self.CAPACITY // max(1, len(self.uploads))))

    def may_take(self, upload: Upload) -> bool:
        return sum(self.holds.values()) < self.CAPACITY and self.holds[upload] < self.fair()

    def serve(self) -> None:
        while able := [upload for upload in self.queue if self.may_take(upload)]:
            served = min(able, key=lambda upload: self.holds[upload])
            self.queue.remove(served)
            self.holds[served] += 1

    # What uploads do

    def pick(self, data: st.DataObject, *, waiting: bool) -> Upload | None:
        able = [upload for upload in self.uploads if (upload.waiting is not None) == waiting]
        return data.draw(st.sampled_from(able)) if able else None

    @precondition(lambda self: len(self.uploads) < 10)
    @rule()
    def come(self) -> None:
        upload = Upload(self.pool.open_share())
        self.uploads.append(upload)
        self.holds[upload] = 0

    @rule(data=st.data())
    def take_at_once(self, data: st.DataObject) -> None:
        if upload := self.pick(data, waiting=False):
            buffer = upload.share.take_nowait()
            assert (buffer is not None) == self.may_take(upload)
            if buffer is not None:
                upload.held.append(buffer)
                self.holds[upload] += 1

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        if upload := self.pick(data, waiting=False):
            upload.waiting = self.loop.create_task(upload.share.take())
            self.queue.append(upload)
            self.serve()

    def give_back_some(self, data: st.DataObject, upload: Upload) -> None:
        count = data.draw(st.integers(1, len(upload.held)))
        given = [upload.held.pop() for _ in range(count)]
        upload.share.give_back(given)
        self.holds[upload] -= count
        self.serve()

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if holders := [upload for upload in self.uploads if upload.held]:
            self.give_back_some(data, data.draw(st.sampled_from(holders)))

    @rule(data=st.data(), first_give_back=st.booleans())
    def cancel(self, data: st.DataObject, first_give_back: bool) -> None:
        """Also in the moment in which a buffer was handed out, but not yet received."""
        upload = self.pick(data, waiting=True)
        if upload is None or upload.waiting is None:
            return
        if first_give_back and (holders := [other for other in self.uploads if other.held]):
            self.give_back_some(data, data.draw(st.sampled_from(holders)))
        upload.waiting.cancel()
        self.run(asyncio.wait([upload.waiting]))
        assert upload.waiting.cancelled()
        upload.waiting = None
        if upload in self.queue:
            self.queue.remove(upload)
        else:
            self.holds[upload] -= 1
            self.serve()

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if upload := self.pick(data, waiting=False):
            upload.share.give_back(upload.held)
            del self.holds[upload]
            self.uploads.remove(upload)
            self.serve()
            upload.share.close()
            self.serve()

    @invariant()
    def agrees(self) -> None:
        self.run(turns(3))
        for upload in self.uploads:
            if upload.waiting and upload.waiting.done():
                upload.held.append(upload.waiting.result())
                upload.waiting = None
        assert {id(upload) for upload in self.uploads if upload.waiting} == set(map(id, self.queue))
        assert [len(upload.held) for upload in self.uploads] == [self.holds[upload] for upload in self.uploads]
        assert [upload.share.held for upload in self.uploads] == [self.holds[upload] for upload in self.uploads]
        handed_out = [id(buffer) for upload in self.uploads for buffer in upload.held]
        assert len(set(handed_out)) == len(handed_out) == self.pool.in_use <= self.CAPACITY


TestPoolAgainstModel = PoolMachine.TestCase
TestPoolAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
