"""Servers of a comparison: free ports, a process for as long as a block runs, the processor time it took."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from time import monotonic, sleep

from app.embedded.process import tie_to_parent
from bench.server import ServerFailed
from bench.workspace import undisturbed

START_PATIENCE = 60.0
"""Seconds that a server may take until it answers."""

STOP_PATIENCE = 5.0
"""Seconds before a server that was asked to stop is killed: what it stored is removed anyway."""

_FOREIGN = ("MINI_S3_", "AWS_", "WEED_")
"""Settings in the environment that would make a server another one than its defaults do."""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def running(
    command: Sequence[str], folder: Path, log: Path, ready: Callable[[], bool], cwd: Path | None = None
) -> Iterator[int]:
    """Run a server with `folder` as its home and for its temporary files; yield its process number when it is ready.

    Raises ServerFailed with its last words. The caller must have no other thread yet: see `tie_to_parent`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd or folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, "HOME": str(folder), "TMPDIR": str(folder)},
            start_new_session=True,
            preexec_fn=tie_to_parent(SIGTERM),  # noqa: PLW1509 (no other thread runs yet)
        )
    try:
        deadline = monotonic() + START_PATIENCE
        while not ready():
            if process.poll() is not None or monotonic() > deadline:
                words = log.read_text(errors="replace")[-2000:]
                raise ServerFailed(f"{Path(command[0]).name} did not start.\n{words}")
            sleep(0.05)
        yield process.pid
    finally:
        with undisturbed():
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes took so far, in user and kernel mode. Raises OSError."""
    ticks = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        # After the program's name, which is in parentheses: the state is field 3, utime 14, stime 15.
        fields = stat.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
