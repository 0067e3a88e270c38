"""What a check finds, and what a repair makes of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import Damaged
from app.models.chunks import Chunks
from app.types import new_generation
from app.upkeep import documents
from app.upkeep.findings import Report
from app.upkeep.pace import Silence
from app.upkeep.usage import Usage
from tests.conftest import OpenStore
from tests.models.builders import recount
from tests.streams.tools import MIB
from tests.upkeep.tools import Upkept, upkept

pytestmark = pytest.mark.anyio


def kinds(report: Report) -> list[str]:
    return sorted(finding.kind for finding in report.findings)


async def test_a_store_at_work_is_clean(open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No false alarms while files come and go, pages are released and chunks reclaimed."""
    monkeypatch.setattr("app.streams.ingest.PAGE_CHUNKS", 2)
    async with upkept(open_store, tmp_path) as store:
        common = os.urandom(2 * MIB)

        async def work(number: int) -> None:
            for _ in range(8):
                (file,) = await store.put(common + bytes([number]) * 1000 + os.urandom(MIB))
                await store.parts.store.delete(file.id)
                await store.gc()

        working = asyncio.gather(*(work(number) for number in range(3)))
        checks = 0
        while not working.done() or not checks:
            assert (await store.check(read_data=True)).findings == []
            checks += 1
        await working
        assert checks > 2


