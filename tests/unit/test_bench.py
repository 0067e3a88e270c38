"""The demonstration, on a tiny scale, and the micro-benchmarks, unmeasured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console

from bench.demo import Download, Upload, first_difference, table, tell_outcome
from bench.http import MIB
from bench.material import Source, build, edit, find_sources, read_blocks
from bench.memory import Load, Measured, Stopped, at_once, stamped
from bench.memory import table as memory_table
from bench.network import Reads
from bench.workspace import NoSpace, gib, workspace
from tests.support import eventually

ROOT = Path(__file__).parents[2]


def _blocks(path: Path) -> list[bytes]:
    return [bytes(block) for block in read_blocks(path)]


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    found = []
    for name, size in (("a", 2 * MIB), ("b", MIB // 2 + 7)):
        (tmp_path / name).write_bytes(os.urandom(size))
        found.append(Source(tmp_path / name, size, "test"))
    return found


def _uploads(*, stored_again: int = 0) -> list[Upload]:
    stored = (3 * MIB, stored_again, MIB)
    return [
        Upload(
            name,
            name,
            Path(name),
            4 * MIB,
            2.0,
            {
                "chunks": {"total": 4, "new": each // MIB, "linked": 4 - each // MIB},
                "bytes": {"received": 4 * MIB, "stored": each},
            },
        )
        for name, each in zip(("first", "second", "third"), stored, strict=True)
    ]


def _printed(*things: object) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(*things)
    return capture.get()


# ---- the file


def test_the_file_is_the_sources_again_and_again_with_edits_in_place(tmp_path: Path, sources: list[Source]) -> None:
    material = build(tmp_path / "made", sources, 8)
    blocks = _blocks(material.path)
    whole = b"".join(source.path.read_bytes() for source in sources)
    assert (material.size, len(blocks), material.blocks_in_copy) == (8 * MIB, 8, 3)
    assert b"".join(blocks[:3]) == whole.ljust(3 * MIB, b"\0")
    changed = [index for index in range(3, 8) if blocks[index] != blocks[index % 3]]
    assert 0 < len(changed) < 5
    for index in changed:
        assert sum(a != b for a, b in zip(blocks[index], blocks[index % 3], strict=True)) <= 64


def test_the_same_sources_make_the_same_file(tmp_path: Path, sources: list[Source]) -> None:
    assert _blocks(build(tmp_path / "one", sources, 7).path) == _blocks(build(tmp_path / "two", sources, 7).path)


def test_sources_larger_than_the_file_are_cut(tmp_path: Path, sources: list[Source]) -> None:
    material = build(tmp_path / "made", sources, 2)
    assert material.blocks_in_copy == 2
    assert material.path.read_bytes() == sources[0].path.read_bytes()


def test_one_block_in_a_hundred_is_overwritten_in_the_edited_version(tmp_path: Path, sources: list[Source]) -> None:
    material = build(tmp_path / "made", sources, 200)
    assert edit(material, tmp_path / "edited") == 2
    pairs = zip(_blocks(material.path), _blocks(tmp_path / "edited"), strict=True)
    assert sum(before != after for before, after in pairs) == 2


def test_sources_are_real_files_cut_to_what_is_wanted() -> None:
    sources = find_sources(5 * MIB)
    assert sum(source.size for source in sources) == 5 * MIB
    assert all(source.path.stat().st_size >= source.size for source in sources)
    assert sources == find_sources(5 * MIB)


# ---- what is told


@pytest.mark.parametrize(
    ("received", "expected", "differs_at"),
    [
        ([b"a", b"b"], [b"a", b"b"], None),
        ([], [], None),
        ([b"a", b"x"], [b"a", b"b"], MIB),
        ([b"a"], [b"a", b"b"], MIB),
        ([b"a", b"b"], [b"a"], MIB),
    ],
)
def test_the_first_difference_is_found(received: list[bytes], expected: list[bytes], differs_at: int | None) -> None:
    def blocks(parts: list[bytes]) -> Iterator[bytearray]:
        return map(bytearray, parts)

    assert first_difference(blocks(received), blocks(expected)) == differs_at


def test_the_table_sums_up_what_was_stored() -> None:
    text = _printed(table(_uploads(), [Download("Download the first", 4 * MIB, 1.0, None)]))
    rows = {line.split("│")[0].strip(): [cell.strip() for cell in line.split("│")[1:]] for line in text.splitlines()}
    assert rows["first"] == ["2.00 s", "2", "3", "1", "4.0 MiB", "3.0 MiB", "1.33"]
    assert rows["third"] == ["2.00 s", "2", "1", "3", "12.0 MiB", "4.0 MiB", "3.00"]
    assert rows["Download the first"][:2] == ["1.00 s", "4"]


@pytest.mark.parametrize(
    ("differs_at", "stored_again", "stored", "good"),
    [
        (None, 0, 4 * MIB, True),
        (0, 0, 4 * MIB, False),
        (None, MIB, 5 * MIB, False),
        (None, 0, 5 * MIB, False),
    ],
)
def test_the_outcome_is_good_only_if_all_is(differs_at: int | None, stored_again: int, stored: int, good: bool) -> None:
    stats = {"files": 3, "logicalBytes": 12 * MIB, "storedBytes": stored, "chunks": 4, "dedupRatio": 3.0}
    downloads = [Download("Download the first", 4 * MIB, 1.0, differs_at)]
    assert tell_outcome(_uploads(stored_again=stored_again), downloads, stats, Console(quiet=True)) is good


def test_amounts_are_readable() -> None:
    assert (gib(3 << 30), gib(5 * MIB // 2)) == ("3.00 GiB", "2.5 MiB")


# ---- the memory measurement


def test_generated_blocks_are_all_different() -> None:
    blocks = [bytes(block) for number in range(3) for block in stamped(number, 4, Event())]
    assert len(set(blocks)) == len(blocks) == 12
    assert {len(block) for block in blocks} == {MIB}


def test_when_one_transfer_fails_the_others_stop_and_its_error_is_raised() -> None:
    def transfer(number: int, over: Event) -> None:
        if number == 3:
            raise ValueError("no more")
        assert over.wait(30)
        raise Stopped

    with pytest.raises(ValueError, match="no more"):
        at_once(5, transfer)


def test_memory_counts_worker_and_supervisor_against_the_budget() -> None:
    peaks = {"worker": 150 * MIB, "supervisor": 51 * MIB, "mongod": 900 * MIB}
    measured = Measured(f"upload {Load(50, 100, 0)}", 10.0, 5000 * MIB, peaks, 200 * MIB)
    assert (measured.ours, measured.within) == (201 * MIB, False)
    assert Measured("download", 10.0, 1, peaks, None).within
    text = _printed(memory_table([measured]))
    assert "upload 50 x 100 MiB at once" in text
    assert "201" in text


# ---- single stages


def test_every_micro_benchmark_runs() -> None:
    """Once each and unmeasured. They check what the stages answer."""
    made = subprocess.run(
        [sys.executable, "-m", "bench.micro", "--benchmark-disable"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    assert re.search(r"\d+ passed in", made.stdout)
    assert "skipped" not in made.stdout


# ---- the whole


def test_without_room_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="--dir"), workspace(1 << 60, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def _processes_of(folder: Path) -> list[str]:
    """The command lines in which this folder is named."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def _demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.demo", "--dir", str(folder), *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "MINI_S3_MONGO_URL": "mongodb://127.0.0.1:1/"},  # A user's own; not ours to use.
    )


def test_the_demo_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with _demo(tmp_path, "--mib", "8") as process:
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert "byte for byte" in text
    assert "3 files: 24.0 MiB logical" in text
    assert list(tmp_path.iterdir()) == []
    assert _processes_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with _demo(tmp_path, "--mib", "64") as process:
        assert process.stdout is not None
        eventually(lambda: "Mini-S3 runs at" in process.stdout.readline() or process.poll() is not None)
        process.send_signal(number)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, text
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []
    assert _processes_of(tmp_path) == []


def test_reads_beside_a_hurt_node_are_told_as_multiples_of_calm_ones() -> None:
    reads = Reads(calm=[0.01] * 190 + [0.1] * 10, hurt=[0.02] * 190 + [0.15] * 10)
    assert str(reads) == "p50  2.00 x, p99  1.50 x the calm 10.0 and 100.0 ms; 200 and 200 reads"
