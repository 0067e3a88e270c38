"""Progress bars on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from app.upkeep.pace import Progress, Silence


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class _Shown:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", visible=False)

    def stage(self, name: str, total: int) -> None:
        self._bars.reset(self._task, description=name, total=total, visible=True)

    def advance(self, units: int) -> None:
        self._bars.advance(self._task, units)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with rate and time to go on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Silence()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Shown(bars)
