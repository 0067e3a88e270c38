"""`mini-s3 serve` and `mini-s3 node serve` in processes of their own, for as long as a block runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from app.cli.text import FAILED_TO_RUN
from app.embedded.process import tie_to_parent
from bench.http import Client
from bench.workspace import undisturbed

STOP_PATIENCE = 60.0
"""Seconds. The server gives running requests 30, its worker 5 more, and mongod 30."""

NODE_TOKEN = "bench"

_ROOT = Path(__file__).parents[1]

_ROLES = {
    "app.worker": "worker",
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
    words = ("serve", "--port", "0", "--data-dir", str(folder / "data"), *flags)
    with _running([(words, folder / "server.log")]) as (server,):
        yield server


@contextmanager
def running_nodes(*folders: Path, flags: Sequence[str] = ()) -> Iterator[list[Server]]:
    """The same for node servers, each of which keeps its blobs in a folder; callers need `NODE_TOKEN`."""
    words = ("node", "serve", "--port", "0", "--token", NODE_TOKEN, "--log-level", "warning", *flags)
    with _running([((*words, "--dir", str(each)), each.with_name(f"{each.name}.log")) for each in folders]) as servers:
        yield servers


@contextmanager
def _running(commands: Sequence[tuple[Sequence[str], Path]]) -> Iterator[list[Server]]:
    """Commands of `mini-s3` that serve, each with its log, started side by side."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(words, log)) for words, log in commands]
        yield [_listening(process, log) for process, (_, log) in zip(processes, commands, strict=True)]


@contextmanager
def _started(words: Sequence[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *words],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=_environment(),
            # Ctrl-C is for us alone; if we are killed, it ends too.
            start_new_session=True,
            preexec_fn=tie_to_parent(SIGTERM),  # noqa: PLW1509 (no other thread runs yet)
        )
    try:
        yield process
    finally:
        with undisturbed():
            _end(process)


def _listening(process: subprocess.Popen[str], log: Path) -> Server:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if "listening on" not in line:
        raise ServerFailed(f"The server did not start. {line}\n{log.read_text(errors='replace')[-4000:]}")
    return Server(line.rpartition(" ")[2], process.pid)


def told(*words: str) -> Any:
    """What a command of `mini-s3` that knows `--json` tells of a store. Raises ServerFailed with its own words
    where it could not run."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *words, "--json"],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    if done.returncode == FAILED_TO_RUN:
        raise ServerFailed(f"`mini-s3 {words[0]}` could not run. {done.stderr[-4000:]}")
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}


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
