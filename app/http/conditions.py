"""Conditional requests (RFC 9110, section 13): is a GET or HEAD to be answered, and in full?

Everywhere, `etag` is the entity tag as the ETag header shows it, with its quotes and perhaps `W/`,
and `modified` is the time that Last-Modified shows, aware; only its whole seconds count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto


class Verdict(Enum):
    PROCEED = auto()
    NOT_MODIFIED = auto()
    """Answer 304: the client has this already."""
    FAILED = auto()
    """Answer 412: the file is not the one that the client means."""


def check(headers: Mapping[str, str], *, etag: str, modified: datetime) -> Verdict:
    """Weigh the conditions of a GET or HEAD for a file that exists, in the order of section 13.2.2.

    `headers` is asked for lower-case names. A date that can't be read counts as not sent. A list of
    tags that can't be read matches nothing.
    """
    if (match := headers.get("if-match")) is not None:
        if not _lists(match, etag, strong=True):
            return Verdict.FAILED
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and _seconds(modified) > since:
        return Verdict.FAILED
    if (none_match := headers.get("if-none-match")) is not None:
        if _lists(none_match, etag, strong=False):
            return Verdict.NOT_MODIFIED
    elif (since := _date(headers.get("if-modified-since"))) is not None and _seconds(modified) <= since:
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def range_applies(if_range: str | None, *, etag: str, modified: datetime) -> bool:
    """Whether Range is to be heeded; otherwise the whole file is the answer.

    A tag must match strongly, a date exactly. Anything else in the header speaks against the range.
    """
    if if_range is None:
        return True
    if '"' in if_range:
        return if_range.strip(" \t") == etag and not etag.startswith("W/")
    return _date(if_range) == _seconds(modified)


_TAG = re.compile(r'((?:W/)?"[\x21\x23-\x7e\x80-\xff]*+")[ \t]*+(?:,[ \t,]*+|\Z)')


def _lists(value: str, etag: str, *, strong: bool) -> bool:
    """Whether a list of entity tags, or `*`, matches (sections 8.8.3.2, 13.1.1 and 13.1.2)."""
    if value.strip(" \t") == "*":
        return True
    tags = _tags(value)
    if strong:
        return etag in tags and not etag.startswith("W/")
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}


def _tags(value: str) -> set[str]:
    tags: set[str] = set()
    rest = value.strip(" \t,")
    at = 0
    while at < len(rest):
        if (match := _TAG.match(rest, at)) is None:
            return set()
        tags.add(match[1])
        at = match.end()
    return tags


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # asctime names no zone and means UTC


def _seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
