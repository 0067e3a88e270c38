"""Who owns a data directory, and what a server that was killed left behind.

`DATA/lock` is locked for as long as the owner lives; `DATA/run.json` tells which processes it runs
and where their sockets are, for other commands and for the next owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from app.embedded.process import Process, ProcessId, identify
from app.errors import ConfigError
from app.logs import get_logger

STALE_PATIENCE = 10.0
"""Seconds that the children of a killed server get to end by themselves."""

RUNTIME_PREFIX = "mini-s3-"

LONGEST_BASE = 64
"""Bytes of the path of the folder for temporary files. The path of a unix socket has at most 107."""

log = get_logger("app.embedded")


@dataclass(frozen=True)
class RunState:
    """What a running server has: itself, its embedded databases ("" for outside ones), its children."""

    server: ProcessId
    runtime_dir: Path
    mongo_url: str = ""
    redis_url: str = ""
    children: Mapping[str, ProcessId] = field(default_factory=dict)


def running(data_dir: Path) -> RunState | None:
    """The server that runs on this data directory now, or None."""
    state = _read(data_dir / "run.json")
    return state if state and identify(state.server.pid) == state.server else None


class DataDir:
    """The ownership of one data directory. Get it with `take`, end it with `release`."""

    def __init__(self, path: Path, lock: int, state: RunState) -> None:
        self.path = path
        self._lock = lock
        self._state = state

    @classmethod
    async def take(cls, path: Path) -> DataDir:
        """Own `path`, which is made if it isn't there (mode 0700), and clear away what a killed owner left.

        Children of that owner which still run are ended: they get SIGTERM, then SIGKILL. Raises
        ConfigError if another server runs on the directory or it can't be used.
        """
        with _using(path):
            path, lock = _lock(path)
            try:
                await _clear_away(path)
                owned = cls(path, lock, RunState(_ourselves(), _make_runtime_dir()))
            except BaseException:
                os.close(lock)
                raise
            try:
                owned._write()
            except BaseException:
                owned.release()
                raise
            return owned

    @property
    def runtime_dir(self) -> Path:
        """An empty folder (mode 0700) with a short path, for sockets. It goes when the ownership ends."""
        return self._state.runtime_dir

    def folder(self, name: str) -> Path:
        """A folder inside the data directory, made if it isn't there (mode 0700). Raises ConfigError."""
        path = self.path / name
        with _using(path):
            path.mkdir(mode=0o700, exist_ok=True)
        return path

    def record_urls(self, mongo_url: str, redis_url: str) -> None:
        """Tell other commands where the embedded databases are."""
        self._update(replace(self._state, mongo_url=mongo_url, redis_url=redis_url))

    def record_child(self, name: str, pid: int) -> None:
        """Remember the process that runs as child `name`, for the next owner. Never raises."""
        process = identify(pid)
        if process is not None:
            self._update(replace(self._state, children={**self._state.children, name: process}))

    def release(self) -> None:
        """End the ownership, when all children have ended. The file `lock` stays, empty and unlocked."""
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        # Left over on a broken disk, they tell of a server that ended, which does no harm.
        with contextlib.suppress(OSError):
            (self.path / "run.json").unlink(missing_ok=True)
            os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def _update(self, state: RunState) -> None:
        # A server must go on when this can't be written: if it is killed, the kernel ends its children too.
        self._state = state
        try:
            self._write()
        except OSError as error:
            log.warning("run state not recorded", reason=str(error))

    def _write(self) -> None:
        # A rename, so that a reader sees the whole of it; no fsync, as nothing in it outlives the machine.
        new = self.path / "run.json.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self._state), file, default=str, indent=2)
        new.replace(self.path / "run.json")


@contextlib.contextmanager
def _using(path: Path) -> Iterator[None]:
    """What the operating system says about a data directory, in our words: ConfigError."""
    try:
        yield
    except OSError as error:
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is not a folder" if no_folder else error.strerror
        raise ConfigError(
            f"{path} can't be used for data: {reason}. It must be a folder that this user may write to; "
            "choose one with --data-dir (or MINI_S3_DATA_DIR)"
        ) from error


def _lock(path: Path) -> tuple[Path, int]:
    """The folder, absolute and made if need be, and an open file in it that holds the lock.

    Raises OSError, or ConfigError if another process holds the lock.
    """
    path = path.absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Never unlinked, else one server could lock the old file and another a new one.
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.close(lock)
        raise _taken(path, pid) from None
    except OSError:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return path, lock


def _taken(path: Path, pid: object) -> ConfigError:
    who = f" (process {pid})" if pid else ""
    return ConfigError(
        f"another Mini-S3{who} is running on {path}. "
        "Stop it, or choose another directory with --data-dir (or MINI_S3_DATA_DIR)"
    )


async def _clear_away(path: Path) -> None:
    """End what a killed owner left running and remove its sockets. Raises OSError, ConfigError."""
    state = _read(path / "run.json")
    if state is None:
        return
    if running(path):  # The lock file was removed by hand, or this file system's locks don't work.
        raise _taken(path, state.server.pid)
    for name, child in reversed(list(state.children.items())):
        await _end_stale(name, child)
    if state.runtime_dir.name.startswith(RUNTIME_PREFIX):
        shutil.rmtree(state.runtime_dir, ignore_errors=True)


async def _end_stale(name: str, child: ProcessId) -> None:
    try:
        process = Process(child.pid)
    except ProcessLookupError:
        return
    try:
        # Asked while the descriptor is held, so the number can't pass to another process in between.
        if identify(child.pid) != child:
            return
        log.warning("ending a child of a killed server", child=name, pid=child.pid)
        await process.end(STALE_PATIENCE)
        if not process.ended:
            raise ConfigError(f"{name} (process {child.pid}) of a killed Mini-S3 does not end; it may wait for a disk")
    except PermissionError as error:
        raise ConfigError(f"{name} (process {child.pid}) of a killed Mini-S3 runs as another user: end it") from error
    finally:
        process.close()


def _make_runtime_dir() -> Path:
    try:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > LONGEST_BASE:
            base = "/tmp"  # noqa: S108 (mkdtemp makes a name that can't be foreseen)
        return Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir=base))
    except OSError as error:
        raise ConfigError(f"There is no place for sockets: {error}. Name a temporary folder with TMPDIR") from error


def _ourselves() -> ProcessId:
    return identify(os.getpid()) or ProcessId(os.getpid(), "unknown")


def _read(path: Path) -> RunState | None:
    """None also for a file that is torn or of another version: whatever it told of is not ours to judge."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        raw = json.loads(path.read_bytes())
        return RunState(
            server=_process_id(raw["server"]),
            runtime_dir=Path(raw["runtime_dir"]),
            mongo_url=str(raw["mongo_url"]),
            redis_url=str(raw["redis_url"]),
            children={str(name): _process_id(child) for name, child in raw["children"].items()},
        )
    return None


def _process_id(raw: Mapping[str, object]) -> ProcessId:
    return ProcessId(int(str(raw["pid"])), str(raw["born"]))
