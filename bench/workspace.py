"""A place for large temporary files that is gone afterwards, however the program ends."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NoSpace(Exception):
    """No folder has the room that is needed."""


@contextmanager
def workspace(need: int, parent: Path | None = None) -> Iterator[Path]:
    """A new folder on a disk with `need` free bytes: in `parent` if that is given.

    It is removed at the end of the block, also on an error, Ctrl-C, SIGTERM or SIGHUP. The signals
    raise SystemExit with the customary code. Raises NoSpace.
    """
    places = [parent] if parent else _usual_places()
    place = next((place for place in places if free_bytes(place) >= need), None)
    if place is None:
        have = "; ".join(f"{place} has {gib(free_bytes(place))}" for place in places)
        raise NoSpace(f"This needs {gib(need)} of free disk. {have}. Name another folder with --dir.")
    before = {number: signal.signal(number, _leave) for number in _ENDING}
    folder = Path(tempfile.mkdtemp(prefix="mini-s3-bench-", dir=place))
    try:
        yield folder
    finally:
        with undisturbed():
            shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore the signals that end a program, so that clearing away gets done."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there; 0 if there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def gib(count: float) -> str:
    """For people: 3.00 GiB, and smaller amounts in MiB."""
    return f"{count / (1 << 30):,.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):,.1f} MiB"


def _usual_places() -> list[Path]:
    """/var/tmp goes before /tmp, which often is memory."""
    chosen = os.environ.get("TMPDIR")
    places = [*([chosen] if chosen else []), "/var/tmp", tempfile.gettempdir(), "."]
    return [Path(place).absolute() for place in places if os.access(place, os.W_OK | os.X_OK)]


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for each in _ENDING:  # Once is enough: what follows is clearing away.
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
