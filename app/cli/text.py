"""How commands tell their results: numbers and tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

FAILED_TO_RUN = 2

as_json_option = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON")


lines_as_json_option = click.option("--json", "as_json", is_flag=True, help="Write each file as JSON, in a line")


def say(as_json: bool, view: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Write a result for programs, or for people."""
    click.echo(json.dumps(view, indent=2) if as_json else "\n".join(lines))


def size(count: int) -> str:
    """Bytes in binary units, as `1.5 GiB`."""
    amount, units = float(count), iter(("KiB", "MiB", "GiB", "TiB"))
    if amount < 1024:
        return f"{count} B"
    unit = ""
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:,.1f} {unit}"


def plain(text: str) -> str:
    """A name without signs that a terminal would heed."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def columns(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """The cells below each other: the first `left` of each row and the last begin there, the others end there."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*(_padded(row, at, width, left) for at, width in enumerate(widths)), row[-1]]) for row in rows]


def _padded(row: Sequence[str], at: int, width: int, left: int) -> str:
    return row[at].ljust(width) if at < left else row[at].rjust(width)
