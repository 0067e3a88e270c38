"""`mini-s3 serve` on its embedded defaults, in processes of its own, for as long as a block runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from app.embedded.process import tie_to_parent
from bench.http import Client
from bench.workspace import undisturbed

STOP_PATIENCE = 60.0
"""Seconds. The server gives running requests 30, its worker 5 more, and mongod 30."""

TOKEN = "bench"
"""Of the node servers."""

_ROLES = {
    "app.server": "worker",
    "mongod": "mongod",
    "valkey-server": "redis",
    "redis-server": "redis",
}


class ServerFailed(Exception):
    """The server did not start."""


@dataclass(frozen=True)
class Server:
    url: str
    pid: int

    @property
    def client(self) -> Client:
        return Client(self.url)

    def processes(self) -> dict[str, list[int]]:
        """Process numbers by role: supervisor, worker, mongod, redis. Not named: whatever else it runs."""
        found = {"supervisor": [self.pid]}
        for child in _children(self.pid):
            with suppress(OSError):
                # Valkey rewrites its own into one word with spaces.
                words = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").split()
                role = next((_ROLES[name] for name in map(_basename, words) if name in _ROLES), None)
                if role:
                    found.setdefault(role, []).append(child)
        return found


@contextmanager
def running_server(folder: Path, *flags: str) -> Iterator[Server]:
    """Run a server on a free port, with its data under `folder`; end it when the block ends.

    Settings in the environment are left out, so that nobody's real store is written to.
    Raises ServerFailed with the server's own words.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(folder / "data"), *flags],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")},
            # Ctrl-C is for us alone; if we are killed, it ends too.
            start_new_session=True,
            preexec_fn=tie_to_parent(SIGTERM),  # noqa: PLW1509 (no other thread runs yet)
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if "listening on" not in line:
            raise ServerFailed(f"The server did not start. {line}\n{log.read_text(errors='replace')[-4000:]}")
        yield Server(line.rpartition(" ")[2], process.pid)
    finally:
        with undisturbed():
            _end(process)


@contextmanager
def running_node(folder: Path) -> Iterator[str]:
    """The URL of a node server on a free port, in a process of its own, that stores in `folder`."""
    words = ["-m", "app", "node", "serve", "--port", "0", "--dir", str(folder), "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MINI_S3_NODE_TOKEN": TOKEN},
        start_new_session=True,
        preexec_fn=tie_to_parent(SIGTERM),  # noqa: PLW1509 (no other thread runs yet)
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        with undisturbed():
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()  # The kernel ends its children then.
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            stat = (entry / "stat").read_text(errors="replace")
            # After the program's name, which is in parentheses: the state, then the parent.
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def _basename(word: str) -> str:
    return word.rpartition("/")[2]
