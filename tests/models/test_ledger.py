"""The transactions: two sums that are exact whatever happens (rule R4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import UploadInterrupted
from app.models.catalog import Catalog
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.ledger import ChunksNotLive, Hold, Ledger, _Commit
from app.models.nodes import Nodes
from app.models.pages import Pages
from app.models.tallies import Tallies
from app.types import FileId, Page
from tests.models.builders import NODES, digest_of, file_of, make_live, naming, page_of, recount

pytestmark = pytest.mark.anyio


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
                assert await Catalog(database).delete_file(kept.pop(rng.randrange(len(kept)))) is not None
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
    """Rule R4. Seen to fail when `_Links.not_live` finds nothing, and `refer` takes any chunk."""
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


async def test_a_refusal_names_exactly_what_is_not_live(database: Database) -> None:
    """Over several new pages of one commit, in whatever states; and what was stored already counts."""
    await make_live(database, 1, 2, 3)
    ledger = Ledger(database)
    await ledger.commit_files(Hold(), [file_of(page_of(1, 2))], [page_of(1, 2)])
    await Chunks(database).name([naming(4), naming(5)])
    await database["chunks"].update_one({"_id": digest_of(5)}, {"$set": {"state": "dead"}})
    lacking = page_of(1, 3, 4, 5, 6)
    with pytest.raises(ChunksNotLive) as refused:
        await ledger.commit_files(Hold(), [file_of(page_of(1, 2), lacking)], [lacking])
    assert refused.value.digests == {digest_of(number) for number in (4, 5, 6)}
    await recount(database)
    assert len(await database["pages"].find({})) == 1


async def test_a_chunk_that_dies_during_the_commit_is_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules R4 and R5: a collector's claim between the look and the commit makes one of both fail."""
    await make_live(database, 1, 2)
    real = Chunks.find
    claimed: list[int] = []

    async def find_then_claim(self: Chunks, digests: Any, session: Any = None) -> Any:
        found = await real(self, digests, session)
        if session and not claimed:
            claimed.append(
                await database["chunks"].update_one(
                    {"_id": digest_of(1), "state": "live", "refs": 0}, {"$set": {"state": "dead"}}
                )
            )
        return found

    monkeypatch.setattr(Chunks, "find", find_then_claim)
    with pytest.raises(ChunksNotLive) as refused:
        await Ledger(database).commit_files(Hold(), [file_of(page_of(1, 2))], [page_of(1, 2)])
    assert claimed == [1]
    assert refused.value.digests == {digest_of(1)}
    await recount(database)


async def test_an_upload_that_is_ended_while_it_commits_does_one_of_both(database: Database) -> None:
    await make_live(database, 1, 2)
    ledger = Ledger(database)
    for number in range(10):
        hold, file = Hold(), file_of(page_of(1), page_of(2), name=str(number))
        await ledger.hold_page(hold, page_of(1))
        committed, ended = await asyncio.gather(
            ledger.commit_files(hold, [file], [page_of(2)]), ledger.end_upload(hold), return_exceptions=True
        )
        assert ended is None
        assert committed == [file] or isinstance(committed, UploadInterrupted)
        assert bool(await database["files"].find({"name": str(number)})) == (committed == [file])
    await recount(database)


async def test_a_file_is_deleted_once(database: Database) -> None:
    await make_live(database, 1)
    ledger, file = Ledger(database), file_of(page_of(1))
    await ledger.commit_files(Hold(), [file], [page_of(1)])
    deleted = await asyncio.gather(*(Catalog(database).delete_file(file.id) for _ in range(8)))
    assert [one for one in deleted if one] == [file]
    await recount(database)


async def test_totals_are_right_at_every_moment(database: Database) -> None:
    """Two workers fold, others commit, and whoever reads meanwhile sees a sum that once was true."""
    await make_live(database, 1)
    ledger, tallies, page = Ledger(database), Tallies(database), page_of(1)
    read: list[int] = []
    done = asyncio.Event()

    async def again_and_again(call: Callable[[], Awaitable[Any]]) -> None:
        while not done.is_set():
            await call()

    async def look() -> None:
        tally = await tallies.read()
        assert tally.logical == 11 * tally.files
        read.append(tally.files)

    async with asyncio.TaskGroup() as group:
        for call in (tallies.fold, tallies.fold, look):
            group.create_task(again_and_again(call))
        for _ in range(20):
            await ledger.commit_files(Hold(), [file_of(page)], [page])
        done.set()
    assert read == sorted(read)
    while await tallies.fold():
        pass
    assert await tallies.backlog() == 0
    assert (await tallies.read()).files == 20
    await recount(database)


