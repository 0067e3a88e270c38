"""The measurement of redundancy: what it does with its stores and makes of their figures. No server is started."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from rich.console import Console

from app.types import Redundancy
from bench import redundancy
from bench.http import MIB
from bench.redundancy import DIRECTORIES, DOWN, NODES, REPAIR, SERVERS, UP, Rates, disk, measure, notes, table


@dataclass
class FakeStand:
    """Notes in `turns` what it is asked for; a node that is away makes it slower."""

    place: str
    redundancy: str
    turns: list[tuple[str, str, str, int]]
    lost: set[int] = field(default_factory=set)

    def upload(self, number: int, blocks: int) -> float:
        self._note("upload", number)
        return blocks / (1 + Redundancy.parse(self.redundancy).spare)

    def download(self, number: int, blocks: int) -> float:
        self._note("download", number)
        return float(2 * blocks - len(self.lost))

    def repair(self, node: int) -> float:
        self._note("repair", node)
        return 8.0

    def lose(self, node: int) -> None:
        self.lost.add(node)

    def _note(self, what: str, number: int) -> None:
        self.turns.append((self.place, self.redundancy, what, number))


@pytest.fixture
def turns() -> list[tuple[str, str, str, int]]:
    return []


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch, turns: list[tuple[str, str, str, int]]) -> list[FakeStand]:
    monkeypatch.setattr(redundancy, "REDUNDANCIES", ("1", "2", "ec:4+2"))
    return [FakeStand(place, each, turns) for place in (DIRECTORIES, SERVERS) for each in redundancy.REDUNDANCIES]


@pytest.fixture
def rates(stands: list[FakeStand]) -> Rates:
    made = Rates()
    measure(stands, made, 3, 16, Console(quiet=True))  # type: ignore[arg-type]
    return made


def test_the_disk_holds_every_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redundancy, "REDUNDANCIES", ("1", "2", "ec:4+2"))
    assert disk(4, 100) - disk(2, 100) == 2 * 2 * 100 * MIB * (1 + 2 + 1.5)


def test_ratios_are_to_one_copy_on_the_same_nodes(rates: Rates) -> None:
    assert rates.ratio(DIRECTORIES, UP, "2") == 0.5
    assert rates.ratio(SERVERS, REPAIR, "2") == 8 / 16
    assert rates.ratio(SERVERS, f"{DOWN}, 2 nodes gone", "ec:4+2") == 30 / 32
    with pytest.raises(KeyError):
        rates.ratio(DIRECTORIES, f"{DOWN}, 2 nodes gone", "2")


def test_another_store_begins_each_round(
    stands: list[FakeStand], rates: Rates, turns: list[tuple[str, str, str, int]]
) -> None:
    assert rates.spread(DIRECTORIES, UP, "1")
    uploads = [(place, each) for place, each, what, number in turns if what == "upload" and number]
    rounds = [uploads[at : at + len(stands)] for at in range(0, len(uploads), len(stands))]
    assert len({each[0] for each in rounds}) == len(rounds) == 3
    assert all(set(each) == set(rounds[0]) for each in rounds)


def test_no_more_nodes_are_taken_away_than_may_be(stands: list[FakeStand], rates: Rates) -> None:
    assert [len(stand.lost) for stand in stands] == [0, 1, 2, 0, 1, 2]
    assert rates.spread(DIRECTORIES, f"{DOWN}, 2 nodes gone", "2") is None


def test_nodes_are_repaired_before_any_is_gone(rates: Rates, turns: list[tuple[str, str, str, int]]) -> None:
    assert rates.rows
    repaired = [(each, node) for place, each, what, node in turns if what == "repair" and place == SERVERS]
    assert repaired == [("2", NODES - 1), ("ec:4+2", NODES - 1), ("2", NODES - 2), ("ec:4+2", NODES - 2)]


def test_the_table_has_a_rate_and_a_ratio_for_each_redundancy(rates: Rates) -> None:
    console = Console(width=140, no_color=True)
    with console.capture() as capture:
        console.print(table(rates))
    head, _, *rows = capture.get().splitlines()
    assert [word.strip() for word in head.split("┃")] == [
        "nodes",
        "MB/s",
        "1",
        "ratio",
        "2",
        "ratio",
        "ec:4+2",
        "ratio",
    ]
    cells = [[cell.strip() for cell in row.split("│")] for row in rows]
    assert [row[:2] for row in cells] == [
        *([DIRECTORIES, UP], ["", DOWN], ["", REPAIR], ["", f"{DOWN}, 1 node gone"], ["", f"{DOWN}, 2 nodes gone"]),
        *([SERVERS, UP], ["", DOWN], ["", REPAIR], ["", f"{DOWN}, 1 node gone"], ["", f"{DOWN}, 2 nodes gone"]),
    ]
    assert cells[0][2:] == [*("16.0 (16.0–16.0)", "1.00"), *("8.00 (8.00–8.00)", "0.50"), "5.33 (5.33–5.33)", "0.33"]  # noqa: RUF001
    assert cells[4][2:6] == ["", "", "", ""]


def test_the_notes_tell_how_the_goals_were_met(rates: Rates) -> None:
    text = "\n".join(notes(rates, 3, 16))
    assert "Uploads with 2 on directories: 0.50, to be at least 0.6 - missed" in text
    assert "Uploads with ec:4+2 on node servers: 0.33, to be at least 0.55 - missed" in text
