"""Patterns of bucket policies: text with wildcards and variables (IAM user guide, "Policy elements: Resource" and
"Variables and tags")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from app.s3.errors import S3Error

Lookup = Callable[[str], Sequence[str] | None]
"""The values of a condition key in a request, by its name in lower case; None where the request has none."""

VARIABLES = ("aws:username", "aws:PrincipalAccount")
"""Condition keys that may stand in a pattern, as `${aws:username}`."""

_KEYS = {name.lower() for name in VARIABLES}
_SIGNS = "*?$"
"""What `${*}`, `${?}` and `${$}` stand for: themselves."""

_PIECE = re.compile(r"\$\{[^}]*\}|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Variable:
    key: str


class _AnyOne:
    """The wildcard for one character."""


_Piece = str | _Variable | type[_AnyOne]


@dataclass(frozen=True, slots=True)
class _Run:
    """Text of a fixed length; `regex` is it where a wildcard is in it."""

    text: str
    regex: re.Pattern[str] | None

    @classmethod
    def of(cls, pieces: Iterable[str | type[_AnyOne]]) -> Self:
        known = list(pieces)
        text = "".join(piece if isinstance(piece, str) else "?" for piece in known)
        if all(isinstance(piece, str) for piece in known):
            return cls(text, None)
        source = "".join(re.escape(piece) if isinstance(piece, str) else "." for piece in known)
        return cls(text, re.compile(source, re.DOTALL))

    def is_at(self, text: str, start: int) -> bool:
        if self.regex:
            return self.regex.match(text, start) is not None
        return text.startswith(self.text, start)

    def find(self, text: str, start: int, stop: int) -> int:
        """Where it is first, between the two; -1 if it is not."""
        if not self.regex:
            return text.find(self.text, start, stop)
        found = self.regex.search(text, start, stop)
        return found.start() if found else -1


@dataclass(frozen=True, slots=True)
class Pattern:
    """What stands between wildcards for any characters, in pieces; `runs` are the same where no variable is in it."""

    segments: tuple[tuple[_Piece, ...], ...]
    runs: tuple[_Run, ...] | None
    ignore_case: bool

    @classmethod
    def read(cls, text: str, *, wildcards: bool, variables: bool, ignore_case: bool = False) -> Self:
        """Without `wildcards` or `variables` they are text as any other. Raises S3Error MalformedPolicy."""
        given = text.lower() if ignore_case else text
        pieces = (_piece(one, wildcards, variables) for one in _PIECE.findall(given))
        segments = tuple(_split(pieces))
        return cls(segments, _runs(segments, lambda _: None), ignore_case)

    def matches(self, text: str, lookup: Lookup) -> bool:
        """A pattern with a variable that has no value matches nothing."""
        runs = _runs(self.segments, lookup) if self.runs is None else self.runs
        return runs is not None and _match(runs, text.lower() if self.ignore_case else text)


def malformed(message: str) -> S3Error:
    return S3Error("MalformedPolicy", message)


def shown(value: object) -> str:
    """What a policy holds, as it can stand in a message."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _piece(text: str, wildcards: bool, variables: bool) -> _Piece | None:
    """None for the wildcard for any characters."""
    if wildcards and text in ("*", "?"):
        return None if text == "*" else _AnyOne
    if not variables or not text.startswith("${"):
        return text
    name = text[2:-1]
    if len(name) == 1 and name in _SIGNS:
        return name
    if name.lower() not in _KEYS:
        known = ", ".join(f"${{{one}}}" for one in (*VARIABLES, *_SIGNS))
        raise malformed(f"Policy has an invalid variable {shown(text)}. There are {known}.")
    return _Variable(name.lower())


def _split(pieces: Iterable[_Piece | None]) -> Iterable[tuple[_Piece, ...]]:
    segment: list[_Piece] = []
    for piece in pieces:
        if piece is None:
            yield tuple(segment)
            segment = []
        else:
            segment.append(piece)
    yield tuple(segment)


def _runs(segments: Sequence[Sequence[_Piece]], lookup: Lookup) -> tuple[_Run, ...] | None:
    """None where a variable has no value."""
    runs: list[_Run] = []
    for segment in segments:
        known: list[str | type[_AnyOne]] = []
        for piece in segment:
            if not isinstance(piece, _Variable):
                known.append(piece)
            elif values := lookup(piece.key):
                known.append(values[0])
            else:
                return None
        runs.append(_Run.of(known))
    return tuple(runs)


def _match(runs: Sequence[_Run], text: str) -> bool:
    """The first place where a run fits is as good as any later one: so no place is tried twice, however many
    wildcards there are."""
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return len(text) == len(first.text) and first.is_at(text, 0)
    start, stop = len(first.text), len(text) - len(last.text)
    if start > stop or not first.is_at(text, 0) or not last.is_at(text, stop):
        return False
    for run in runs[1:-1]:
        found = run.find(text, start, stop)
        if found < 0:
            return False
        start = found + len(run.text)
    return True
