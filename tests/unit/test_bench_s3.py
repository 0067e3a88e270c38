"""The comparison of S3 APIs: what it does with both and makes of their figures. No server is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import s3
from bench.compare import load, rounds, systems, wire
from bench.compare.figures import OURS, PER_SECOND, RATE, SEAWEED, SMALL_DOWN, SMALL_UP, Results, judge
from bench.compare.rounds import Plan
from bench.compare.tables import figures_table
from bench.http import MIB, HttpError
from bench.s3 import BOTO_DOWN, BOTO_UP, GET, GET_AGAIN, GOALS, PARTS, PUT, disk, notes, run_round

PLAN = Plan(4, 2, 8, 1, 8, 1.0)


@dataclass
class FakeApi(systems.S3Api):
    """Keeps what it is given, and notes in `turns` who is asked for what; one object comes back spoiled."""

    name: str
    turns: list[tuple[str, str]]
    spoils: str = ""
    stored: dict[str, bytes] = field(default_factory=dict, repr=False)

    def upload(self, data: bytes, name: str) -> str:
        return self._take("upload", data, name)

    def upload_in_parts(self, parts: Sequence[bytes], name: str) -> str:
        assert [len(part) for part in parts] == [MIB] * 8
        return self._take("parts", b"".join(parts), name)

    def upload_file(self, path: str, bucket: str, name: str) -> None:
        assert bucket == "bench"
        self._take("file", Path(path).read_bytes(), name)

    def download(self, key: str, into: bytearray) -> None:
        into[:] = self._give("download", key)

    def download_file(self, bucket: str, key: str, path: str) -> None:
        assert bucket == "bench"
        Path(path).write_bytes(self._give("file back", key))

    def cpu(self) -> dict[str, float]:
        return {"server": 1.0}

    def _take(self, what: str, data: bytes, name: str) -> str:
        assert data not in self.stored.values()
        self.turns.append((self.name, what))
        self.stored[name] = data
        return name

    def _give(self, what: str, key: str) -> bytes:
        self.turns.append((self.name, what))
        data = self.stored[key]
        return data[:-1] + bytes([data[-1] ^ 1]) if self.spoils == key else data


@pytest.fixture
def turns() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, turns: list[tuple[str, str]]) -> list[FakeApi]:
    made = [FakeApi(f"127.0.0.1:{number}", name, turns) for number, name in enumerate((OURS, SEAWEED))]

    def run(given: load.Load) -> load.Done:
        name = next(api.name for api in made if api.address == given.address)
        turns.append((name, f"{given.connections} {given.kind}"))
        return load.Done(7.0, 1.0, (f"{given.prefix}0",), 0.1)

    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(rounds, "settle", lambda: None)
    monkeypatch.setattr(s3, "mini_s3_api", lambda _: nullcontext(made[0]))
    monkeypatch.setattr(s3, "seaweed", lambda _: nullcontext(made[1]))
    monkeypatch.setattr(s3, "boto_client", lambda address: next(api for api in made if api.address == address))
    return made


@pytest.fixture
def results() -> Results:
    made = Results()
    for step, ours, other in ((PUT, 500, 200), (GET, 780, 800), (GET_AGAIN, 900, 800), (PARTS, 400, 210)):
        for each in (ours - 10, ours, ours + 10):
            made.add(step, RATE, OURS, each)
            made.add(step, RATE, SEAWEED, other)
    return made


def test_both_systems_take_every_step_and_turns_to_go_first(
    both: list[FakeApi], turns: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert s3.main.callback
    s3.main.callback(rounds=2, mib=16, seconds=1.0, parent=tmp_path)
    assert {what for _, what in turns[:6]} == {"upload", "download", "4 put"}
    for each, first in ((turns[6:24], OURS), (turns[24:], SEAWEED)):
        assert each[0] == (first, "upload")
        assert [what for _, what in each[:6]] == ["upload"] * 2 + ["download"] * 4
        for name in (OURS, SEAWEED):
            assert [what for whose, what in each if whose == name] == [
                *("upload", "download", "download", "parts", "download", "file", "file back", "8 put", "8 get"),
            ]
    said = capsys.readouterr().out
    for step in (PUT, GET, GET_AGAIN, PARTS, BOTO_UP, BOTO_DOWN, SMALL_UP, SMALL_DOWN):
        assert re.search(rf"^{step} +│ (MB/s|per second) +│ +[1-9].*│ +[1-9].*│ +[0-9.]+$", said, re.MULTILINE)
    assert re.search(r"\b(met|missed)\b", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "at"), [("new-0", 4), ("parts-0", 10), ("file-0", 14)])
def test_a_wrong_byte_ends_the_measurement(
    both: list[FakeApi], turns: list[tuple[str, str]], tmp_path: Path, key: str, at: int
) -> None:
    both[1].spoils = key
    with pytest.raises(HttpError, match=r"SeaweedFS: .* differ"):
        run_round(both, "0", PLAN, tmp_path, Results())
    assert len(turns) == at


def test_goals_are_judged_by_the_medians(results: Results) -> None:
    judged = [(each.goal.step, each.goal.against, each.value, each.met) for each in judge(results, GOALS)]
    assert judged == [
        (PUT, SEAWEED, 2.5, True),
        (PARTS, SEAWEED, pytest.approx(1.905, abs=0.001), False),
        (PARTS, f"{PUT}: {OURS}", 0.8, False),
        (GET, SEAWEED, 0.975, False),
        (GET_AGAIN, SEAWEED, 1.125, True),
    ]


def test_the_table_has_both_and_their_ratio(results: Results) -> None:
    results.add(SMALL_UP, PER_SECOND, OURS, 1)
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(figures_table(results, s3.COMPARED))
    head, _, *rows = capture.get().splitlines()
    assert [word.strip() for word in head.split("┃")] == ["step", "figure", OURS, SEAWEED, "ratio"]
    cells = [[cell.strip() for cell in row.split("│")] for row in rows]
    assert cells[0] == [PUT, RATE, "500 (490–510)", "200 (200–200)", "2.50"]  # noqa: RUF001
    assert cells[-1][3:] == ["", ""]


def test_the_notes_tell_sizes() -> None:
    text = " ".join(notes(Plan(4, 1024, 8, 64, 8, 5.0)))
    for words in ("4 rounds", "1,024 MiB", "8 of 64 MiB", "over 8 connections", "boto3"):
        assert words in text


def test_the_disk_holds_every_object_of_both_and_the_files_of_boto3() -> None:
    plan = Plan(3, 1024, 8, 64, 8, 5.0)
    assert disk(replace(plan, rounds=4)) - disk(plan) == 2 * (1024 + 512 + 1024) * MIB
    assert disk(plan) > 2 * 3 * (1024 + 512 + 1024) * MIB + 2 * 1024 * MIB


def test_an_upload_that_fails_after_200_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>", b"<Error/>"]
    monkeypatch.setattr(wire, "post", lambda *_: answers.pop(0))
    monkeypatch.setattr(wire, "put", lambda *_: '"etag"')
    with pytest.raises(HttpError, match="/bench/a was not completed: <Error/>"):
        systems.S3Api("127.0.0.1:1").upload_in_parts([b"part"], "a")


@pytest.mark.parametrize("lacks", ["room", "weed"])
def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacks: str) -> None:
    if lacks == "room":
        monkeypatch.setattr(s3, "disk", lambda _: 1 << 60)
    monkeypatch.setattr(systems.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(s3.main, ["--dir", str(tmp_path), "--mib", "80", "--rounds", "1"])
    assert done.exit_code == 1
    assert ("--dir" if lacks == "room" else "pip install -e '.[bench]'") in done.output
    assert list(tmp_path.iterdir()) == []
