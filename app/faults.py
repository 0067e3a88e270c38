"""Named points of the code at which tests pause a task or kill the process.

Every step that leaves something behind for others to finish has a point after it, so that a crash,
or any other actor, can be put between any two steps. Outside tests nothing listens at them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Point = Literal[
    # A writer
    "looked-up",
    "named",
    "blob-begun",
    "blob-renamed",
    "blobs-written",
    "live",
    "commit-begun",
    "commit-half-done",
    "committed",
    "part-begun",
    "part-committed",
    # The collector
    "upload-ended",
    "page-half-released",
    "page-released",
    "unreferenced-seen",
    "claimed",
    "blobs-unlinked",
    "removed",
    # The sweeper
    "blobs-listed",
    "unnamed-seen",
    # A mover of blobs
    "copy-named",
    "copied",
    "switched",
    "copy-dropped",
    # A removal of a node
    "removal-begun",
    "removal-checked",
]

POINTS: tuple[Point, ...] = get_args(Point)

KILL_VARIABLE = "MINI_S3_KILL_AT"
"""`point` or `point:n` in a worker's environment: kill the process when it passes there the nth time."""

Pause = Callable[[Point], Awaitable[None]]

_kill_at: list[str] = []
_pause: Pause | None = None


def passed(point: Point) -> None:
    """Tell that the code, in whatever thread, is at this point."""
    if _kill_at and _kill_at[-1] == point:
        _kill_at.pop()
        if not _kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


async def pause(point: Point) -> None:
    """As `passed`, where the task may also be held up."""
    passed(point)
    if _pause is not None:
        await _pause(point)


def arm() -> None:
    """Take up what the environment says. Raises ValueError where it names no point."""
    point, _, count = os.environ.get(KILL_VARIABLE, "").partition(":")
    if point:
        if point not in POINTS:
            raise ValueError(f"{KILL_VARIABLE} names no point of the code: {point}")
        _kill_at[:] = [point] * int(count or 1)


@contextmanager
def pausing(hook: Pause) -> Iterator[None]:
    """Await `hook` at every point where a task may be held up."""
    global _pause  # noqa: PLW0603 - one process, one listener
    _pause = hook
    try:
        yield
    finally:
        _pause = None
