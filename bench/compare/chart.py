"""The comparison as a small SVG: a bar for each system in each step, the spread over the rounds as a line."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from bench.compare.figures import BARE, GRIDFS, OURS, PER_SECOND, RATE, SEAWEED, Results, Spread
from bench.compare.tables import number

_COLOURS = {OURS: "#2563eb", SEAWEED: "#16a34a", GRIDFS: "#d97706", BARE: "#9ca3af"}
_WIDTH, _LEFT, _RIGHT = 720, 190, 70
_BAR, _GAP, _HEAD = 12, 10, 24
"""Pixels."""


def draw(results: Results, caption: str) -> str:
    """One panel with the rates of large files, one with those of small ones; each has its own scale."""
    parts: list[str] = []
    y = 16.0
    for figure in (RATE, PER_SECOND):
        rows = [(step, systems) for step, each, systems in results.rows() if each == figure]
        if rows:
            y += _HEAD
            parts.append(_text(12, y - 8, figure, weight="bold"))
            longest = max(spread.high for _, systems in rows for spread in systems.values())
            for step, systems in rows:
                parts += _group(step, systems, y, longest)
                y += len(systems) * _BAR + _GAP
    parts.append(_text(12, y + 14, caption, colour="#6b7280"))
    height = y + 26
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" font-family="system-ui, sans-serif" font-size="11">'
    )
    back = f'<rect width="{_WIDTH}" height="{height:g}" rx="6" fill="#ffffff"/>'
    return "\n".join([head, back, *_legend(), *parts, "</svg>\n"])


def _legend() -> Iterator[str]:
    x = 12.0
    for name, colour in _COLOURS.items():
        yield f'<rect x="{x:g}" y="8" width="10" height="10" fill="{colour}"/>'
        yield _text(x + 14, 17, name)
        x += 40 + 7 * len(name)


def _group(step: str, systems: dict[str, Spread], y: float, longest: float) -> Iterator[str]:
    yield _text(12, y + len(systems) * _BAR / 2 + 4, step)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    for name, spread in systems.items():
        width, middle = spread.median * scale, y + _BAR / 2
        yield f'<rect x="{_LEFT}" y="{y:g}" width="{width:.1f}" height="{_BAR - 2}" fill="{_COLOURS[name]}"/>'
        low, high = (_LEFT + value * scale for value in (spread.low, spread.high))
        yield f'<path d="M{low:.1f} {middle - 1:g}H{high:.1f}" stroke="#111827" stroke-opacity="0.6"/>'
        yield _text(max(high, _LEFT + width) + 5, y + _BAR - 3, number(spread.median))
        y += _BAR


def _text(x: float, y: float, words: str, *, weight: str = "normal", colour: str = "#111827") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-weight="{weight}">{escape(words)}</text>'
