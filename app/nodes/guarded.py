"""A guard around a node, so that one which fails or hangs keeps nobody waiting.

Every call has a deadline; reads, lists and space are tried again after a failure; and two breakers keep
calls from a node that does not work. One is for all calls: it opens when a call hangs, or when several
failed, none was answered for a while, or a blob is missing, and the node, asked by the guard, does not answer
or is another one. Then the calls under way end too. While it is open the guard asks again after each rest, so
that no caller waits for that. Failures alone do not open it: they are quick, and one bad sector must not keep
people from all that is on a disk. Nor does silence alone: a disk may be busy for long, and says who it is all the
same. The other is for writes alone, and opens when some fail in a row: a disk that became read-only is still
read, and emptied.

A thread, or a disk, that hangs can't be called off. At its deadline a call is cancelled and left to
itself, and it may go on: read the data of its write, or write into the buffer of its read, at any
later time. Nothing comes of it:

- Memory. Bodies on their way in and out are loans (`app.streams.buffers`): while a call that was left
  looks at one, it is used for nothing else. So a late write writes the bytes of its own chunk.
- Late writes. The caller got NodeError, so that the blob never becomes live (rule R6); whoever tries
  again names a fresh generation (rules R1, R3). What appears late under the old one is named by
  nobody, never will be again, and is the sweeper's.
- Late unlinks and quarantines hit a generation that was given up before (rule R2), and never comes
  back (rule R3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import uniform
from typing import Any, TypeVar

from app.errors import BlobDamaged, BlobMissing, ConfigError, NodeDown, NodeError, NodeFull, NodeHung
from app.logs import get_logger
from app.models.nodes import Use
from app.nodes.base import Node, Space, Stored
from app.nodes.breaker import Breaker, Tickets
from app.nodes.deadlines import Clock, Deadlines, Timer
from app.nodes.health import Call, Health, NodeState, Record, show
from app.nodes.silence import Silence
from app.types import Blob

log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds that a call may take in all: waiting for the node's threads, and further tries, included."""

    deadline: float
    tries: int = 1


TERMS: dict[Call, Terms] = {
    # 1 MiB takes a second on a very slow disk; a queue of them, or a disk that stalls, takes some more.
    "write": Terms(30),
    "read": Terms(20, tries=3),
    # A thousand names, on a disk that seeks for each.
    "unlink": Terms(120),
    # Some 4,000 names for each million of blobs, and the size of each.
    "list_blobs": Terms(120, tries=3),
    "quarantine": Terms(30),
    # Somebody waits to hear how the node is.
    "space": Terms(2, tries=3),
}

_SOUNDING = 5.0
"""Seconds within which a node that was left alone must say who it is and how much room it has."""

_PROMPT = 0.2
"""Seconds without an answer to any call, after which other copies are read first."""

_PAUSE = 0.05
"""Seconds, at the most, before the second try; twice as many before the third."""

_FULL = 5.0
"""Seconds for which a node that was full is passed over before a write may try it again."""

_RESERVE, _LEAST_RESERVE = 1 << 30, 16 << 20
"""Bytes that are to stay free where there is much room, and where there is less."""

_CLOSING = 5.0
"""Seconds that calls under way get when the node is closed."""

_DOUBT = 3
"""Failures in a row of calls that do not write, after which the node is asked how it is."""


