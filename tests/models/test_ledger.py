"""The transactions: two sums that are exact whatever happens (rule R4)."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import UploadInterrupted
from app.models.chunks import Chunks, Naming
from app.models.database import Database
from app.models.files import Cursor, Files, new_file_id
from app.models.ledger import ChunksNotLive, Hold, Ledger
from app.models.pages import Pages
from app.models.tallies import Tallies
from app.types import Blob, ChunkRef, ContentId, Digest, File, FileId, NodeId, Page, PageRef, new_generation

pytestmark = pytest.mark.anyio

NODES = [NodeId("node1"), NodeId("node2")]


def digest_of(number: int) -> Digest:
    return Digest(hashlib.sha256(str(number).encode()).digest())


def naming(number: int) -> Naming:
    generation = new_generation()
    return Naming(10 + number, (Blob(NODES[number % 2], digest_of(number), generation),), generation)


async def make_live(database: Database, *numbers: int) -> None:
    namings = [naming(number) for number in numbers]
    won = await Chunks(database).name(namings)
    assert await Chunks(database).make_live([one for one in namings if one.digest in won]) == won


def page_of(*numbers: int) -> Page:
    return Page.of([ChunkRef(digest_of(number), 10 + number) for number in numbers])


def file_of(*pages: Page, name: str = "f") -> File:
    refs = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
    now = datetime.now(UTC).replace(microsecond=0)
    size = sum(page.size for page in pages)
    return File(new_file_id(), name, size, "x/y", ContentId("0" * 64), now, "local", refs)


async def recount(database: Database) -> None:
    """Compare every sum with what the raw documents say."""
    files = await database["files"].find({})
    uploads = await database["uploads"].find({})
    pages = {page["_id"]: page for page in await database["pages"].find({})}
    chunks = {chunk["_id"]: chunk for chunk in await database["chunks"].find({})}
    held: Counter[Any] = Counter()
    for file in files:
        held.update({page["id"] for page in file["pages"]})
    for upload in uploads:
        held.update(set(upload["pages"]))
    assert {page_id: page["refs"] for page_id, page in pages.items()} == {p: held[p] for p in pages}
    assert set(held) <= set(pages)
    counted: Counter[Any] = Counter()
    for page_id, page in pages.items():
        counted.update({chunk.digest for chunk in Page.unpack(page_id, page["packed"]).chunks})
    assert {digest: chunk["refs"] for digest, chunk in chunks.items()} == {d: counted[d] for d in chunks}
    tally = await Tallies(database).read()
    referenced = [chunk for chunk in chunks.values() if chunk["refs"]]
    assert (tally.files, tally.logical) == (len(files), sum(file["size"] for file in files))
    assert (tally.chunks, tally.bytes) == (len(referenced), sum(chunk["size"] for chunk in referenced))
    for node in NODES:
        mine = [chunk["size"] for chunk in referenced if chunk["blobs"][0]["node"] == node]
        assert (tally.nodes[node].chunks, tally.nodes[node].bytes) == (len(mine), sum(mine)) if mine else True


@pytest.mark.parametrize("seed", range(6))
async def test_sums_stay_exact_through_any_history(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    ledger = Ledger(database)
    await make_live(database, *range(12))
    pages = [page_of(*rng.choices(range(12), k=rng.randint(1, 5))) for _ in range(6)]
    held: list[tuple[Hold, list[Page]]] = []
    kept: list[FileId] = []

    async def step(choices: list[str]) -> None:
        match rng.choice(choices):
            case "commit":
                files = [file_of(*rng.choices(pages, k=rng.randint(0, 3))) for _ in range(rng.randint(1, 2))]
                await ledger.commit_files(Hold(), files, pages)
                kept.extend(file.id for file in files)
            case "hold":
                if not held or rng.random() < 0.4:
                    held.append((Hold(), []))
                hold, mine = rng.choice(held)
                mine.append(rng.choice(pages))
                await ledger.hold_page(hold, mine[-1])
            case "end" if held:
                await ledger.end_upload(held.pop()[0])
            case "finish" if held:
                hold, mine = held.pop()
                tail = rng.choice(pages)
                files = [file_of(*mine, tail), file_of(*mine[:1])]
                await ledger.commit_files(hold, files, [tail])
                kept.extend(file.id for file in files)
            case "delete" if kept:
                assert await ledger.delete_file(kept.pop(rng.randrange(len(kept)))) is not None
            case "fold":
                await Tallies(database).fold()

    for number in range(40):
        await step(["commit", "commit", "hold", "hold", "end", "finish", "delete", "fold"])
        if number % 4 == 3:
            await recount(database)
    await asyncio.gather(*(step(["commit", "commit", "delete", "fold"]) for _ in range(16)))
    await recount(database)


@pytest.mark.parametrize("state", ["pending", "dead", "absent"])
@pytest.mark.parametrize("how", ["hold", "commit"])
async def test_a_commit_asserts_that_every_chunk_is_live(database: Database, state: str, how: str) -> None:
    """Rule R4. Seen to fail when `_link_chunks` does not compare what is live with what is asked."""
    await make_live(database, 1, 2)
    if state != "absent":
        await Chunks(database).name([naming(3)])
        await database["chunks"].update_one({"_id": digest_of(3)}, {"$set": {"state": state}})
    page = page_of(1, 2, 3)
    before = [await database[name].find({}) for name in ("chunks", "pages", "files", "uploads", "tally_deltas")]
    with pytest.raises(ChunksNotLive) as refused:
        if how == "hold":
            await Ledger(database).hold_page(Hold(), page)
        else:
            await Ledger(database).commit_files(Hold(), [file_of(page)], [page])
    assert refused.value.digests == {digest_of(3)}
    after = [await database[name].find({}) for name in ("chunks", "pages", "files", "uploads", "tally_deltas")]
    assert after == before


async def test_an_upload_that_was_ended_commits_nothing(database: Database) -> None:
    await make_live(database, 1, 2)
    ledger, hold = Ledger(database), Hold()
    await ledger.hold_page(hold, page_of(1))
    await ledger.end_upload(hold)
    with pytest.raises(UploadInterrupted):
        await ledger.hold_page(hold, page_of(2))
    with pytest.raises(UploadInterrupted):
        await ledger.commit_files(hold, [file_of(page_of(1))], [])
    await recount(database)
    assert await database["files"].find({}) == []


async def test_many_commits_that_share_a_chunk_all_end_well(database: Database) -> None:
    await make_live(database, *range(25))
    ledger = Ledger(database)
    pages = [page_of(0, number) for number in range(1, 25)]
    await asyncio.gather(*(ledger.commit_files(Hold(), [file_of(page)], [page]) for page in pages))
    await recount(database)
    assert (await Chunks(database).find([digest_of(0)]))[digest_of(0)].refs == 24


async def test_two_commits_of_one_new_page(database: Database) -> None:
    await make_live(database, 1, 2)
    ledger, page = Ledger(database), page_of(1, 2)
    await asyncio.gather(*(ledger.commit_files(Hold(), [file_of(page)], [page]) for _ in range(8)))
    await recount(database)


# Chunks


async def test_one_of_many_namings_wins(database: Database) -> None:
    """Rules R1 and R3: a chunk's document names one generation at a time."""
    chunks = Chunks(database)
    namings = [naming(1) for _ in range(20)]
    won = await asyncio.gather(*(chunks.name([one]) for one in namings))
    assert sum(map(len, won)) == 1
    (winner,) = [one for one, wins in zip(namings, won, strict=True) if wins]
    assert (await chunks.find([digest_of(1)]))[digest_of(1)].generation == winner.generation
    live = await asyncio.gather(*(chunks.make_live([one]) for one in namings))
    assert [bool(one) for one in live] == [bool(wins) for wins in won]


