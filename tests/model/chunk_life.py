"""The life of one chunk: who may change its document and its blobs, and in which atomic steps.

Actors share a document and a disk. Each takes one step at a time, in any order, starts anew when it
has finished, and may crash before any step, which makes it forget what it knew. Who never moves
again is covered too, for nobody has to move. Time plays no part: grace and locks are politeness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import ne
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol. A mutant drops one rule."""

    name_before_write: bool = True  # R1: a writer names a blob before it writes it
    name_before_copy: bool = True  # R1: so does a mover
    copy_asserted: bool = True  # R1: a mover offers only a copy that is still named
    unname_before_unlink: bool = True  # R2: a mover unlinks the old blob after it switched to the new one
    unname_before_drop: bool = True  # R2: a collector unlinks an abandoned copy after it un-named it
    look_after_listing: bool = True  # R2: a sweeper reads the document after it saw the blob
    remove_by_generation: bool = True  # R2: a collector removes the document only with the generation it unlinked
    fresh_generations: bool = True  # R3
    commit_asserts_live: bool = True  # R4
    claim_in_one_step: bool = True  # R5
    claim_spares_healing: bool = True  # R5: a pending chunk with references is being healed
    claim_takes_lost: bool = True  # R5: a lost chunk without references is claimed like any other
    take_over_as_seen: bool = True  # a writer takes a chunk over only in the state that it saw
    take_over_keeps_refs: bool = True  # the references of a lost chunk survive its healing
    lose_as_seen: bool = True  # a checker calls a chunk lost only if it offers the very blobs that it found bad
    drop_copies: bool = True  # a collector clears abandoned copies
    pick_up_dead: bool = True  # a collector goes on where another one crashed

    def __str__(self) -> str:
        dropped = [rule.name for rule in fields(self) if not getattr(self, rule.name)]
        return f"without {', '.join(dropped)}" if dropped else "with all rules"


class Document(NamedTuple):
    """The chunk's document, as `app.models.chunks` describes it."""

    state: str
    gen: int
    blobs: tuple[int, ...]
    adding: int | None
    refs: int

    @property
    def named(self) -> tuple[int, ...]:
        return self.blobs if self.adding is None else (*self.blobs, self.adding)


class Shared(NamedTuple):
    """What all actors see."""

    document: Document | None = None
    disk: frozenset[int] = frozenset()  # the generations of the blobs that are there
    hit: frozenset[int] = frozenset()  # those of blobs that the disk lost or spoilt
    forsaken: bool = False  # a chunk was called lost that offered a good blob
    fresh: int = 0  # from this one on, generations are unused

    def good(self, gen: int) -> bool:
        return gen in self.disk and gen not in self.hit


class Actor(NamedTuple):
    """Somebody at work: the next step, and what is remembered for it.

    A writer at the step "stored" is a committed file.
    """

    role: str
    step: str = "start"
    saw: str = ""
    gens: tuple[int, ...] = ()


class World(NamedTuple):
    shared: Shared
    actors: tuple[Actor, ...]

    @property
    def files(self) -> int:
        return sum(actor.step == "stored" for actor in self.actors)


class Step(NamedTuple):
    """What an actor does, and what it makes of the world and of itself."""

    what: str
    shared: Shared
    actor: Actor


@dataclass(frozen=True, slots=True)
class Turn:
    """One actor is about to take a step."""

    shared: Shared
    actor: Actor
    rules: Rules

    @property
    def document(self) -> Document | None:
        return self.shared.document

    @property
    def gens(self) -> tuple[int, ...]:
        return self.actor.gens

    def then(self, what: str, step: str, *gens: int, saw: str = "", **changes: Any) -> Step:
        """It changes what is shared, and goes on with the step that is given."""
        shared = self.shared._replace(**changes) if changes else self.shared
        return Step(what, shared, Actor(self.actor.role, step, saw, gens))

    def unlink(self, gen: int, *gens: int, then: str) -> Step:
        return self.then(f"unlinks blob {gen}", then, *gens, disk=self.shared.disk - {gen})

    def generation(self) -> tuple[int, int]:
        """A generation for a new blob, and the first that is unused after it."""
        return (self.shared.fresh, self.shared.fresh + 1) if self.rules.fresh_generations else (0, 1)


