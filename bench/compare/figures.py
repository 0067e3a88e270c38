"""What was measured and what it means: medians, spread, ratios, goals. Nothing here runs anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

OURS, SEAWEED, GRIDFS, BARE = "Mini-S3", "SeaweedFS", "GridFS", "bare handler"
SYSTEMS = (OURS, SEAWEED, GRIDFS, BARE)

NEW, KNOWN, AT_ONCE = "upload, all new", "upload again, all known", "uploads at once, all new"
DOWN, DOWN_AGAIN, DOWN_COLD = "download after upload", "download again", "download, not cached"
SMALL_UP, SMALL_DOWN = "small uploads", "small downloads"

RATE, PER_SECOND, P99, UNEVEN = "MB/s", "per second", "p99, ms", "slowest / fastest"
CPU, DATABASE_CPU = "CPU s/GiB", "CPU s/GiB of its MongoDB"
BUSY = "cores that the generator took"


@dataclass(frozen=True)
class Spread:
    """The samples of one figure, one of each round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    def as_json(self) -> dict[str, Any]:
        samples = [round(each, 4) for each in self.samples]
        return {"median": round(self.median, 4), "min": min(samples), "max": max(samples), "samples": samples}


@dataclass
class Results:
    """Samples by step, figure and system, in the order in which they first came."""

    _samples: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, step: str, figure: str, system: str, value: float) -> None:
        self._samples.setdefault((step, figure), {}).setdefault(system, []).append(value)

    def spread(self, step: str, figure: str, system: str) -> Spread | None:
        samples = self._samples.get((step, figure), {}).get(system)
        return Spread(tuple(samples)) if samples else None

    def rows(self) -> Iterator[tuple[str, str, dict[str, Spread]]]:
        for (step, figure), systems in self._samples.items():
            yield step, figure, {name: Spread(tuple(systems[name])) for name in SYSTEMS if name in systems}


@dataclass(frozen=True)
class Goal:
    """Our median of a figure, by that of `other` (a step and a system) or as it is, and what it is to be."""

    step: str
    figure: str
    limit: float
    other: tuple[str, str] | None = None
    at_most: bool = False

    @property
    def against(self) -> str:
        if self.other is None:
            return ""
        step, system = self.other
        return system if step == self.step else f"{step}: {system}"


@dataclass(frozen=True)
class Judged:
    """`value` is None where a figure is missing."""

    goal: Goal
    value: float | None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.goal.limit if self.goal.at_most else self.value >= self.goal.limit


GOALS = (
    Goal(NEW, RATE, 2.5, (NEW, SEAWEED)),
    Goal(NEW, RATE, 2.5, (NEW, GRIDFS)),
    Goal(NEW, RATE, 0.4, (NEW, BARE)),
    Goal(KNOWN, RATE, 4.0, (KNOWN, SEAWEED)),
    Goal(KNOWN, RATE, 0.65, (KNOWN, BARE)),
    Goal(DOWN, RATE, 1.0, (DOWN, SEAWEED)),
    Goal(DOWN, RATE, 0.9, (DOWN, GRIDFS)),
    Goal(DOWN_AGAIN, RATE, 1.0, (DOWN_AGAIN, SEAWEED)),
    Goal(DOWN_AGAIN, RATE, 0.9, (DOWN_AGAIN, GRIDFS)),
    Goal(DOWN_COLD, RATE, 1.0, (DOWN_COLD, SEAWEED)),
    Goal(AT_ONCE, RATE, 1.0, (NEW, OURS)),
    Goal(AT_ONCE, UNEVEN, 1.5, at_most=True),
    Goal(SMALL_UP, PER_SECOND, 1.0, (SMALL_UP, SEAWEED)),
    Goal(SMALL_UP, P99, 1.0, (SMALL_UP, SEAWEED), at_most=True),
    Goal(SMALL_DOWN, PER_SECOND, 1.0, (SMALL_DOWN, SEAWEED)),
    Goal(SMALL_DOWN, P99, 1.0, (SMALL_DOWN, SEAWEED), at_most=True),
    Goal(NEW, CPU, 3.0, at_most=True),
)
"""What Mini-S3 aims at. A missed goal is told, never asserted."""

SYNCED, VERIFIED, DEDUPLICATED = "synced before the answer", "verified when read", "deduplicated"

PROMISES: dict[str, dict[str, str]] = {
    OURS: {
        SYNCED: "yes: data, names, commit",
        VERIFIED: "SHA-256 of each chunk, before its first byte is sent",
        DEDUPLICATED: "yes, 1 MiB chunks",
    },
    SEAWEED: {
        SYNCED: "no: left to the kernel",
        VERIFIED: "CRC-32C of each piece, before its first byte is sent",
        DEDUPLICATED: "no",
    },
    GRIDFS: {
        SYNCED: "yes: journal, majority",
        VERIFIED: "checksum of each page that is read from disk",
        DEDUPLICATED: "no",
    },
    BARE: {SYNCED: "stores nothing", VERIFIED: "-", DEDUPLICATED: "-"},
}
"""What each system, with its defaults, does at the speed that is measured."""


def judge(results: Results, goals: Sequence[Goal] = GOALS) -> list[Judged]:
    return [Judged(goal, _value(goal, results)) for goal in goals]


def _value(goal: Goal, results: Results) -> float | None:
    ours = results.spread(goal.step, goal.figure, OURS)
    if ours is None or goal.other is None:
        return ours.median if ours else None
    step, system = goal.other
    other = results.spread(step, goal.figure, system)
    return ours.median / other.median if other and other.median else None


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (above 0, up to 1) of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def report(results: Results, about: dict[str, Any]) -> dict[str, Any]:
    """All of it for a JSON file: what `about` tells of the run, every sample, every goal."""
    return {
        **about,
        "figures": [
            {"step": step, "figure": figure, "systems": {name: each.as_json() for name, each in systems.items()}}
            for step, figure, systems in results.rows()
        ],
        "goals": [
            {
                **asdict(each.goal),
                "other": each.goal.against or None,
                "value": None if each.value is None else round(each.value, 4),
                "met": each.met,
            }
            for each in judge(results)
        ],
        "promises": PROMISES,
    }
