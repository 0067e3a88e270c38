"""Clients in mid-transfer when the server is killed: they try again, or are run again, and then everything is there."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.tools import MIB, Stock, contents, finished, kill_worker
from tests.faults.tools import transactions_end_after
from tests.support import Databases, blob_names, eventually

KILLS = 2


@pytest.fixture(autouse=True)
def _short_transactions(databases: Databases) -> Iterator[None]:
    """What a killed server left open is not in the way for long."""
    with databases.client() as client, transactions_end_after(client, 2):
        yield


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A tree as of sources: many small files, and some that are not."""
    rng = random.Random(7)
    for number in range(150):
        path = tmp_path / "sources" / str(number % 9) / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(100, 20_000)))
    for number in range(4):
        (tmp_path / "sources" / f"{number}.bin").write_bytes(rng.randbytes(9 * MIB))
    return tmp_path / "sources"


def run_through_kills(stock: Stock, *command: object) -> None:
    """Run a client until it succeeds; while it works, and something of it has arrived, the server is killed."""
    kills = 0
    while True:
        process = stock.start(*command)
        while kills < KILLS and in_the_middle(stock, process):
            kill_worker(stock.server)
            kills += 1
        code, said = finished(process)
        if code == 0:
            break
        assert kills, said
    assert kills


def in_the_middle(stock: Stock, process: subprocess.Popen[str]) -> bool:
    """Wait until more has arrived. False if the client has come to its end."""
    before = len(blob_names(stock.server))
    eventually(lambda: process.poll() is not None or len(blob_names(stock.server)) > before + 2)
    return process.poll() is None


def test_aws_s3_sync(stock: Stock, sources: Path) -> None:
    sync = (sys.executable, "-m", "awscli", "s3", "sync", "--no-progress", sources, stock.url)
    run_through_kills(stock, *sync)
    stock.aws("s3", "sync", "--no-progress", stock.url, stock.home / "back")
    assert contents(stock.home / "back") == contents(sources)


def test_a_repository_of_restic(stock: Stock, sources: Path) -> None:
    restic = (stock.program("restic"), "--no-cache")
    stock.run(*restic, "init")
    run_through_kills(stock, *restic, "backup", sources)
    stock.run(*restic, "unlock", "--remove-all")
    stock.run(*restic, "check", "--read-data")
    stock.run(*restic, "restore", "latest", "--target", stock.home / "back")
    assert contents(stock.home / "back" / sources.relative_to("/")) == contents(sources)
