"""No order of steps, and no crash, loses a committed file or leaks a blob; without any one rule some do.

The worlds that actors can reach are finitely many, and all of them are visited, breadth first. So
the way to a wrong one is a shortest one.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import pytest

from tests.model.chunk_life import Actor, Rules, Shared, World, canonical, steps

ALL = Rules()

UNDAMAGED = (
    "2 writer, 2 collector, 1 sweeper",
    "2 writer, 1 collector, 1 mover",
    "1 writer, 1 collector, 1 mover, 1 sweeper",
    "1 writer, 1 collector, 2 mover",
    "3 writer, 1 collector",
)

DAMAGED = (
    "2 writer, 1 collector, 1 checker, 1 disk",
    "2 writer, 1 mover, 1 checker, 1 disk",
    "2 writer, 2 checker, 1 disk, 1 sweeper",
    "1 writer, 1 collector, 1 mover, 1 checker, 1 disk",
)

LOSSES = {
    "name_before_write": ("2 writer, 1 sweeper", "a blob of a committed file is gone"),
    "name_before_copy": ("1 writer, 1 mover, 1 sweeper", "a blob of a committed file is gone"),
    "copy_asserted": ("1 writer, 1 mover, 1 collector", "a blob of a committed file is gone"),
    "unname_before_unlink": ("1 writer, 1 mover", "a blob of a committed file is gone"),
    "unname_before_drop": ("1 writer, 1 mover, 1 collector", "a blob of a committed file is gone"),
    "look_after_listing": ("1 writer, 1 sweeper", "a blob of a committed file is gone"),
    "remove_by_generation": ("2 writer, 1 collector", "a committed file has no document"),
    "fresh_generations": ("2 writer, 1 collector", "a blob of a committed file is gone"),
    "commit_asserts_live": ("1 writer, 1 collector", "the chunk of a committed file is dead"),
    "claim_in_one_step": ("1 writer, 1 collector", "the chunk of a committed file is dead"),
    "claim_spares_healing": ("2 writer, 1 collector, 1 checker, 1 disk", "the chunk of a committed file is dead"),
    "take_over_as_seen": ("2 writer", "the chunk of a committed file is pending"),
    "take_over_keeps_refs": ("2 writer, 1 checker, 1 disk", "the references are wrong"),
    "lose_as_seen": ("1 writer, 1 mover, 1 checker, 1 disk", "a chunk is called lost that had a good blob"),
}
"""For each of these rules, who is needed to lose a file without it, and what goes wrong."""

LEAKS = {
    "claim_takes_lost": ("1 writer, 1 collector, 1 checker, 1 disk", "a document is left over"),
    "drop_copies": ("1 writer, 1 mover", "a blob is left over"),
    "pick_up_dead": ("1 writer, 1 collector", "a document is left over"),
}
"""For each of these, who is needed to leave something over for ever."""


@dataclass(frozen=True)
class Found:
    """How many worlds were visited, and the shortest way to one that is wrong, if there is any."""

    rules: Rules
    worlds: int
    wrong: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n  ".join((f"{self.worlds:,} worlds {self.rules}: {self.wrong or 'all well'}", *self.trace))


class Explorer:
    """Finds all worlds that a cast can reach: so many actors of each role, who begin with nothing."""

    def __init__(self, cast: str, rules: Rules = ALL) -> None:
        self._rules = rules
        counts = (part.split() for part in cast.split(", "))
        self._start = canonical(
            World(Shared(), tuple(Actor(role) for count, role in counts for _ in range(int(count))))
        )
        self._before: dict[World, World | None] = {self._start: None}
        self._steps: dict[tuple[Shared, Actor], tuple[tuple[str, Shared, Actor], ...]] = {}
        self._endings: dict[Shared, str] = {}

    def explore(self, endings: bool = True) -> Found:
        """Visit every world, until one is wrong, or would be at the end of a life there."""
        before = self._before
        queue = deque([self._start])
        while queue:
            world = queue.popleft()
            if wrong := self._loss(world) or (endings and self._ending(world.shared)):
                return Found(self._rules, len(before), wrong, self._trace(world))
            for _, _, after in self._after(world):
                if after not in before and (new := canonical(after)) not in before:
                    before[new] = world
                    queue.append(new)
        return Found(self._rules, len(before))

    def _after(self, world: World) -> Iterator[tuple[int, str, World]]:
        """Whatever may happen next."""
        shared, actors = world
        for index, actor in enumerate(actors):
            found = self._steps.get((shared, actor))
            if found is None:
                found = self._steps[shared, actor] = (*steps(shared, actor, self._rules), *_crash(shared, actor))
            for what, changed, then in found:
                yield index, what, World(changed, (*actors[:index], then, *actors[index + 1 :]))

    def _trace(self, world: World) -> tuple[str, ...]:
        """The way to a canonical world, gone once more with names that last."""
        way = [world]
        while earlier := self._before[way[-1]]:
            way.append(earlier)
        world, trace = way.pop(), []
        while way:
            aim = way.pop()
            index, what, after = next(step for step in self._after(world) if canonical(step[2]) == aim)
            trace.append(f"{_who(world.actors, index)} {what}")
            world = after
        return tuple(trace)

    def _loss(self, world: World) -> str:
        """What is wrong for a reader now."""
        document, disk, hit, forsaken, _ = world.shared
        files = world.files
        if forsaken:
            return "a chunk is called lost that had a good blob"
        if document is None:
            return "a committed file has no document" if files else ""
        if document.refs != files:
            return "the references are wrong"
        healing = document.state in ("lost", "pending") and any(actor.step == "failed" for actor in world.actors)
        if files and document.state != "live" and not healing:
            return f"the chunk of a committed file is {document.state}"
        if files and document.state == "live" and not disk.union(hit).issuperset(document.blobs):
            return "a blob of a committed file is gone"
        return ""

    def _ending(self, shared: Shared) -> str:
        """What would be wrong if everybody had crashed now, and somebody came to clear up, or to upload."""
        if shared not in self._endings:
            self._endings[shared] = self._leak(shared) or self._obstacle(shared)
        return self._endings[shared]

    def _leak(self, shared: Shared) -> str:
        """What a pass of a collector and one of a sweeper leave over, or remove that they should not."""
        refs = shared.document.refs if shared.document else 0
        for _ in range(3):
            shared = self._alone(shared, Actor("collector"))
        for gen in shared.disk:
            shared = self._alone(shared, Actor("sweeper", "look", gens=(gen,)))
        document, disk, hit, *_ = shared
        if document is None:
            return "a committed file is cleared away" if refs else "a blob is left over" if disk else ""
        if not refs:
            return "a document is left over"
        live = document.state == "live"
        if live and not disk.union(hit).issuperset(document.blobs):
            return "a blob of a committed file is cleared away"
        return "" if disk.issubset(document.blobs if live else document.named) else "a blob is left over"

    def _obstacle(self, shared: Shared) -> str:
        """Whether damage found by a check is healed by an upload, and an upload succeeds in any case."""
        refs = shared.document.refs if shared.document else 0
        if shared.hit:
            shared = self._alone(shared, Actor("checker"))
        shared = self._alone(shared, Actor("writer"))
        document = shared.document
        if (
            document
            and document.state == "live"
            and document.refs == refs + 1
            and all(map(shared.good, document.blobs))
        ):
            return ""
        return "an upload does not succeed"

    def _alone(self, shared: Shared, actor: Actor) -> Shared:
        """What this actor makes of the world when nobody else moves."""
        while found := steps(shared, actor, self._rules):
            _, shared, actor = found[0]
            if actor.step in ("start", "stored"):
                break
        return shared


def _crash(shared: Shared, actor: Actor) -> list[tuple[str, Shared, Actor]]:
    """A crash makes an actor forget what it knows; files and failed disks stay what they are."""
    return [] if actor.step in ("start", "stored", "failed") else [("crashes", shared, Actor(actor.role))]


def _who(actors: tuple[Actor, ...], index: int) -> str:
    role = actors[index].role
    return f"{role} {1 + sum(actor.role == role for actor in actors[:index])}"


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    """Worlds do not refer to themselves: to look for cycles among them would take its time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("cast", UNDAMAGED)
def test_no_committed_file_is_lost_and_nothing_is_left_over(cast: str) -> None:
    found = Explorer(cast).explore()
    assert not found.wrong, str(found)
    assert found.worlds > 10_000, str(found)


