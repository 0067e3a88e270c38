"""Chunk documents change only as they were seen (rules R1, R3, R4, R5)."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import pytest

from app.models.chunk import Chunk, Naming
from app.models.chunks import Chunks
from app.models.database import Database
from app.types import new_generation
from tests.models.builders import NODES, digest_of, make_live, naming

pytestmark = pytest.mark.anyio


async def seen(database: Database, number: int) -> Chunk:
    return (await Chunks(database).find([digest_of(number)]))[digest_of(number)]


async def call_dead(database: Database, number: int) -> None:
    """As a collector claims it: the generation stays."""
    await database["chunks"].update_one({"_id": digest_of(number)}, {"$set": {"state": "dead"}})


async def test_what_was_named_is_found(database: Database) -> None:
    wish = naming(1)
    assert await Chunks(database).name([wish]) == {digest_of(1)}
    chunk = await seen(database, 1)
    assert (chunk.size, chunk.state, chunk.generation, chunk.refs) == (11, "pending", wish.generation, 0)
    assert (chunk.blobs, chunk.nodes) == (wish.blobs, (NODES[1],))
    assert await Chunks(database).find([digest_of(2)]) == {}


async def test_one_of_many_namings_wins(database: Database) -> None:
    """Rules R1 and R3: a chunk's document names one generation at a time."""
    chunks = Chunks(database)
    namings = [naming(1) for _ in range(20)]
    won = await asyncio.gather(*(chunks.name([one]) for one in namings))
    assert sum(map(len, won)) == 1
    (winner,) = [one for one, wins in zip(namings, won, strict=True) if wins]
    assert (await seen(database, 1)).generation == winner.generation
    live = await asyncio.gather(*(chunks.make_live([one]) for one in namings))
    assert [bool(one) for one in live] == [bool(wins) for wins in won]


async def test_batches_that_overlap_share_the_wins(database: Database) -> None:
    """Twenty writers, each with ten of fifteen chunks: every chunk has one winner, and it knows."""
    rng = random.Random(1)
    batches = [[naming(number) for number in rng.sample(range(15), 10)] for _ in range(20)]
    won = await asyncio.gather(*(Chunks(database).name(batch) for batch in batches))
    winners = [one for batch, wins in zip(batches, won, strict=True) for one in batch if one.digest in wins]
    documents = await Chunks(database).find(digest_of(number) for number in range(15))
    assert sorted(one.generation for one in winners) == sorted(chunk.generation for chunk in documents.values())


async def test_namings_are_won_one_by_one(database: Database) -> None:
    chunks = Chunks(database)
    await make_live(database, 1)
    stale = naming(2)
    await chunks.name([stale])
    takeover = naming(2, await seen(database, 2))
    wishes = [naming(1), takeover, naming(3)]
    assert await chunks.name(wishes) == {digest_of(2), digest_of(3)}
    assert await chunks.make_live([stale, wishes[2]]) == {digest_of(3)}
    assert await chunks.make_live([takeover]) == {digest_of(2)}


@pytest.mark.parametrize("state", ["pending", "dead"])
async def test_one_of_many_takeovers_wins(database: Database, state: str) -> None:
    await Chunks(database).name([naming(1)])
    if state == "dead":
        await call_dead(database, 1)
    before = await seen(database, 1)
    wishes = [naming(1, before) for _ in range(10)]
    won = await asyncio.gather(*(Chunks(database).name([wish]) for wish in wishes))
    (winner,) = [wish for wish, wins in zip(wishes, won, strict=True) if wins]
    after = await seen(database, 1)
    assert (after.state, after.generation, after.blobs) == ("pending", winner.generation, winner.blobs)


@pytest.mark.parametrize("meanwhile", ["live", "dead", "taken over", "removed"])
async def test_only_what_was_seen_is_taken_over(database: Database, meanwhile: str) -> None:
    """Seen to fail when the take-over does not ask for the state and generation that were seen."""
    chunks, first = Chunks(database), naming(1)
    await chunks.name([first])
    before = await seen(database, 1)
    match meanwhile:
        case "live":
            assert await chunks.make_live([first])
        case "dead":
            await call_dead(database, 1)
        case "taken over":
            assert await chunks.name([naming(1, before)])
        case "removed":
            await database["chunks"].delete_many({"_id": digest_of(1)})
    raw = await database["chunks"].find({})
    assert await chunks.name([naming(1, before)]) == set()
    assert await database["chunks"].find({}) == raw


async def test_a_live_chunk_is_never_taken_over(database: Database) -> None:
    await make_live(database, 1)
    live = await seen(database, 1)
    with pytest.raises(ValueError, match="live"):
        naming(1, live)
    for state in ("pending", "dead"):
        wish = naming(1, dataclasses.replace(live, state=state))
        assert await Chunks(database).name([wish]) == set()
    assert await seen(database, 1) == live


@pytest.mark.parametrize("meanwhile", ["dead", "taken over", "removed", "live"])
async def test_only_the_own_naming_is_made_live(database: Database, meanwhile: str) -> None:
    """Rule R6 is about these very blobs: those of another generation may not be durable."""
    chunks, mine = Chunks(database), naming(1)
    await chunks.name([mine])
    match meanwhile:
        case "dead":
            await call_dead(database, 1)
        case "taken over":
            assert await chunks.name([naming(1, await seen(database, 1))])
        case "removed":
            await database["chunks"].delete_many({"_id": digest_of(1)})
        case "live":
            await call_dead(database, 1)
            later = naming(1, await seen(database, 1))
            assert await chunks.name([later]) == await chunks.make_live([later])
    raw = await database["chunks"].find({})
    assert await chunks.make_live([mine]) == set()
    assert await database["chunks"].find({}) == raw


async def test_making_live_twice_is_fine(database: Database) -> None:
    chunks, wishes = Chunks(database), [naming(1), naming(2)]
    await chunks.name(wishes)
    for _ in range(2):
        assert await chunks.make_live(wishes) == {digest_of(1), digest_of(2)}


async def test_references_are_added_to_live_chunks_only(database: Database) -> None:
    await make_live(database, 1, 2)
    await Chunks(database).name([naming(3), naming(4)])
    await call_dead(database, 4)
    wanted = {digest_of(number) for number in range(1, 6)}
    assert await database.transaction(lambda session: Chunks(database).refer(dict.fromkeys(wanted, 1), session)) == 2
    documents = await Chunks(database).find(wanted)
    assert {digest: chunk.refs for digest, chunk in documents.items()} == {
        digest_of(number): refs for number, refs in ((1, 1), (2, 1), (3, 0), (4, 0))
    }


def test_a_naming_names_one_chunk() -> None:
    wish = naming(1)
    assert wish.digest == digest_of(1)
    assert Naming(1, wish.blobs, new_generation()).instead_of is None
