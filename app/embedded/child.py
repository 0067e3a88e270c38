"""One supervised child process: made ready, started again when it dies, ended when asked.

Nothing here starts a thread: deaths are noticed through the event loop. See `tie_to_parent` for
why that matters.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.embedded.process import Process, tie_to_parent
from app.errors import ConfigError
from app.logs import get_logger

POLL = 0.02
"""Seconds between two looks at whether a starting child is ready."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds before a dead child is started again; doubled from the first to the longest."""

STEADY = 10.0
"""A child that ran for so many seconds has recovered: its next death counts as a first one."""

LONGEST_LOG = 16 << 20
"""Bytes; a longer log is put aside (`.old`) when its child starts. So at most two are kept."""

TAIL = 16 << 10
"""Bytes at the end of a log in which the reason of a failed start is looked for."""

log = get_logger("app.embedded")


def last_lines(_code: int | None, words: str) -> str:
    """What a program said last."""
    return "\n".join(words.splitlines()[-5:])


@dataclass(frozen=True)
class Program:
    """How one child is run.

    `ready` is asked again and again, on the event loop, until it says yes; it must answer at once.
    `env` is added to our environment. What the child prints is appended to `log`, or goes where
    ours goes if that is None. `explain` turns the exit code of a failed first start (negative for a
    signal, None if it still runs) and its last printed words into what people should be told.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    start_patience: float = 60.0
    stop_patience: float = 10.0
    if_we_die: signal.Signals = signal.SIGTERM
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    log: Path | None = None
    explain: Callable[[int | None, str], str] = last_lines


class Child:
    """Keeps one process of a program running from `start` to `stop`.

    The process has a session of its own, so that Ctrl-C in the terminal reaches only us, and it
    gets the signal `if_we_die` from the kernel when we end in whatever way. `on_spawn` is called
    after each start of a process, before the process is ready; it must not raise.
    """

    def __init__(self, program: Program, on_spawn: Callable[[Child], None] | None = None) -> None:
        self.program = program
        self._on_spawn = on_spawn
        self._popen: subprocess.Popen[bytes] | None = None
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The number of the running process; None between two, before the first, after the last."""
        return self._process.pid if self._process and not self._process.ended else None

    async def start(self) -> None:
        """Start the process and wait until it is ready; from then on it is kept running.

        Raises ConfigError, with the reason and the child's last words, if it can't be started, dies
        before it is ready, or isn't ready in time. Then, and when cancelled, nothing is left running.
        """
        try:
            process = self._spawn()
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(f"{self.program.name} can't be run: {error}") from error
        try:
            await self._until_ready(process)
        except BaseException:
            await self.stop()
            raise
        log.info("child ready", child=self.program.name, pid=self.pid)
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep {self.program.name}")

    async def stop(self, patience: float | None = None) -> None:
        """End the process: SIGTERM, and SIGKILL if that did not do in `patience` seconds.

        The default is the program's `stop_patience`. May be called twice, or without a start.
        """
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._process is None or self._popen is None:
            return
        if not await self._process.end(self.program.stop_patience if patience is None else patience):
            log.warning("child killed", child=self.program.name, ended=self._process.ended)
        self._process.close()
        self._popen.poll()

    async def _until_ready(self, process: Process) -> None:
        name, patience = self.program.name, self.program.start_patience
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not self.program.ready():
            if await process.wait(POLL):
                raise ConfigError(f"{name} did not start: it ended with {self._how()}{self._last_words()}")
            if loop.time() > deadline:
                raise ConfigError(f"{name} was not ready after {patience:g} seconds{self._last_words()}")

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while self._process is not None:
            started = loop.time()
            await self._process.wait()
            delay = FIRST_DELAY if loop.time() - started >= STEADY else delay
            log.error("child died", child=self.program.name, how=self._how(), again_in=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
            try:
                self._spawn()
                log.info("child started again", child=self.program.name, pid=self.pid)
            except (OSError, subprocess.SubprocessError) as error:
                # The dead process stays in its place, so the next round comes here after a longer delay.
                log.error("child not started", child=self.program.name, reason=str(error))

    def _spawn(self) -> Process:
        output = self._open_log()
        try:
            popen = subprocess.Popen(  # noqa: S603 (the command is ours)
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.program.cwd,
                env={**os.environ, **self.program.env},
                pass_fds=self.program.pass_fds,
                start_new_session=True,
                preexec_fn=tie_to_parent(self.program.if_we_die),  # noqa: PLW1509 (safe: we have one thread)
            )
        finally:
            if output is not None:
                output.close()
        try:
            self._process = Process(popen.pid)
        except OSError:
            popen.kill()
            popen.wait()
            raise
        self._popen = popen
        if self._on_spawn is not None:
            self._on_spawn(self)
        return self._process

    def _open_log(self) -> IO[bytes] | None:
        path = self.program.log
        if path is None:
            return None
        if path.exists() and path.stat().st_size > LONGEST_LOG:
            path.replace(path.with_name(f"{path.name}.old"))
        output = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        self._log_start = path.stat().st_size
        return output

    def _how(self) -> str:
        code = self._popen.poll() if self._popen is not None else None
        if code is not None and code < 0:
            return signal.strsignal(-code) or f"signal {-code}"
        return f"exit code {code}"

    def _last_words(self) -> str:
        code = self._popen.poll() if self._popen is not None else None
        path = self.program.log
        if path is None:
            reason = self.program.explain(code, "")
            return f".\n{reason}" if reason else ""
        with path.open("rb") as output:
            output.seek(max(self._log_start, path.stat().st_size - TAIL))
            words = output.read().decode(errors="replace").strip()
        reason = self.program.explain(code, words)
        return f".\n{reason}\n(more in {path})" if reason else f" (its log is {path})"