@pytest.mark.parametrize("cast", DAMAGED)
def test_damage_costs_no_more_than_was_hit_and_an_upload_heals_it(cast: str) -> None:
    found = Explorer(cast).explore()
    assert not found.wrong, str(found)
    assert found.worlds > 10_000, str(found)


@pytest.mark.parametrize("rule", LOSSES)
def test_without_this_rule_a_committed_file_is_lost(rule: str) -> None:
    cast, harm = LOSSES[rule]
    found = Explorer(cast, replace(ALL, **{rule: False})).explore(endings=False)
    assert found.wrong == harm, str(found)
    print(found)


@pytest.mark.parametrize("rule", LEAKS)
def test_without_this_rule_something_is_left_over(rule: str) -> None:
    cast, harm = LEAKS[rule]
    found = Explorer(cast, replace(ALL, **{rule: False})).explore()
    assert found.wrong == harm, str(found)
    print(found)


def test_every_rule_is_dropped_once() -> None:
    assert {*LOSSES, *LEAKS} == {rule.name for rule in fields(Rules)}


def test_a_trace_tells_who_does_what() -> None:
    found = Explorer("2 writer, 1 collector", replace(ALL, commit_asserts_live=False)).explore(endings=False)
    assert found.trace == (
        "writer 1 finds no document",
        "writer 1 names blob 0",
        "writer 1 writes blob 0",
        "writer 1 makes the chunk live with blob 0",
        "collector 1 claims the chunk",
        "writer 1 COMMITS its file",
    )
