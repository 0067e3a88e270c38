"""Processes as the kernel tells them apart: by a descriptor, or by number *and* birth.

A process number alone is never trusted, because numbers are given out again. Linux 5.3 or later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KILL_PATIENCE = 10.0
"""Seconds that SIGKILL gets. Only a process stuck inside the kernel (a hanging disk) needs longer."""

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_libc.prctl.restype = ctypes.c_int


@dataclass(frozen=True)
class ProcessId:
    """Names one process for ever, also after its number was given to another.

    `born` is opaque: it holds the boot of the machine and the moment of the start in that boot.
    """

    pid: int
    born: str


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None if there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    state, *fields = stat[stat.rindex(b")") + 1 :].decode().split()
    return None if state in "ZX" else ProcessId(pid, f"{boot}/{fields[18]}")


class Process:
    """A process held by a descriptor; it need not be our child. Belongs to the running event loop.

    The constructor raises ProcessLookupError if nothing has the number, OSError if the kernel is too old.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fd = os.pidfd_open(pid)
        self._loop.add_reader(self._fd, self._on_end)

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to a process that has ended it does nothing. Raises PermissionError."""
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, at most for `seconds`; whether it has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self.ended

    async def end(self, patience: float) -> bool:
        """Ask it to end (SIGTERM), after `patience` seconds force it (SIGKILL).

        Returns whether it ended when asked; look at `ended` for whether it has ended at all.
        Raises PermissionError if it belongs to someone else.
        """
        self.send(signal.SIGTERM)
        if await self.wait(patience):
            return True
        self.send(signal.SIGKILL)
        await self.wait(KILL_PATIENCE)
        return False

    def close(self) -> None:
        """Let go of the process without ending it. May be called twice."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_end(self) -> None:
        self.close()
        self._ended.set()


def tie_to_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` for Popen: the kernel signals the child when the thread that started it ends.

    Running Python between fork and exec is safe only in a process of one thread, which the
    supervising parent is; that one thread must also be the one that lives as long as the process.
    """
    parent = os.getpid()
    prctl, getppid = _libc.prctl, os.getppid

    def tie() -> None:
        if prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        # If the parent ended before the call above, that signal will never come.
        if getppid() != parent:
            os._exit(1)

    return tie