def reserve(total: int) -> int:
    """Bytes below which a node of that size counts as full: a hundredth of it, within the bounds above. A
    very small disk keeps most of its room: a sixteenth of it is enough."""
    return min(max(min(total // 100, _RESERVE), _LEAST_RESERVE), total // 16)


async def _nobody_asks() -> None:
    """The node is taken for the one that it should be."""


class GuardedNode(Node):
    """All calls may raise NodeHung, where there was no answer in time, and NodeDown, at once, while the
    breaker is open."""

    def __init__(
        self,
        behind: Node,
        *,
        verify: Callable[[], Coroutine[Any, Any, None]] = _nobody_asks,
        answers: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """`verify` raises NodeError or ConfigError where the node is not the one that it should be; that
        is asked before a node that was left alone comes into use again, and before the first use of
        one that does not answer yet."""
        self.id = behind.id
        self._behind = behind
        self._verify = verify
        self._clock = clock or Clock()
        self._deadlines, self._calls = Deadlines(self._clock), Deadlines(self._clock)
        self._breaker, self._writing = Breaker(self._clock.time()), Breaker(self._clock.time())
        self._failures = 0
        self._silence = Silence(self._clock, self._ask_for_a_sign)
        self._record = Record(self.id)
        self._full = False
        self._full_until = 0.0
        self._has_reserve = True
        self._use: Use = "active"
        self._waking: Timer | None = None
        self._letting_write: Timer | None = None
        self._sounding: asyncio.Task[None] | None = None
        if not answers:
            self._breaker.open(self._clock.time())
            self._wake_later()
        self._show()

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await self._guarded("write", lambda: self._behind.write(blob, data))
        if self._full:
            self._full = False
            self._show()

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        await self._guarded("read", lambda: self._behind.read_into(blob, buffer))

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        await self._guarded("unlink", lambda: self._behind.unlink(blobs))

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        """Never of a node that took the place of this one: whatever is there would seem to be named by nobody."""
        return await self._guarded("list_blobs", lambda: self._listed(first_byte))

    async def _listed(self, first_byte: int) -> list[Stored]:
        try:
            await self._verify()
        except ConfigError as error:
            raise NodeError(error.message) from error
        return await self._behind.list_blobs(first_byte)

    async def quarantine(self, blob: Blob) -> None:
        await self._guarded("quarantine", lambda: self._behind.quarantine(blob))

    async def space(self) -> Space:
        """Remembers whether there is more than the reserve: without, the node counts as full."""
        space = await self._guarded("space", self._behind.space)
        self._has_reserve = space.free >= reserve(space.total)
        self._show()
        return space

    async def close(self) -> None:
        """Calls that hang are left to themselves."""
        for timer in (self._waking, self._letting_write):
            if timer:
                timer.cancel()
        self._silence.close()
        if self._sounding:
            self._sounding.cancel()
            await asyncio.wait([self._sounding])
        try:
            await self._deadlines.within(_CLOSING, self._behind.close())
        except NodeHung:
            log.warning("node left as it is: its calls hang", node=self.id)

    # How it is

    @property
    def state(self) -> NodeState:
        if "open" in (self._breaker.state, self._writing.state):
            return "down"
        return "full" if self._full or not self._has_reserve else self._use

    def use_as(self, use: Use) -> None:
        """What people want of it. Calls go on whatever it is, writes too, which were placed before."""
        if use != self._use:
            self._use = use
            self._show()

    @property
    def takes_writes(self) -> bool:
        """Whether a new blob may be placed here: it is wanted, the node works, and has room for all that is known."""
        has_room = self._has_reserve and (not self._full or self._clock.time() >= self._full_until)
        return self._use == "active" and self._breaker.admits and self._writing.admits and has_room

    @property
    def is_prompt(self) -> bool:
        """Whether a blob is likely to be read here at once: it works, and keeps nobody waiting just now."""
        return self.state != "down" and self._silence.seconds < _PROMPT

    @property
    def health(self) -> Health:
        return self._record.health(self._breaker, self._writing, self._clock.time())

    def _show(self) -> None:
        show(self.id, self.state, self._breaker.state, self._writing.state)

    # Calls

    async def _guarded(self, kind: Call, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        tickets = self._admit(kind)
        began = self._clock.time()
        self._silence.owed()
        try:
            answer = await self._tried(kind, call)
        except (BlobMissing, BlobDamaged) as error:
            self._answered(kind, tickets, began)
            if isinstance(error, BlobMissing):
                self._ask_for_a_sign()  # Is it the right disk?
            raise
        except NodeError as error:
            self._failed(kind, tickets, began, error)
            raise
        except BaseException:
            self._silence.called_off()
            tickets.withdraw()
            raise
        self._answered(kind, tickets, began)
        return answer

    def _admit(self, kind: Call) -> Tickets:
        """Leave to ask the node. Room is told half-open too, as it was to the guard: it proves nothing."""
        breakers = [self._breaker, self._writing] if kind == "write" else [self._breaker]
        if kind == "space" and self._breaker.state == "half-open":
            breakers = []
        tickets = Tickets.take(breakers)
        if tickets is None:
            raise NodeDown(f"{self.id} is left alone for now, after {self._record.last_error or 'no answer'}")
        return tickets

    async def _tried(self, kind: Call, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Try until it works, as often and as long as the terms allow. A try ends before the next one
        begins, so that no two of them write into one buffer."""
        terms = TERMS[kind]
        ends = self._clock.time() + terms.deadline
        for pause in (_PAUSE * 2**number for number in range(terms.tries - 1)):
            try:
                return await self._calls.within(ends - self._clock.time(), call())
            except (BlobMissing, BlobDamaged, NodeFull, NodeHung):
                raise
            except NodeError as error:
                rest = min(uniform(0, pause), ends - self._clock.time())  # noqa: S311 - full jitter, no secret
                log.debug("node tried again", node=self.id, call=kind, error=error.message)
                await self._deadlines.sleep(rest)
                if self._breaker.state == "open":
                    raise
        return await self._calls.within(ends - self._clock.time(), call())

    def _answered(self, kind: Call, tickets: Tickets, began: float) -> None:
        now = self._clock.time()
        self._silence.answered()
        self._record.answered(kind, began, now)
        if kind == "space":
            tickets.withdraw()
            return
        self._failures = 0
        if tickets.succeed(now):
            log.info("node works again", node=self.id, call=kind)
            self._show()

    def _failed(self, kind: Call, tickets: Tickets, began: float, error: NodeError) -> None:
        now = self._clock.time()
        self._silence.answered()
        # One that answered others meanwhile is slow; and how long space takes says little of a disk.
        hung = isinstance(error, NodeHung) and kind != "space" and self._record.last_answer <= began
        self._record.failed(kind, began, now, error)
        log.warning("node call failed", node=self.id, call=kind, error=error.message)
        if isinstance(error, NodeFull):
            self._full, self._full_until = True, now + _FULL
            tickets.succeed(now)
        elif hung:
            self._left_alone(tickets.fail(now, hung=True))
        elif kind == "write":
            tickets.withdraw(self._breaker)
            self._left_alone(tickets.fail(now, hung=False))
        else:
            tickets.withdraw()
            self._doubt()
        self._show()

    def _doubt(self) -> None:
        """Failures may be the fault of what was asked for: the node itself is asked before it is left alone."""
        self._failures += 1
        if self._failures >= _DOUBT and self._breaker.state != "open":
            self._failures = 0
            self._sound_soon()

    def _left_alone(self, opened: Sequence[Breaker]) -> None:
        for breaker in opened:
            writes = breaker is self._writing
            log.warning("node left alone", node=self.id, writes_only=writes, seconds=round(breaker.rest, 1))
            if writes:
                self._letting_write = self._clock.call_later(breaker.rest, self._let_write)
            else:
                self._wake_later()
                self._silence.end()
                self._calls.give_up("the node gives no sign of life")

    def _let_write(self) -> None:
        self._writing.answered(self._clock.time())
        self._show()

    # While it is left alone

    def _wake_later(self) -> None:
        if self._waking:
            self._waking.cancel()
        self._waking = self._clock.call_later(self._breaker.rest, self._sound_soon)

    @property
    def _is_asked(self) -> bool:
        return self._sounding is not None and not self._sounding.done()

    def _ask_for_a_sign(self) -> None:
        if self._breaker.state != "open":
            self._sound_soon(room=False)

    def _sound_soon(self, *, room: bool = True) -> None:
        if not self._is_asked:
            self._sounding = asyncio.create_task(self._sound(room=room))

    async def _sound(self, *, room: bool) -> None:
        """Ask the node who it is and how much room it has: who does not answer well is left alone.

        Not for its room where a sign of life is enough: threads that are all busy would keep that back.
        """
        asked = self._clock.time()
        try:
            await self._deadlines.within(_SOUNDING, self._verify())
            if room:
                await self._deadlines.within(_SOUNDING, self._behind.space())
        except Exception as error:  # noqa: BLE001 - whatever it is, the node is asked again
            log.warning("node does not answer well", node=self.id, error=str(error))
            if room or isinstance(error, ConfigError) or self._record.last_answer <= asked:
                self._found_wanting()
        else:
            self._silence.end()
            if self._breaker.state == "open":
                self._breaker.answered(self._clock.time())
                log.info("node answers", node=self.id)
        self._show()

    def _found_wanting(self) -> None:
        if self._breaker.state == "open":
            self._breaker.rest_again()
            self._wake_later()
        else:
            self._breaker.open(self._clock.time())
            self._left_alone([self._breaker])