async def test_many_commits_that_share_a_chunk_all_end_well(database: Database) -> None:
    await make_live(database, *range(25))
    ledger = Ledger(database)
    pages = [page_of(0, number) for number in range(1, 25)]
    await asyncio.gather(*(ledger.commit_files(Hold(), [file_of(page)], [page]) for page in pages))
    await recount(database)
    assert (await Chunks(database).find([digest_of(0)]))[digest_of(0)].refs == 24


async def test_of_commits_in_one_transaction_each_is_refused_or_done_for_itself(database: Database) -> None:
    """Equal pages, pages that share chunks, a chunk that is not live, an upload that was ended, one that
    holds pages: together as if each were alone. Seen to fail when one refusal was raised for all."""
    await make_live(database, *range(1, 8))
    await Chunks(database).name([naming(9)])
    ledger, ended, holding = Ledger(database), Hold(), Hold()
    await ledger.hold_page(ended, page_of(1))
    await ledger.end_upload(ended)
    await ledger.hold_page(holding, page_of(2, 3))
    fresh, same, shared, lacking = page_of(4, 5), page_of(4, 5), page_of(5, 6), page_of(6, 7, 9)
    wishes = [
        (Hold(), [fresh], [fresh]),
        (ended, [page_of(1)], []),
        (Hold(), [same], [same]),
        (Hold(), [lacking], [lacking]),
        (holding, [page_of(2, 3), shared], [shared]),
    ]
    files = [file_of(*pages) for _, pages, _ in wishes]
    outcomes = await ledger._commit_together(
        [_Commit(hold, [file], tails) for (hold, _, tails), file in zip(wishes, files, strict=True)]
    )
    assert [type(outcome) for outcome in outcomes] == [
        list,
        UploadInterrupted,
        list,
        ChunksNotLive,
        list,
    ]
    assert isinstance(outcomes[3], ChunksNotLive)
    assert outcomes[3].digests == {digest_of(9)}
    stored = {str(file["_id"]) for file in await database["files"].find({})}
    assert stored == {files[number].id for number in (0, 2, 4)}
    await recount(database)


async def test_two_commits_of_one_new_page(database: Database) -> None:
    await make_live(database, 1, 2)
    ledger, page = Ledger(database), page_of(1, 2)
    await asyncio.gather(*(ledger.commit_files(Hold(), [file_of(page)], [page]) for _ in range(8)))
    await recount(database)


async def test_a_page_that_another_commit_just_inserted_is_found_on_the_next_attempt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_live(database, 1)
    ledger, page = Ledger(database), page_of(1)
    await ledger.commit_files(Hold(), [file_of(page)], [page])
    real, blind = Pages.stored, [True]

    async def overlook_once(self: Pages, page_ids: Any, session: Any) -> Any:
        return set() if blind and blind.pop() else await real(self, page_ids, session)

    monkeypatch.setattr(Pages, "stored", overlook_once)
    await ledger.commit_files(Hold(), [file_of(page)], [page])
    await recount(database)


@pytest.mark.parametrize("how", ["hold", "commit"])
@pytest.mark.parametrize("state", ["removing", "removed"])
async def test_nothing_new_is_committed_on_a_node_that_goes(database: Database, state: str, how: str) -> None:
    """Seen to fail when commits did not ask for the nodes. What is held already is not in the way, unless
    nothing is left of it: a removal would have found it, and a lost node is made up for otherwise."""
    await make_live(database, 1, 2, 3)
    ledger, nodes = Ledger(database), Nodes(database)
    await ledger.commit_files(Hold(), [file_of(page_of(1))], [page_of(1)])
    if state == "removing":
        await nodes.begin_removal(NODES[1])
    else:
        await nodes.remove(NODES[1])
    page = page_of(1, 2, 3)
    with pytest.raises(ChunksNotLive) as refused:
        if how == "hold":
            await ledger.hold_page(Hold(), page)
        else:
            await ledger.commit_files(Hold(), [file_of(page)], [page])
    assert refused.value.digests == {digest_of(number) for number in ((3,) if state == "removing" else (1, 3))}
    await ledger.commit_files(Hold(), [file_of(page_of(1))], [])
    await ledger.commit_files(Hold(), [file_of(page_of(2))], [page_of(2)])
    await recount(database)
