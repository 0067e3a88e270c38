"""Files on their way, as people see them: a bar for each large one and one for all on a terminal, else a line now and
then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Self

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from app.cli.text import plain, size
from app.client import Watch

_ROOMY = 100
"""Columns of a terminal from which names and bars may be long."""
_SHOWN = 1 << 20
"""Bytes from which a file has a bar of its own: smaller ones would only flicker."""
_EVERY = 10.0
"""Seconds between two plain lines, and between two words on why it takes so long."""


class Row(Watch):
    """One file: its bar, if it has one, and its part in the total."""

    def __init__(self, transfers: Transfers, bar: TaskID | None) -> None:
        self._transfers = transfers
        self.bar = bar
        self._hashed = self._done = 0

    def hashed(self, size: int) -> None:
        self._hashed += size
        self._show()

    def moved(self, size: int) -> None:
        self._done += size
        self._transfers.advance(size, 0)
        self._show()

    def spared(self, size: int) -> None:
        self._done += size
        self._transfers.advance(0, size)
        self._show()

    def _show(self) -> None:
        self._transfers.show(self.bar, self._done, 0 if self._done else self._hashed)


class _Comparing(Watch):
    def __init__(self, transfers: Transfers, bar: TaskID | None) -> None:
        self._transfers = transfers
        self._bar = bar
        self._hashed = 0

    def hashed(self, size: int) -> None:
        self._hashed += size
        self._transfers.show(self._bar, 0, self._hashed)


class Transfers:
    """Lines about what is done go to standard output, above the bars; everything else to standard error."""

    def __init__(self, total: int | None, moved: str, spared: str, *, quiet: bool) -> None:
        """`total`: bytes of all files, if that is known. `moved` and `spared` are the words for bytes that went over
        the network, and for those that did not have to."""
        self.moved = self.spared = 0
        self._total = total
        self._words = moved, spared
        self._quiet = quiet
        self._began = self._told = monotonic()
        self._warned: float | None = None
        console = Console(stderr=True)
        self._bars: _Bars | None = None
        if console.is_terminal and not quiet:
            self._bars = _Bars(console)
            self._all = self._bars.add_task("in all", total=total, hashed=0)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def row(self, name: str, total: int | None) -> Row:
        """A file begins."""
        shown = self._bars and (total is None or total > _SHOWN)
        return Row(self, self._bars.begin(name, total) if self._bars and shown else None)

    def comparing(self) -> Watch:
        """Local files are read, to compare them."""
        return _Comparing(self, self._bars.begin("comparing", None) if self._bars else None)

    def expect(self, total: int) -> None:
        """So many bytes are to come."""
        self._total = total
        if self._bars:
            self._bars.update(self._all, total=total)

    def end(self, row: Row) -> None:
        """A file is done, or given up."""
        if self._bars and row.bar is not None:
            self._bars.remove_task(row.bar)

    def say(self, line: str, *, even_if_quiet: bool = False) -> None:
        if self._bars and sys.stdout.isatty():
            self._bars.write(line)
        elif even_if_quiet or not self._quiet:
            click.echo(line)

    def note(self, line: str) -> None:
        if not self._quiet:
            self.fail(line)

    def fail(self, line: str) -> None:
        """What went wrong, which is told in any case."""
        if self._bars:
            self._bars.write(line)
        else:
            click.echo(line, err=True)

    def waiting(self, error: Exception, seconds: float) -> None:
        """A request is to be tried again."""
        now = monotonic()
        if self._warned is None or now - self._warned >= _EVERY:
            self._warned = now
            self.note(f"{error} Trying again in {seconds:.0f} s.")

    def advance(self, moved: int, spared: int) -> None:
        self.moved += moved
        self.spared += spared
        if self._bars:
            self._bars.footer = self.split
            self.show(self._all, self.moved + self.spared)
        elif not self._quiet and monotonic() - self._told >= _EVERY:
            self._told = monotonic()
            self.note(self._line())

    def show(self, bar: TaskID | None, done: int, hashed: int = 0) -> None:
        if self._bars and bar is not None:
            self._bars.update(bar, completed=done, hashed=hashed)

    @property
    def split(self) -> str:
        moved, spared = self._words
        return f"{moved} {size(self.moved)}, {spared} {size(self.spared)}"

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

    def _line(self) -> str:
        done = self.moved + self.spared
        rate = done / self.seconds
        told = f"{size(done)} in {self.seconds:.0f} s, {size(int(rate))}/s; {self.split}"
        if self._total and rate:
            told = f"{done / self._total:.0%} of {size(self._total)}, {(self._total - done) / rate:.0f} s to go; {told}"
        return told


class _Amount(ProgressColumn):
    """Bytes, of how many if that is known; before the first one moves, those that were read."""

    def render(self, task: Task) -> Text:
        hashed: int = task.fields["hashed"]
        done = f"read {size(hashed)}" if hashed else size(int(task.completed))
        return Text(done if task.total is None else f"{done} of {size(int(task.total))}")


class _Rate(ProgressColumn):
    """Bytes a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{size(int(task.speed))}/s" if task.speed else "")


class _Bars(Progress):
    """A line for each file, and one below."""

    def __init__(self, console: Console) -> None:
        self.footer = ""
        roomy = console.width >= _ROOMY
        self._wide = 36 if roomy else 20
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20 if roomy else 8),
            _Amount(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.footer)

    def begin(self, name: str, total: int | None) -> TaskID:
        shown = plain(name)
        if len(shown) > self._wide:
            shown = f"…{shown[1 - self._wide :]}"
        return self.add_task(shown, total=total, hashed=0)

    def write(self, line: str) -> None:
        """Above the bars."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
