"""The comparison as people read it: figures, ratios and goals, promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from bench.compare.figures import (
    DEDUPLICATED,
    PROMISES,
    SYNCED,
    SYSTEMS,
    VERIFIED,
    Goal,
    Judged,
    Results,
    Spread,
)


def figures_table(results: Results, systems: Sequence[str] = SYSTEMS) -> Table:
    """Medians over the rounds, the smallest and the largest in parentheses; of two systems also how many times the
    second one's median the first one's is."""
    table = _empty("step", "figure")
    for name in (*systems, "ratio") if len(systems) == 2 else systems:
        table.add_column(name, justify="right")
    before = ""
    for step, figure, found in results.rows():
        cells = [spread(found.get(name)) for name in systems]
        if len(systems) == 2:
            cells.append(_ratio(*map(found.get, systems)))
        table.add_row(step if step != before else "", figure, *cells)
        before = step
    return table


def _ratio(one: Spread | None, other: Spread | None) -> str:
    return f"{one.median / other.median:.2f}" if one and other and other.median else ""


def goals_table(judged: Iterable[Judged]) -> Table:
    """How many times the figure of the other Mini-S3's is, what it is to be, and whether it is."""
    table = _empty("Mini-S3", "figure", "compared with")
    table.add_column("ratio", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("")
    for each in judged:
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}[each.met]
        value = "-" if each.value is None else f"{each.value:.2f}"
        table.add_row(each.goal.step, each.goal.figure, each.goal.against or "-", value, wanted(each.goal), verdict)
    return table


def wanted(goal: Goal) -> str:
    return f"{'≤' if goal.at_most else '≥'} {goal.limit:g}"


def promises_table(systems: Iterable[str] = SYSTEMS) -> Table:
    table = _empty("at that speed", SYNCED, VERIFIED, DEDUPLICATED)
    for name in systems:
        table.add_row(name, *(PROMISES[name][each] for each in (SYNCED, VERIFIED, DEDUPLICATED)))
    return table


def number(value: float) -> str:
    """Three digits or more, as many as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(of: Spread | None) -> str:
    """The median, the smallest and the largest in parentheses; nothing where there is none."""
    if of is None:
        return ""
    return f"{number(of.median)} ({number(of.low)}–{number(of.high)})"  # noqa: RUF001 (a range)


def _empty(*columns: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table
