"""Files on their way, as people see them: a bar for each large one and one for all on a terminal, else a line now and
then."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from app.cli.text import size
from app.client import Watch

_WIDE = 28
"""Characters of a name that a bar shows."""
_SHOWN = 1 << 20
"""Bytes from which a file has a bar of its own: smaller ones would only flicker."""
_EVERY = 10.0
"""Seconds between two plain lines, and between two words on why it takes so long."""


class _Amount(ProgressColumn):
    """Bytes, of how many if that is known."""

    def render(self, task: Task) -> Text:
        done = size(int(task.completed))
        return Text(done if task.total is None else f"{done} of {size(int(task.total))}")


class Row(Watch):
    """One file: its bar, if it has one, and its part in the total."""

    def __init__(self, transfers: Transfers, bar: TaskID | None) -> None:
        self._transfers = transfers
        self.bar = bar
        self._hashed = self._moved = self._spared = 0

    def hashed(self, size: int) -> None:
        self._hashed += size
        self._show()

    def moved(self, size: int) -> None:
        self._moved += size
        self._transfers.advance(size, 0)
        self._show()

    def spared(self, size: int) -> None:
        self._spared += size
        self._transfers.advance(0, size)
        self._show()

    def _show(self) -> None:
        done = self._moved + self._spared
        note = f"read {size(self._hashed)}" if self._hashed > done else ""
        self._transfers.show(self.bar, done, note)


class _Comparing(Watch):
    def __init__(self, transfers: Transfers, bar: TaskID | None) -> None:
        self._transfers = transfers
        self._bar = bar
        self._hashed = 0

    def hashed(self, size: int) -> None:
        self._hashed += size
        self._transfers.show(self._bar, self._hashed, "")


class Transfers:
    """Lines about what is done go to standard output, above the bars; everything else to standard error."""

    def __init__(self, total: int | None, moved: str, spared: str, *, quiet: bool) -> None:
        """`total`: bytes of all files, if that is known. `moved` and `spared` are the words for bytes that went over
        the network, and for those that did not have to."""
        self.moved = self.spared = 0
        self._total = total
        self._words = moved, spared
        self._quiet = quiet
        self._began = self._told = self._warned = monotonic()
        console = Console(stderr=True)
        self._bars: Progress | None = None
        if console.is_terminal and not quiet:
            self._bars = _bars(console)
            self._all = self._bars.add_task("in all", total=total, note="")

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
        bar = None
        if self._bars and (total is None or total > _SHOWN):
            shown = name if len(name) <= _WIDE else f"…{name[1 - _WIDE :]}"
            bar = self._bars.add_task(shown, total=total, note="")
        return Row(self, bar)

    def comparing(self) -> Watch:
        """Local files are read, to compare them."""
        return _Comparing(self, self._bars.add_task("comparing", total=None, note="") if self._bars else None)

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
        if even_if_quiet or not self._quiet:
            click.echo(line)

    def note(self, line: str) -> None:
        if not self._quiet:
            self.fail(line)

    def fail(self, line: str) -> None:
        """What went wrong, which is told in any case."""
        if self._bars:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            _to_error(line)

    def waiting(self, error: Exception, seconds: float) -> None:
        """A request is to be tried again."""
        now = monotonic()
        if now - self._warned >= _EVERY or self._warned == self._began:
            self._warned = now
            self.fail(f"{error} Trying again in {seconds:.0f} s.")

    def advance(self, moved: int, spared: int) -> None:
        self.moved += moved
        self.spared += spared
        if self._bars:
            self._bars.update(self._all, completed=self.moved + self.spared, note=self.split)
        elif not self._quiet and monotonic() - self._told >= _EVERY:
            self._told = monotonic()
            _to_error(self._line())

    def show(self, bar: TaskID | None, done: int, note: str) -> None:
        if self._bars and bar is not None:
            self._bars.update(bar, completed=done, note=note)

    @property
    def split(self) -> str:
        moved, spared = self._words
        return f"{moved} {size(self.moved)}, {spared} {size(self.spared)}"

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

    def _line(self) -> str:
        done, rate = self.moved + self.spared, (self.moved + self.spared) / self.seconds
        told = f"{size(done)} in {self.seconds:.0f} s, {size(int(rate))}/s; {self.split}"
        if self._total and rate:
            told = f"{done / self._total:.0%} of {size(self._total)}, {(self._total - done) / rate:.0f} s to go; {told}"
        return told


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        _Amount(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )


def _to_error(line: str) -> None:
    click.echo(line, err=True)
