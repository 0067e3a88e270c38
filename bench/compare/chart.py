"""The comparison as an SVG: in each step a bar for each system, and a line from its worst round to its best.

`python -m bench.compare.chart` draws it anew from compare.json. The card is white and has a border, so
that it reads the same on light and on dark pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.compare.figures import BARE, GRIDFS, OURS, PER_SECOND, RATE, SEAWEED
from bench.compare.tables import number

RESULT = Path(__file__).parent / "result"

_PANELS = {RATE: "Large files, MB/s (longer is better)", PER_SECOND: "Small files, requests/s (longer is better)"}
_COLOURS = {OURS: "#2563eb", SEAWEED: "#16a34a", GRIDFS: "#d97706", BARE: "#9ca3af"}
_INK, _PALE = "#111827", "#4b5563"
_WIDTH, _EDGE = 800, 16
_LEFT, _RIGHT = 206, 152
"""Room for the names of steps, and for a figure with the name of its system."""
_BAR, _GAP, _HEAD, _LINE = 16, 14, 28, 18
"""Heights, all in pixels."""


def draw(report: dict[str, Any]) -> str:
    """One panel with the rates of large files, one with those of small ones; each has its own scale."""
    parts: list[str] = []
    y = float(_EDGE)
    for figure, heading in _PANELS.items():
        rows = [(row["step"], row["systems"]) for row in report["figures"] if row["figure"] == figure]
        if rows:
            parts.append(_text(_EDGE, y + 14, heading, font_weight="bold", font_size=14))
            y += _HEAD
            scale = (_WIDTH - _LEFT - _RIGHT) / max(each["max"] for _, systems in rows for each in systems.values())
            for step, systems in rows:
                parts += _group(step, systems, y, scale)
                y += len(systems) * _BAR + _GAP
            y += _GAP
    for line in _notes(report):
        y += _LINE
        parts.append(_text(_EDGE, y - _LINE / 2, line, fill=_PALE, font_size=12))
    height = y + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" font-family="system-ui, sans-serif" font-size="13" fill="{_INK}" role="img">'
    )
    title = f"<title>{escape(_title(report))}</title>"
    card = (
        f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:g}" rx="6" fill="#ffffff" stroke="#d1d5db"/>'
    )
    return "\n".join([head, title, card, *parts, "</svg>\n"])


def _title(report: dict[str, Any]) -> str:
    names = [name for name in _COLOURS if any(name in row["systems"] for row in report["figures"])]
    return f"Throughput of {', '.join(names)}"


def _notes(report: dict[str, Any]) -> Iterator[str]:
    """What was done, what is drawn, on what; in lines that fit."""
    plan, machine = report["plan"], report["machine"]
    yield (
        f"Large: {plan['mib']:,} MiB of random bytes; at once: {plan['at_once']} of {plan['each_mib']} MiB. "
        f"Small: 4 KiB, {plan['connections']} connections."
    )
    yield f"Bars are medians of {plan['rounds']} rounds, thin lines go from the slowest to the fastest round."
    yield "The bare handler parses the form and stores nothing. Client, servers and databases share the machine:"
    yield f"{machine['cores']} cores, {machine['processor']}."


def _group(step: str, systems: dict[str, dict[str, float]], y: float, scale: float) -> Iterator[str]:
    """The bars of one step, each with its figure and the name of its system behind it, and their base line."""
    top, bottom = y, y + len(systems) * _BAR
    yield _text(_LEFT - 10, (top + bottom) / 2 + 4, step, text_anchor="end")
    for name, spread in systems.items():
        width, middle = spread["median"] * scale, y + _BAR / 2
        low, high = (_LEFT + spread[end] * scale for end in ("min", "max"))
        yield f'<rect x="{_LEFT}" y="{y + 1:g}" width="{width:.1f}" height="{_BAR - 2}" fill="{_COLOURS[name]}"/>'
        ends = f"M{low:.1f} {middle - 3:g}v6m0 -3H{high:.1f}m0 -3v6"
        yield f'<path d="{ends}" fill="none" stroke="#ffffff" stroke-width="3.5"/>'
        yield f'<path d="{ends}" fill="none" stroke="{_INK}" stroke-width="1.2"/>'
        yield _text(max(high, _LEFT + width) + 7, y + _BAR - 3.5, f"{number(spread['median'])} {name}")
        y += _BAR
    yield f'<path d="M{_LEFT} {top - 2:g}V{bottom + 2:g}" stroke="{_PALE}"/>'


def _text(x: float, y: float, words: str, **look: str | int) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in look.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'


if __name__ == "__main__":
    (RESULT / "compare.svg").write_text(draw(json.loads((RESULT / "compare.json").read_text())))