async def test_slices_find_the_same(open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with upkept(open_store, tmp_path) as store:
        await store.put(*(os.urandom(10) for _ in range(40)))
        await store.database["chunks"].update_many({}, {"$inc": {"refs": 1}})
        whole = await store.check()
        monkeypatch.setattr(documents, "SLICE", 7)
        sliced = await store.check()
        assert (sliced.files, sliced.pages, sliced.chunks) == (whole.files, whole.pages, whole.chunks) == (40, 40, 40)
        assert sliced.findings == whole.findings
        assert kinds(whole) == ["chunk-refs"] * 40


@pytest.mark.parametrize("drift", [-1, 2])
@pytest.mark.parametrize("collection", ["pages", "chunks"])
async def test_wrong_counts_are_mended(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str, drift: int
) -> None:
    # The store would release pages that seem to be held by nobody before the test has them mended.
    monkeypatch.setattr("app.upkeep.schedule._TICK", 1e6)
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(2 * MIB)
        # Each twice: a page that nobody holds would be released by the server meanwhile.
        (file, *_) = await store.put(content, content[:MIB], content, content[:MIB])
        await store.database[collection].update_many({}, {"$inc": {"refs": drift}})
        found = await store.check()
        drifts = {(finding.kind, finding.drift) for finding in found.findings if finding.kind != "totals"}
        assert drifts == {(f"{collection[:-1]}-refs", -drift)}
        assert found.touched == []
        repaired = await store.check(repair=True)
        assert repaired.left == []
        assert (await store.check()).findings == []
        await recount(store.database)
        assert await store.get(file) == content


async def test_totals_are_mended(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        await store.put(os.urandom(100))
        await store.database["tally_deltas"].delete_many({})
        assert kinds(await store.check()) == ["totals"]
        assert (await store.check(repair=True)).left == []
        assert (await store.check()).findings == []
        await recount(store.database)


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


DAMAGES = [(remove, "blob-missing"), (cut, "blob-size"), (flip, "blob-wrong")]


@pytest.mark.parametrize(("damage", "kind"), DAMAGES)
async def test_a_lost_blob_is_told_put_aside_and_healed_by_an_upload(
    open_store: OpenStore, tmp_path: Path, damage: Callable[[Path], None], kind: str
) -> None:
    async with upkept(open_store, tmp_path) as store:
        content, other = os.urandom(MIB), os.urandom(MIB)
        (first, _, whole) = await store.put(content + b"1", content + b"2", other)
        (bad,) = [path for path in store.blobs() if path.read_bytes() == content]
        damage(bad)
        report = await store.check(read_data=True)
        assert kinds(report) == [kind]
        assert {file.size for file in report.touched} == {MIB + 1}
        assert len(report.touched) == 2
        repaired = await store.check(read_data=True, repair=True)
        assert kinds(repaired) == [finding.kind for finding in repaired.left] == [kind]
        assert not bad.exists()
        assert (bad.parent.parent / "quarantine" / bad.name).exists() == (kind != "blob-missing")
        assert kinds(await store.check(read_data=True)) == ["chunk-lost"]
        with pytest.raises(Damaged):
            await store.get(first)
        assert await store.get(whole) == other
        await recount(store.database)
        await store.gc()
        await store.put(content)
        assert (await store.check(read_data=True)).findings == []
        assert await store.get(first) == content + b"1"
        await recount(store.database)


@pytest.mark.parametrize(("damage", "kind"), DAMAGES)
async def test_another_good_copy_takes_the_place_of_a_bad_one(
    open_store: OpenStore, tmp_path: Path, damage: Callable[[Path], None], kind: str
) -> None:
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(1000)
        (file,) = await store.put(content)
        bad = await add_copy(store)
        damage(bad)
        assert kinds(await store.check(read_data=True)) == [kind]
        assert (await store.check(read_data=True, repair=True)).left == []
        assert (await store.check(read_data=True)).findings == []
        assert (await store.counts())["chunks"] == 1
        assert [path.read_bytes() for path in store.blobs()] == [content, content]
        assert await store.get(file) == content
        await recount(store.database)


async def add_copy(store: Upkept) -> Path:
    """Give the one chunk a second blob on another node, first in its list."""
    (path,) = store.blobs()
    node = "node2" if path.parent.parent.name == "node1" else "node1"
    generation = new_generation()
    copy = store.nodes / node / path.parent.name / f"{path.name[:65]}{generation}"
    copy.write_bytes(path.read_bytes())
    named = {"$push": {"blobs": {"$each": [{"node": node, "gen": generation}], "$position": 0}}}
    await store.database["chunks"].update_many({}, named)
    await store.database["tally_deltas"].delete_many({})
    await store.database["tallies"].delete_many({})
    assert (await store.check(repair=True)).left == []
    return copy


async def test_a_stray_blob_saves_a_chunk(open_store: OpenStore, tmp_path: Path) -> None:
    """As after a database was restored from a backup: the bytes are there under another name."""
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(1000)
        (file,) = await store.put(content)
        (path,) = store.blobs()
        path.rename(path.with_name(f"{path.name[:65]}{new_generation()}"))
        assert kinds(await store.check()) == ["blob-missing", "unnamed-blob"]
        assert (await store.check(repair=True)).left == []
        assert await store.get(file) == content
        assert (await store.check()).findings == []


@pytest.mark.parametrize("state", ["gone", "dead"])
async def test_a_chunk_without_a_document_is_saved_by_its_blob(
    open_store: OpenStore, tmp_path: Path, state: str
) -> None:
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(1000)
        (file,) = await store.put(content)
        if state == "gone":
            await store.database["chunks"].delete_many({})
        else:
            await store.database["chunks"].update_many({}, {"$set": {"state": "dead"}})
        expected = ["chunk-missing", "totals", "unnamed-blob"] if state == "gone" else ["chunk-dead"]
        assert kinds(await store.check()) == expected
        await store.check(repair=True)
        await store.check(repair=True)
        assert (await store.check()).findings == []
        assert await store.get(file) == content
        await recount(store.database)


async def test_nothing_is_deleted_while_bytes_are_missing(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        await store.put(os.urandom(100), os.urandom(200))
        lost, kept = store.blobs()
        lost.unlink()
        stray = kept.with_name(f"{kept.name[:65]}{new_generation()}")
        stray.write_bytes(b"nobody's")
        report = await store.check(repair=True)
        assert sorted(finding.kind for finding in report.left) == ["blob-missing", "unnamed-blob"]
        assert stray.exists()
        forced = await store.check(repair=True, force=True)
        assert [finding.kind for finding in forced.left] == ["chunk-lost"]
        assert not stray.exists()


async def test_a_missing_page_is_told_and_its_chunks_are_kept(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        (file, _) = await store.put(os.urandom(100), os.urandom(200))
        await store.database["pages"].delete_many({"_id": file.pages[0].id})
        report = await store.check(repair=True)
        assert kinds(report) == ["chunk-refs", "page-missing"]
        assert report.mended == []
        assert [touched.id for touched in report.touched] == [file.id]
        await store.gc()
        assert len(store.blobs()) == 2


async def test_a_node_that_is_away_is_no_reason_to_give_up_its_blobs(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when a chunk is called lost whose other copies could not be read."""
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(1000)
        (file,) = await store.put(content)
        bad = await add_copy(store)
        bad.unlink()
        (good,) = store.blobs()
        node = good.parent.parent
        node.rename(tmp_path / "unmounted")
        report = await store.check(repair=True)
        assert kinds(report) == ["blob-missing", "node-absent"]
        assert len(report.left) == 2
        (tmp_path / "unmounted").rename(node)
        assert await store.get(file) == content
        assert (await store.check(repair=True)).left == []


async def test_a_healed_chunk_keeps_its_references(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when a naming sets `refs: 0`."""
    async with upkept(open_store, tmp_path) as store:
        content = os.urandom(100)
        (first, second) = await store.put(content, content + b"x")
        for path in store.blobs():
            path.unlink()
        await store.check(repair=True)
        await store.gc()
        (third,) = await store.put(content)
        found = await Chunks(store.database).find([chunk["_id"] for chunk in await store.database["chunks"].find({})])
        assert sorted((chunk.state, chunk.refs) for chunk in found.values()) == [("live", 1), ("lost", 1)]
        assert await store.get(first) == content == await store.get(third)
        with pytest.raises(Damaged):
            await store.get(second)


async def test_usage_tells_what_is_shared_among_prefixes(open_store: OpenStore, tmp_path: Path) -> None:
    async with upkept(open_store, tmp_path) as store:
        both, left, right = (os.urandom(MIB) for _ in range(3))
        files = await store.put(both + left, both + left, both + right, both)
        names = ["a/x/1", "a/y/2", "b/3", "4"]
        for file, name in zip(files, names, strict=True):
            query = {"contentId": file.content_id, "name": file.name}
            await store.database["files"].update_one(query, {"$set": {"name": name}})
        usage = Usage(store.database)
        groups, total = await usage.run("", 1, Silence())
        told = {group.prefix: (group.files, group.logical, group.unique, group.shared) for group in groups}
        assert told == {
            "a/": (2, 4 * MIB, MIB, MIB),
            "b/": (1, 2 * MIB, MIB, MIB),
            "": (1, MIB, 0, MIB),
        }
        assert (total.files, total.logical, total.unique, total.shared) == (4, 7 * MIB, 3 * MIB, 0)
        groups, total = await usage.run("a/", 1, Silence())
        assert {group.prefix: (group.unique, group.shared) for group in groups} == {
            "a/x/": (0, 2 * MIB),
            "a/y/": (0, 2 * MIB),
        }
        assert (total.unique, total.shared) == (MIB, MIB)


async def test_unique_bytes_are_exact_after_a_deletion(open_store: OpenStore, tmp_path: Path) -> None:
    """Seen to fail when pages that are not released yet count as holders."""
    async with upkept(open_store, tmp_path) as store:
        shared = os.urandom(2 * MIB)
        (first, second) = await store.put(shared + b"1", shared + b"2")
        assert (await store.parts.store.info(first.id)).unique == 1
        await store.parts.store.delete(second.id)
        assert (await store.parts.store.info(first.id)).unique == first.size
        await store.gc()
        assert (await store.parts.store.info(first.id)).unique == first.size