def writer(turn: Turn) -> Iterator[Step]:
    """Uploads a file of this one chunk, and deletes it some day."""
    document, rules, gens = turn.document, turn.rules, turn.gens
    match turn.actor.step:
        case "start" if document and document.state == "live":
            yield turn.then("links the live chunk", "commit")
        case "start" if not rules.name_before_write:
            gen, fresh = turn.generation()
            yield turn.then(f"writes blob {gen}", "name late", gen, disk=turn.shared.disk | {gen}, fresh=fresh)
        case "start" if document:
            yield turn.then(f"finds the chunk {document.state}", "name", document.gen, saw=document.state)
        case "start":
            yield turn.then("finds no document", "name")
        case "name":
            yield _name(turn)
        case "name late" if document is None:
            named = Document("pending", gens[0], gens, None, 0)
            yield turn.then(f"names blob {gens[0]}", "publish", *gens, document=named)
        case "name late":
            yield turn.then(f"comes too late to name blob {gens[0]}", "unlink", *gens)
        case "write":
            yield turn.then(f"writes blob {gens[0]}", "publish", *gens, disk=turn.shared.disk | {*gens})
        case "publish" if document and (document.state, document.gen) == ("pending", gens[0]):
            live = document._replace(state="live")
            yield turn.then(f"makes the chunk live with blob {gens[0]}", "commit", document=live)
        case "publish":
            yield turn.then(f"finds its naming of blob {gens[0]} lost", "unlink", *gens)
        case "commit" if document and (document.state == "live" or not rules.commit_asserts_live):
            yield turn.then("COMMITS its file", "stored", document=document._replace(refs=document.refs + 1))
        case "commit" if rules.commit_asserts_live:
            yield turn.then("finds the chunk not live and aborts the commit", "start")
        case "commit":
            yield turn.then("COMMITS its file", "stored")
        case "stored" if document:
            yield turn.then("DELETES its file", "start", document=document._replace(refs=document.refs - 1))
        case "unlink":
            yield turn.unlink(*gens, then="start")


def _name(turn: Turn) -> Step:
    """Names a blob in a new document, or instead of those of a pending, dead or lost chunk."""
    document, saw = turn.document, turn.actor.saw
    gen, fresh = turn.generation()
    if document is None and not saw:
        named = Document("pending", gen, (gen,), None, 0)
        return turn.then(f"names blob {gen}", "write", gen, document=named, fresh=fresh)
    if document and turn.gens == (document.gen,) and (document.state == saw or not turn.rules.take_over_as_seen):
        named = Document("pending", gen, (gen,), None, document.refs if turn.rules.take_over_keeps_refs else 0)
        what = f"takes the {document.state} chunk over with blob {gen}"
        return turn.then(what, "write", gen, document=named, fresh=fresh)
    return turn.then("finds that the chunk has changed", "start")


def collector(turn: Turn) -> Iterator[Step]:
    """Removes a chunk that no file holds, and copies that nobody finished."""
    document, gens = turn.document, turn.gens
    match turn.actor.step:
        case "start" if document:
            yield from _collect(turn, document)
        case "claim late" if document and document.gen == gens[0]:
            yield turn.then("claims the chunk", "read", document=document._replace(state="dead"))
        case "read" if document and document.state == "dead":
            step = "unlink dead" if document.named else "remove"
            yield turn.then("reads what the dead chunk names", step, document.gen, *document.named)
        case "unlink dead":
            gen, blob, *others = gens
            yield turn.unlink(blob, gen, *others, then="unlink dead" if others else "remove")
        case "remove" if document and (document[:2] == ("dead", gens[0]) or not turn.rules.remove_by_generation):
            yield turn.then("removes the document", "start", document=None)
        case "unlink":
            yield turn.unlink(*gens, then="start")
        case "un-name late" if document and document.state == "live" and document.adding == gens[0]:
            yield turn.then(f"un-names copy {gens[0]}", "start", document=document._replace(adding=None))
        case "claim late" | "read" | "remove" | "un-name late":
            yield turn.then("finds that the chunk has changed", "start")


def _collect(turn: Turn, document: Document) -> Iterator[Step]:
    rules, state, copy = turn.rules, document.state, document.adding
    if state == "live" and copy is not None and rules.drop_copies:
        if rules.unname_before_drop:
            yield turn.then(f"un-names copy {copy}", "unlink", copy, document=document._replace(adding=None))
        else:
            yield turn.unlink(copy, copy, then="un-name late")
    unused = document.refs == 0 or (state == "pending" and not rules.claim_spares_healing)
    if unused and (state in ("live", "pending") or (state == "lost" and rules.claim_takes_lost)):
        if rules.claim_in_one_step:
            yield turn.then("claims the chunk", "read", document=document._replace(state="dead"))
        else:
            yield turn.then("sees that no file holds the chunk", "claim late", document.gen)
    if state == "dead" and rules.pick_up_dead:
        yield turn.then("finds the chunk dead", "read")


def sweeper(turn: Turn) -> Iterator[Step]:
    """Unlinks blobs that no document names."""
    named, gens, disk = turn.document.named if turn.document else (), turn.gens, turn.shared.disk
    match turn.actor.step:
        case "start" if turn.rules.look_after_listing:
            for gen in disk:
                yield turn.then(f"sees blob {gen}", "look", gen)
        case "start":
            yield turn.then("reads what the document names", "list", *named)
        case "look" if gens[0] in named:
            yield turn.then(f"finds blob {gens[0]} named", "start")
        case "look":
            yield turn.then(f"finds blob {gens[0]} unnamed", "unlink", *gens)
        case "list":
            for gen in disk.difference(gens):
                yield turn.then(f"sees blob {gen}, which was not named", "unlink", gen)
        case "unlink":
            yield turn.unlink(*gens, then="start")


