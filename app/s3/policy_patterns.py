"""Patterns of bucket policies: text with wildcards and variables (IAM user guide, "Policy elements: Resource" and
"Variables and tags")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from app.s3.errors import S3Error

Lookup = Callable[[str], Sequence[str] | None]
"""The values of a condition key in a request, by its name in lower case; None where the request has none."""

VARIABLES = ("aws:username", "aws:PrincipalAccount")
"""Condition keys that may stand in a pattern, as `${aws:username}`."""

_KEYS = {name.lower() for name in VARIABLES}
_SIGNS = "*?$"
"""What `${*}`, `${?}` and `${$}` stand for: themselves."""

_TOKEN = re.compile(r"\$\{[^}]*\}|.", re.DOTALL)
_ANY = None
"""The wildcard for any characters, among the pieces of a pattern."""


@dataclass(frozen=True, slots=True)
class _Variable:
    key: str


_Piece = str | _Variable
"""Of a regular expression, or a variable in its place."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What stands between wildcards for any characters, in pieces; `regex` is all of it where no variable is in it."""

    segments: tuple[tuple[_Piece, ...], ...]
    ignore_case: bool
    regex: re.Pattern[str] | None = field(compare=False)

    @classmethod
    def read(cls, text: str, *, wildcards: bool, variables: bool, ignore_case: bool = False) -> Self:
        """Without `wildcards` or `variables` they are text as any other. Raises S3Error MalformedPolicy."""
        pieces = [_piece(one, wildcards, variables) for one in _TOKEN.findall(text)]
        segments = tuple(_split(pieces))
        plain = [_source(segment, lambda _: None) for segment in segments]
        texts = tuple(source for source in plain if source is not None)
        regex = _compiled(texts, ignore_case) if len(texts) == len(plain) else None
        return cls(segments, ignore_case, regex)

    def matches(self, text: str, lookup: Lookup) -> bool:
        """A pattern with a variable that has no value matches nothing."""
        if self.regex is not None:
            return self.regex.fullmatch(text) is not None
        sources = [_source(segment, lookup) for segment in self.segments]
        texts = tuple(source for source in sources if source is not None)
        return len(texts) == len(sources) and _compiled(texts, self.ignore_case).fullmatch(text) is not None


def malformed(message: str) -> S3Error:
    return S3Error("MalformedPolicy", message)


def shown(value: object) -> str:
    """What a policy holds, as it can stand in a message."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _piece(text: str, wildcards: bool, variables: bool) -> _Piece | None:
    if wildcards and text in "*?":
        return _ANY if text == "*" else "."
    if not variables or not text.startswith("${"):
        return re.escape(text)
    name = text[2:-1]
    if len(name) == 1 and name in _SIGNS:
        return re.escape(name)
    if name.lower() not in _KEYS:
        known = ", ".join(f"${{{known}}}" for known in VARIABLES)
        raise malformed(
            f"Policy has an invalid variable {shown(text)}. Here there are {known}, ${{*}}, ${{?}}, ${{$}}."
        )
    return _Variable(name.lower())


def _split(pieces: Sequence[_Piece | None]) -> Iterable[tuple[_Piece, ...]]:
    segment: list[_Piece] = []
    for piece in pieces:
        if piece is None:
            yield tuple(segment)
            segment = []
        else:
            segment.append(piece)
    yield tuple(segment)


def _source(segment: Sequence[_Piece], lookup: Lookup) -> str | None:
    """None where a variable has no value."""
    sources: list[str] = []
    for piece in segment:
        if isinstance(piece, str):
            sources.append(piece)
        elif values := lookup(piece.key):
            sources.append(re.escape(values[0]))
        else:
            return None
    return "".join(sources)


@lru_cache(maxsize=1024)
def _compiled(segments: tuple[str, ...], ignore_case: bool) -> re.Pattern[str]:
    """The first place where a segment fits is as good as any other, and none is tried twice: so that many wildcards
    take no longer than few."""
    first, *others = segments
    source = first
    if others:
        *middle, last = others
        source += "".join(f"(?>.*?{one})" for one in middle if one) + f".*{last}"
    return re.compile(source, re.DOTALL | (re.IGNORECASE if ignore_case else 0))
