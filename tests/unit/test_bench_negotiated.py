"""The measurement of negotiated uploads, on a small file and a real server."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from bench.http import MIB
from bench.negotiated import CASES, CHANGED, FORGOTTEN, NEW, REMEMBERED, House, table
from bench.server import Server as Measured
from tests.support import Server

BLOCKS = 3
LISTS = 2000
"""Bytes that asking and completing take at the most."""


def test_one_round(server: Server, tmp_path: Path) -> None:
    sample = House(Measured(server.url, server.process.pid), tmp_path, BLOCKS).measure()
    puts = {case: put.sent for case, (put, _) in sample.items()}
    assert BLOCKS * MIB < puts[NEW] < BLOCKS * MIB + LISTS
    assert 0 < puts[REMEMBERED] < 500
    assert puts[REMEMBERED] < puts[FORGOTTEN] < LISTS
    assert MIB < puts[CHANGED] < MIB + LISTS
    assert all(BLOCKS * MIB < plain.sent < BLOCKS * MIB + LISTS for _, plain in sample.values())
    assert all(put.cpu > 0 < put.seconds for put, _ in sample.values())
    console = Console(width=100, file=StringIO(), record=True)
    console.print(table([sample, sample], BLOCKS))
    shown = console.export_text()
    for case in CASES:
        assert case in shown