def mover(turn: Turn) -> Iterator[Step]:
    """Puts another blob in the place of a live chunk's own."""
    document, rules = turn.document, turn.rules
    match turn.actor.step:
        case "start" if document and document.state == "live" and document.adding is None:
            new, fresh = turn.generation()
            named = document._replace(adding=new) if rules.name_before_copy else document
            yield turn.then(f"names copy {new}", "copy", *document.blobs, new, document=named, fresh=fresh)
        case "copy" if turn.shared.good(turn.gens[0]):
            old, new = turn.gens
            yield turn.then(f"copies blob {old} to {new}", "switch", old, new, disk=turn.shared.disk | {new})
        case "copy":
            yield turn.then(f"cannot read blob {turn.gens[0]}", "start")
        case "switch":
            yield _switch(turn, *turn.gens)
        case "unlink":
            yield turn.unlink(*turn.gens, then="start")


def _switch(turn: Turn, old: int, new: int) -> Step:
    document, rules = turn.document, turn.rules
    asserted = rules.copy_asserted and rules.name_before_copy
    if not document or document[0] != "live" or old not in document.blobs or (asserted and document.adding != new):
        return turn.then(f"finds copy {new} not named any more", "unlink", new)
    if not rules.unname_before_unlink and old in turn.shared.disk:
        return turn.unlink(old, old, new, then="switch")
    blobs = tuple(new if blob == old else blob for blob in document.blobs)
    switched = document._replace(blobs=blobs, adding=None)
    return turn.then(f"switches from blob {old} to {new}", "unlink", old, document=switched)


def disk(turn: Turn) -> Iterator[Step]:
    """Fails once."""
    there, hit = turn.shared.disk, turn.shared.hit
    for gen in there if turn.actor.step == "start" else ():
        yield turn.then(f"loses blob {gen}", "failed", disk=there - {gen}, hit=hit | {gen})
        yield turn.then(f"spoils blob {gen}", "failed", hit=hit | {gen})


def checker(turn: Turn) -> Iterator[Step]:
    """Calls a live chunk lost of which no good blob is left."""
    document, (gen, *blobs), good = turn.document, turn.gens or (0,), turn.shared.good
    unasserted = not turn.rules.lose_as_seen
    match turn.actor.step:
        case "start" if document and document.state == "live" and not any(map(good, document.blobs)):
            yield turn.then("finds no good blob", "lose", document.gen, *document.blobs)
        case "lose" if document and document[:2] == ("live", gen) and (document.blobs == (*blobs,) or unasserted):
            lost = document._replace(state="lost", blobs=())
            forsaken = any(map(good, document.blobs))
            yield turn.then("calls the chunk lost", "unlink", *blobs, document=lost, forsaken=forsaken)
        case "lose":
            yield turn.then("finds that the chunk has changed", "start")
        case "unlink":
            yield turn.unlink(*turn.gens, then="start")


_ROLES = {role.__name__: role for role in (writer, collector, sweeper, mover, disk, checker)}


def steps(shared: Shared, actor: Actor, rules: Rules) -> list[Step]:
    """What this actor may do now."""
    return list(_ROLES[actor.role](Turn(shared, actor, rules)))


def canonical(world: World) -> World:
    """The same for all worlds that differ only in the names of generations and in the order of actors.

    Blobs that nobody names or remembers are alike, and only sweepers will ever touch them: one is kept.
    Thus there are finitely many worlds, although lives have no end.
    """
    document, disk, hit, forsaken, _ = world.shared
    names: dict[int, int] = {}
    if document:
        for gen in (document.gen, *document.named):
            names.setdefault(gen, len(names))
    named = names.copy()

    def order(actor: Actor) -> tuple[Any, ...]:
        return (*actor[:3], tuple([named.get(gen, 99 + (gen in disk)) for gen in actor.gens])) if actor.gens else actor

    actors = tuple(sorted(world.actors, key=order))
    for actor in actors:
        for gen in actor.gens:
            names.setdefault(gen, len(names))
    for gen in disk - names.keys():
        names[gen] = len(names)
        break
    if any(map(ne, names, names.values())):
        document = document and _renamed(document, names)
        actors = tuple([Actor(*a[:3], tuple([names[gen] for gen in a.gens])) if a.gens else a for a in actors])
        disk = frozenset([names[gen] for gen in disk if gen in names])
        hit = frozenset([names[gen] for gen in hit if gen in names])
    else:
        disk, hit = disk.intersection(names), hit.intersection(names)
    return World(Shared(document, disk, hit, forsaken, len(names)), actors)


def _renamed(document: Document, names: dict[int, int]) -> Document:
    adding = None if document.adding is None else names[document.adding]
    blobs = tuple([names[gen] for gen in document.blobs])
    return Document(document.state, names[document.gen], blobs, adding, document.refs)
