"""Disks, MongoDB and Redis fail in turn under one server, while clients work and the collector runs.

Wrong bytes are never sent, and no acknowledged file is lost; calls fail with 503 or 507 at the worst; a
check beside all this finds nothing wrong but the disk itself; and everything recovers without a restart.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from app.embedded.data_dir import running
from tests.faults.crashing import Load, check_what_was_promised
from tests.faults.tools import GENEROUS
from tests.support import Server, eventually

DISK = """
import errno, os

def concerned(place):
    if isinstance(place, int):
        try:
            place = os.readlink(f"/proc/self/fd/{{place}}")
        except OSError:
            return False
    return str(place).startswith({nodes!r})

def failing(name, call):
    def called(place, *rest, **named):
        if concerned(place):
            try:
                faults = dict(line.split() for line in open({control!r}))
            except FileNotFoundError:
                faults = {{}}
            if name in faults:
                number = getattr(errno, faults[name])
                raise OSError(number, os.strerror(number), str(place))
        return call(place, *rest, **named)
    return called

for name in ("write", "readv", "fdatasync", "fsync", "unlink", "rename", "scandir"):
    setattr(os, name, failing(name, getattr(os, name)))
"""

DISK_FAULTS = {
    "no space": ("write ENOSPC", set()),
    "no write": ("write EIO", set()),
    "no sync of data": ("fdatasync EIO", set()),
    "no sync of names": ("fsync EIO", set()),
    "no read": ("readv EIO", {"blob-unreadable"}),
    "no removal": ("unlink EIO", set()),
    "no rename": ("rename EIO", set()),
    "no listing": ("scandir EIO", {"node-absent"}),
}
"""What fails, and of which kinds a check may find something then."""


class Faults:
    def __init__(self, server: Server, control: Path) -> None:
        self._server = server
        self._control = control

    @contextmanager
    def disk(self, fault: str) -> Iterator[None]:
        self._control.write_text(fault)
        try:
            yield
        finally:
            self._control.unlink()

    def signal(self, child: str, number: signal.Signals) -> None:
        state = running(self._server.data_dir)
        assert state
        os.kill(state.children[child].pid, number)

    @contextmanager
    def paused(self, child: str) -> Iterator[None]:
        self.signal(child, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(child, signal.SIGCONT)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    disk = DISK.format(nodes=str(tmp_path / "data" / "nodes"), control=str(tmp_path / "faults"))
    (tmp_path / "sitecustomize.py").write_text(disk)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = Server(tmp_path, grace=0, gc_interval=0.1, **GENEROUS)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def at_work(load: Load) -> Iterator[None]:
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        # With rests, or the collector, which gives way to clients, would hardly ever get its turn.
        working = pool.submit(load.run_while, lambda: not over.is_set(), 4, rest=0.2)
        try:
            yield
        finally:
            over.set()
            working.result()


def goes_on(load: Load) -> None:
    """Clients upload, and the collector collects."""
    for number in (lambda: len(load.kept) + len(load.deleted), lambda: removed(load.server)):
        before = number()
        eventually(lambda number=number, before=before: number() > before + 4)


def removed(server: Server) -> int:
    return sum(event.get("chunks", 0) for event in server.events("collected"))


def check(server: Server, code: int, kinds: set[str]) -> None:
    """A check beside the server finds nothing but this, and the litter of a disk that removes nothing."""
    command = [sys.executable, "-m", "app", "check", "--data-dir", server.data_dir, "--read-data", "--json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    found = {finding["kind"] for finding in json.loads(done.stdout)["findings"]} if done.stdout else set()
    assert found - {"unnamed-blob"} == kinds, done.stdout
    assert done.returncode == (code or bool(found)), done.stdout + done.stderr


def test_everything_fails_in_turn_and_nothing_is_lost(server: Server, tmp_path: Path) -> None:
    load, faults = Load(server), Faults(server, tmp_path / "faults")
    # The first collection lists all nodes, and gives way to clients, so that it would take very long beside them.
    eventually(lambda: server.client.get("/api/stats").json()["lastCollection"])
    with at_work(load):
        goes_on(load)
        for name, (fault, kinds) in DISK_FAULTS.items():
            print(name)
            with faults.disk(fault):
                check(server, 1 if kinds else 0, kinds)
            goes_on(load)
        for child in ("mongod", "redis"):
            with faults.paused(child):
                eventually(refuses(load) if child == "mongod" else lambda: len(load.kept))
                check(server, 2 if child == "mongod" else 0, set())
            goes_on(load)
            faults.signal(child, signal.SIGKILL)
            goes_on(load)
        state = running(server.data_dir)
        assert state
        with redis.Redis.from_url(state.redis_url) as client:
            client.flushall()
        goes_on(load)
    assert {503, 507} <= set(load.refused)
    check_what_was_promised(load)


def refuses(load: Load) -> Callable[[], bool]:
    before = len(load.refused)
    return lambda: len(load.refused) > before
