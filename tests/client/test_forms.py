"""Small files: together, refused one by one, and not twice where an answer was lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.client import Client, Forbidden, NotRegular, Outcome, Unreachable, Upload, Wanted, forms
from app.errors import BadRequest
from tests.client.tools import MIB, Counting, Middle
from tests.e2e.helpers import KeyFor
from tests.s3.conftest import ROOT
from tests.support import Server

pytestmark = pytest.mark.anyio


def some(folder: Path, prefix: str, count: int, size: int = 100) -> list[Wanted]:
    made = []
    for number in range(count):
        path = folder / str(number)
        path.write_bytes(os.urandom(size))
        made.append(Wanted(path, f"{prefix}{number}"))
    return made


async def stored(client: Client, prefix: str) -> dict[str, bytes]:
    return {file.name.removeprefix(prefix): await client.get_bytes(file) async for file in client.files(prefix)}


async def test_many_small_files_go_together(middle: Middle, prefix: str, tmp_path: Path) -> None:
    wanted = some(tmp_path, prefix, 7)
    outcomes: list[Outcome] = []
    async with Client(middle.url, ROOT) as client:
        await client.put_all(wanted, outcomes.append)
        assert middle.requests == ["POST /api/upload"]
        assert sorted(outcome.wanted.name for outcome in outcomes) == [one.name for one in wanted]
        for outcome in outcomes:
            assert isinstance(outcome.result, Upload)
            assert outcome.result.file.name == outcome.wanted.name
        assert await stored(client, prefix) == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("most", "forms_sent"), [((3, MIB), 3), ((100, 250), 4), ((100, 700), 1), ((100, 1), 7)])
async def test_forms_are_bounded(
    middle: Middle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: tuple[int, int], forms_sent: int
) -> None:
    prefix = f"bounded-{most}/"
    monkeypatch.setattr(forms, "MOST_FILES", most[0])
    monkeypatch.setattr(forms, "MOST_BYTES", most[1])
    async with Client(middle.url, ROOT, jobs=1) as client:
        await client.put_all(some(tmp_path, prefix, 7), lambda _: None)
        assert middle.requests.count("POST /api/upload") == forms_sent
        assert len(await stored(client, prefix)) == 7


async def test_each_file_gets_its_own_answer(
    store_server: Server, key_for: KeyFor, prefix: str, tmp_path: Path
) -> None:
    """One of a form may be refused, or can't be read: the others are stored all the same."""
    keys = key_for("--owner", "narrow", "--prefix", prefix)
    wanted = some(tmp_path, prefix, 3)
    wanted[1] = Wanted(wanted[1].path, "elsewhere")
    wanted += [
        Wanted(tmp_path / "none", prefix + "none"),
        Wanted(tmp_path, prefix + "folder"),
        Wanted(wanted[0].path, prefix + os.fsdecode(b"\xff")),
    ]
    found: dict[str, object] = {}
    async with Client(store_server.url, keys) as client:
        await client.put_all(wanted, lambda outcome: found.update({outcome.wanted.name: outcome.result}))
        assert set(await stored(client, prefix)) == {"0", "2"}
    kinds = [type(found[one.name]) for one in wanted]
    assert kinds == [Upload, Forbidden, Upload, FileNotFoundError, NotRegular, BadRequest]


async def test_watches_hear_of_small_files(client: Client, prefix: str, tmp_path: Path) -> None:
    watch = Counting()
    await client.put_all([Wanted(one.path, one.name, watch=watch) for one in some(tmp_path, prefix, 3)], lambda _: None)
    assert watch.totals == {"hashed": 0, "moved": 300, "spared": 0}


@pytest.mark.parametrize("may_list", [True, False])
async def test_an_answer_that_was_lost(
    middle: Middle, client: Client, key_for: KeyFor, prefix: str, tmp_path: Path, may_list: bool
) -> None:
    """The files are found in the list; who may not list sends them again."""
    keys = ROOT if may_list else key_for("--owner", "blind", "--allow", "write")
    lost = 0

    def losing(piece: bytes) -> bytes | None:
        nonlocal lost
        if lost or b"201 Created" not in piece:
            return piece
        lost += 1
        return None

    wanted = some(tmp_path, prefix, 3)
    names = [one.name for one in wanted]
    async with Client(middle.url, keys) as unlucky:
        middle.heard = losing
        outcomes: list[Outcome] = []
        await unlucky.put_all(wanted, outcomes.append)
    assert lost == 1
    results = [outcome.result for outcome in outcomes]
    assert [result.file.name for result in results if isinstance(result, Upload)] == names
    assert sorted([file.name async for file in client.files(prefix)]) == sorted(names * (1 if may_list else 2))


async def test_older_files_are_not_taken_for_those_of_a_lost_answer(
    middle: Middle, client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await client.put_bytes(b"x", prefix + "a")).file
    monkeypatch.setattr(forms, "_TOLERANCE", forms._TOLERANCE * 0)
    refused = 0

    def refusing(piece: bytes) -> bytes | None:
        nonlocal refused
        refused += 1
        return None if refused == 1 else piece

    async with Client(middle.url, ROOT) as unlucky:
        await unlucky.ping()
        middle.heard = refusing
        monkeypatch.setattr(forms, "monotonic", iter([0.0, -3600.0]).__next__)
        after = (await unlucky.put_bytes(b"x", prefix + "a")).file
    assert after.id != before.id


async def test_a_server_that_stays_away_fails_all_of_a_form_at_once(
    middle: Middle, prefix: str, tmp_path: Path
) -> None:
    middle.heard = lambda _: None
    outcomes: list[Outcome] = []
    async with Client(middle.url, ROOT, patience=0.2) as client:
        await client.put_all(some(tmp_path, prefix, 3), outcomes.append)
    assert [type(outcome.result) for outcome in outcomes] == [Unreachable] * 3


@pytest.mark.parametrize("name", ['a"b', "a\r\nb: c", "a\\b", "%22", "ü/日本", " ", "a;b"])
async def test_names_of_all_kinds(client: Client, prefix: str, name: str) -> None:
    assert (await client.put_bytes(b"x", prefix + name)).file.name == prefix + name