async def test_namings_are_won_one_by_one(database: Database) -> None:
    chunks = Chunks(database)
    await make_live(database, 1)
    stale = naming(2)
    await chunks.name([stale])
    pending = (await chunks.find([digest_of(2)]))[digest_of(2)]
    takeover = naming(2)
    wishes = [naming(1), Naming(takeover.size, takeover.blobs, takeover.generation, pending), naming(3)]
    assert await chunks.name(wishes) == {digest_of(2), digest_of(3)}
    assert await chunks.make_live([stale, wishes[2]]) == {digest_of(3)}
    assert await chunks.make_live([takeover]) == {digest_of(2)}


async def test_only_what_was_seen_is_taken_over(database: Database) -> None:
    """Seen to fail when the take-over does not ask for the state and generation that were seen."""
    chunks = Chunks(database)
    first = naming(1)
    await chunks.name([first])
    seen = (await chunks.find([digest_of(1)]))[digest_of(1)]
    await chunks.make_live([first])
    late = naming(1)
    assert await chunks.name([Naming(late.size, late.blobs, late.generation, seen)]) == set()
    assert (await chunks.find([digest_of(1)]))[digest_of(1)].state == "live"


# Files


async def test_listing_uses_an_index(database: Database) -> None:
    ledger, files = Ledger(database), Files(database)
    for number in range(30):
        await ledger.commit_files(Hold(), [file_of(name=f"{number % 3}/{number}")], [])
    raw = database["files"]._collection
    cursors = [None, Cursor(datetime.now(UTC), new_file_id())]
    for cursor in cursors:
        assert len(await files.newest(30, cursor, "")) == 30
    plan = await raw.find({}).sort([("createdAt", -1), ("_id", -1)]).explain()
    stages = str(plan["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in stages
    assert "'SORT'" not in stages


def test_a_cursor_is_read_as_it_was_written() -> None:
    cursor = Cursor(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC), new_file_id())
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "prefix", ["a", "a.c", "\x00", "x\x00y", "\ud7ff", "\U0010ffff", "a\U0010ffff", "^a$", "ü" * 30_000]
)
async def test_a_prefix_is_any_text(database: Database, prefix: str) -> None:
    ledger, files = Ledger(database), Files(database)
    names = [prefix, prefix + "x", prefix + "\U0010ffff", prefix[:-1], "b" + prefix, "\ue000", "~", ""]
    await ledger.commit_files(Hold(), [file_of(name=name) for name in names], [])
    found = {file.name for file in await files.newest(30, None, prefix)}
    assert found == {name for name in names if name.startswith(prefix)}


async def test_a_page_that_another_commit_just_inserted_is_found_on_the_next_attempt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_live(database, 1)
    ledger, page = Ledger(database), page_of(1)
    await ledger.commit_files(Hold(), [file_of(page)], [page])
    real, blind = Pages.refer, [True]

    async def overlook_once(self: Pages, changes: Any, session: Any) -> Any:
        return set(changes) if blind and blind.pop() else await real(self, changes, session)

    monkeypatch.setattr(Pages, "refer", overlook_once)
    await ledger.commit_files(Hold(), [file_of(page)], [page])
    await recount(database)
