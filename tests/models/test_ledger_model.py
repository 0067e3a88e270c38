"""The ledger against a model of it in plain Python: any program of calls, compared after each one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from app.errors import UploadInterrupted
from app.models.catalog import Catalog
from app.models.database import Database, open_database
from app.models.ledger import ChunksNotLive, Hold, Ledger
from app.models.meta import prepare
from app.models.tallies import Tallies
from app.types import Digest, File, FileId, Page, PageId
from tests.models.builders import digest_of, file_of, make_live, page_of, recount
from tests.support import Databases

LIVE = range(6)
GONE = range(6, 8)
"""Chunks that are not live: a commit that needs them is refused."""

COLLECTIONS = ("chunks", "pages", "files", "uploads", "tallies", "tally_deltas")


@dataclass(eq=False)
class Upload:
    """An open upload as the model sees it."""

    hold: Hold = field(default_factory=Hold)
    held: list[Page] = field(default_factory=list)
    ended: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Pages are drawn from few chunks, so that they are often equal and often share chunks."""

    uploads = Bundle("uploads")
    pages = st.lists(st.sampled_from(LIVE), min_size=1, max_size=4).map(lambda numbers: page_of(*numbers))
    fold = st.booleans()

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self._runner = runner
        self._database = database
        self._ledger = Ledger(database)
        self._catalog = Catalog(database)
        self._stored: dict[PageId, Page] = {}
        self._files: dict[FileId, File] = {}
        self._uploads: list[Upload] = []

    @initialize()
    def empty(self) -> None:
        async def work() -> None:
            for name in COLLECTIONS:
                await self._database[name].delete_many({})
            await make_live(self._database, *LIVE, *GONE)
            gone = {"_id": {"$in": [digest_of(number) for number in GONE]}}
            await self._database["chunks"].update_many(gone, {"$set": {"state": "dead"}})

        self._runner.run(work())

    @rule(target=uploads)
    def open(self) -> Upload:
        self._uploads.append(Upload())
        return self._uploads[-1]

    @rule(upload=uploads, page=pages, fold=fold)
    def hold(self, upload: Upload, page: Page, fold: bool) -> None:
        if upload.ended and page not in upload.held:
            with pytest.raises(UploadInterrupted):
                self._run(self._ledger.hold_page(upload.hold, page), fold)
        else:
            self._run(self._ledger.hold_page(upload.hold, page), fold)
            if not upload.ended:
                upload.held.append(page)
                self._stored[page.id] = page
        self._compare()

    @rule(upload=uploads, fold=fold, tails=st.lists(pages, max_size=2), twice=st.booleans())
    def finish(self, upload: Upload, fold: bool, tails: list[Page], twice: bool) -> None:
        """One file with all that the upload holds and the tails, and one with the last of them only."""
        content = [*upload.held, *tails, *(tails if twice else [])]
        files = [file_of(*content), file_of(*content[-1:])]
        if upload.ended:
            with pytest.raises(UploadInterrupted):
                self._run(self._ledger.commit_files(upload.hold, files, tails), fold)
        else:
            self._run(self._ledger.commit_files(upload.hold, files, tails), fold)
            self._files |= {file.id: file for file in files}
            self._stored |= {page.id: page for page in tails}
            # What holds nothing has no document, and so can't be ended: the next commit is a new one.
            upload.ended = bool(upload.held)
        self._compare()

    @rule(upload=uploads, fold=fold)
    def give_up(self, upload: Upload, fold: bool) -> None:
        """By its own abort or, where it still goes on, by the collector."""
        self._run(self._ledger.end_upload(upload.hold), fold)
        upload.ended = bool(upload.held)
        self._compare()

    @rule(pages=st.lists(pages, min_size=1, max_size=3), gone=st.sets(st.sampled_from(GONE), min_size=1), fold=fold)
    def be_refused(self, pages: list[Page], gone: set[int], fold: bool) -> None:
        lacking = page_of(0, *gone)
        with pytest.raises(ChunksNotLive) as refused:
            self._run(self._ledger.commit_files(Hold(), [file_of(*pages, lacking)], [*pages, lacking]), fold)
        assert refused.value.digests == {digest_of(number) for number in gone}
        self._compare()

    @rule(data=st.data(), fold=fold)
    def delete(self, data: st.DataObject, fold: bool) -> None:
        file_id = data.draw(st.sampled_from(sorted(self._files) or [FileId("0" * 24)]))
        deleted = self._run(self._catalog.delete_file(file_id), fold)
        assert deleted == self._files.pop(file_id, None)
        self._compare()

    def _run(self, call: Awaitable[Any], fold: bool) -> Any:
        """Make the call, while deltas are folded if `fold` says so."""

        async def work() -> Any:
            folding = asyncio.ensure_future(Tallies(self._database).fold()) if fold else None
            try:
                return await call
            finally:
                if folding:
                    await folding

        return self._runner.run(work())

    def _compare(self) -> None:
        held: Counter[PageId] = Counter()
        for file in self._files.values():
            held.update({page.id for page in file.pages})
        for upload in self._uploads:
            if not upload.ended:
                held.update({page.id for page in upload.held})
        holding: Counter[Digest] = Counter()
        for page in self._stored.values():
            holding.update({chunk.digest for chunk in page.chunks})

        async def work() -> None:
            pages = await self._database["pages"].find({})
            assert {page["_id"]: page["refs"] for page in pages} == {page: held[page] for page in self._stored}
            chunks = await self._database["chunks"].find({})
            assert {chunk["_id"]: chunk["refs"] for chunk in chunks} == {
                chunk["_id"]: holding[chunk["_id"]] for chunk in chunks
            }
            tally = await Tallies(self._database).read()
            assert (tally.files, tally.logical) == (len(self._files), sum(file.size for file in self._files.values()))
            await recount(self._database)

        self._runner.run(work())


def test_any_program_of_calls_keeps_the_sums(databases: Databases) -> None:
    """Rule R4. Seen to fail when a held page is counted again at the commit, when a page that comes
    twice in a file counts twice, and when a refused commit leaves its first pages behind."""
    with databases.fresh() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        database = runner.run(stack.enter_async_context(open_database(databases.mongo_url, name)))
        try:
            runner.run(prepare(database))
            run_state_machine_as_test(  # its type asks for a class, any factory does
                lambda: LedgerMachine(runner, database),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=30,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())
