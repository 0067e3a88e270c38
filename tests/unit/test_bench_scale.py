"""The measurement of workers: what it does with two servers and makes of their figures. No server is started."""

from __future__ import annotations

import pytest
from rich.console import Console

from bench import scale
from bench.compare import load
from bench.http import HttpError
from bench.scale import LARGE_DOWN, LARGE_UP, SMALL_DOWN, SMALL_UP, Busy, Sample, Scaling, measure_round, notes, table


class FakeServer:
    """Keeps what it is given, and notes in `turns` who is asked for what."""

    def __init__(self, address: str, turns: list[tuple[str, str]], *, spoils: bool = False) -> None:
        self.address = address
        self._turns = turns
        self._spoils = spoils
        self._stored: dict[str, bytes] = {}

    def upload(self, data: bytes, name: str) -> str:
        self._turns.append((self.address, "upload"))
        self._stored[name] = data
        return name

    def download(self, key: str, into: bytearray) -> None:
        self._turns.append((self.address, "download"))
        into[:] = self._stored[key]
        if self._spoils:
            into[-1] ^= 1

    def cpu(self) -> dict[str, float]:
        return {"server": 1.0, "database": 1.0}


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []

    def run(given: load.Load) -> load.Done:
        made.append((given.address, given.kind))
        assert given.kind == "form" or given.paths == (f"/{given.seed}",)
        return load.Done(7.0 if given.kind == "form" else 9.0, 1.0, (f"/{given.seed}",), 0.1)

    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(scale, "settle", lambda: None)
    return made


@pytest.fixture
def scaling() -> Scaling:
    made = Scaling(1, 2)
    for one, two in ((100, 150), (120, 200), (80, 210)):
        for step in (SMALL_UP, SMALL_DOWN, LARGE_UP, LARGE_DOWN):
            made.add(step, 1, Sample(one, Busy(0.9, 0.3)))
            made.add(step, 2, Sample(two, Busy(1.5, 0.4)))
    return made


def test_the_ratio_is_that_of_the_medians(scaling: Scaling) -> None:
    assert scaling.ratio(SMALL_UP) == 2.0
    assert (scaling.rates(LARGE_UP, 2).low, scaling.rates(LARGE_UP, 2).high) == (150, 210)
    assert scaling.busy(SMALL_DOWN, 2) == Busy(1.5, 0.4)
    assert scaling.rounds == 3


def test_the_table_has_both_servers_side_by_side(scaling: Scaling) -> None:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(table(scaling))
    head, _, *rows = capture.get().splitlines()
    assert [word.strip() for word in head.split("┃")] == [
        *("step", "", "1 worker", "2 workers", "ratio", "cores, 1 worker", "cores, 2 workers"),
    ]
    cells = [[cell.strip() for cell in row.split("│")] for row in rows]
    assert [row[:2] for row in cells] == [
        *(["small uploads", "per second"], ["small downloads", "per second"]),
        *(["8 uploads at once", "MB/s"], ["8 downloads at once", "MB/s"]),
    ]
    assert cells[0][2:] == ["100 (80.0–120)", "200 (150–210)", "2.00", "0.90 + 0.30", "1.50 + 0.40"]  # noqa: RUF001


def test_the_notes_say_who_shares_the_cores(scaling: Scaling) -> None:
    text = " ".join(notes(scaling, 2, 96))
    assert "The client, MongoDB and the workers share the 2 cores" in text
    assert "3 rounds" in text
    assert "96 MiB" in text


def test_both_servers_take_every_step_and_turns_to_go_first(turns: list[tuple[str, str]]) -> None:
    both = {workers: FakeServer(f"server-{workers}", turns) for workers in (1, 4)}
    scaling = Scaling(1, 4)
    for turn, first in ((0, "server-1"), (1, "server-4")):
        turns.clear()
        measure_round(turn, both, scaling, 1, 1.0)
        assert turns[0][0] == first
        large = [address for address, kind in turns if kind == "upload"]
        assert large == sorted(large, key=lambda address: address != first)
        for address in ("server-1", "server-4"):
            kinds = [kind for each, kind in turns if each == address]
            assert kinds == ["form", "get", *["upload"] * 8, *["download"] * 16]
    assert scaling.rounds == 2
    for workers in (1, 4):
        assert scaling.rates(SMALL_UP, workers).samples == (7.0, 7.0)
        assert scaling.rates(SMALL_DOWN, workers).samples == (9.0, 9.0)
        assert min(scaling.rates(LARGE_UP, workers).samples + scaling.rates(LARGE_DOWN, workers).samples) > 0


def test_a_wrong_byte_ends_the_measurement(turns: list[tuple[str, str]]) -> None:
    both = {1: FakeServer("a", turns), 2: FakeServer("b", turns, spoils=True)}
    with pytest.raises(HttpError, match="b: the bytes"):
        measure_round(0, both, Scaling(1, 2), 1, 1.0)
