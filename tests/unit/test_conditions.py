"""Conditional requests against RFC 9110, section 13."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.conditions import Verdict, check, range_applies

ETAG = '"a,b"'
MODIFIED = datetime(1994, 11, 6, 8, 49, 37, 999_000, tzinfo=UTC)
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
GO, KNOWN, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED


def verdict(headers: dict[str, str], etag: str = ETAG) -> Verdict:
    return check(headers, etag=etag, modified=MODIFIED)


@pytest.mark.parametrize(
    ("tags", "strong", "weak"),
    [
        ("*", True, True),
        (" * ", True, True),
        ('"a,b", x', False, False),
        ('"a,b"', True, True),
        ('"x", "a,b"', True, True),
        (',, "x" ,\t"a,b" ,', True, True),
        ('W/"a,b"', False, True),
        ('"x",W/"a,b"', False, True),
        ('"a","b"', False, False),
        ('"x,"a,b"', False, False),
        ('"a,b" "x"', False, False),
        ('"a,b', False, False),
        ("a,b", False, False),
        ('w/"a,b"', False, False),
        ('*, "x"', False, False),
        ("", False, False),
        ('""', False, False),
        ('"A,B"', False, False),
    ],
)
def test_lists_of_tags(tags: str, strong: bool, weak: bool) -> None:
    assert verdict({"if-match": tags}) is (GO if strong else FAILED)
    assert verdict({"if-none-match": tags}) is (KNOWN if weak else GO)


def test_a_weak_tag_of_ours_never_matches_strongly() -> None:
    assert verdict({"if-match": 'W/"a"'}, 'W/"a"') is FAILED
    assert verdict({"if-none-match": '"a"'}, 'W/"a"') is KNOWN
    assert verdict({"if-match": "*"}, 'W/"a"') is GO


@pytest.mark.parametrize(
    ("date", "unmodified", "modified"),
    [
        (SAME, GO, KNOWN),
        (EARLIER, FAILED, GO),
        (LATER, GO, KNOWN),
        ("Sunday, 06-Nov-94 08:49:37 GMT", GO, KNOWN),
        ("Sun Nov  6 08:49:37 1994", GO, KNOWN),
        ("Sun Nov  6 08:49:36 1994", FAILED, GO),
        ("yesterday", GO, GO),
        ("", GO, GO),
        ("0", GO, GO),
        ("Sun, 99 Nov 1994 08:49:37 GMT", GO, GO),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", GO, GO),
    ],
)
def test_dates(date: str, unmodified: Verdict, modified: Verdict) -> None:
    assert verdict({"if-unmodified-since": date}) is unmodified
    assert verdict({"if-modified-since": date}) is modified


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, GO),
        # If-Match puts If-Unmodified-Since out of force, If-None-Match puts If-Modified-Since.
        ({"if-match": ETAG, "if-unmodified-since": EARLIER}, GO),
        ({"if-match": '"x"', "if-unmodified-since": LATER}, FAILED),
        ({"if-none-match": '"x"', "if-modified-since": SAME}, GO),
        ({"if-none-match": ETAG, "if-modified-since": EARLIER}, KNOWN),
        # The first pair is weighed before the second.
        ({"if-match": '"x"', "if-none-match": ETAG}, FAILED),
        ({"if-match": ETAG, "if-none-match": ETAG}, KNOWN),
        ({"if-unmodified-since": EARLIER, "if-none-match": ETAG}, FAILED),
        ({"if-unmodified-since": SAME, "if-modified-since": SAME}, KNOWN),
        ({"if-unmodified-since": "?", "if-none-match": ETAG}, KNOWN),
        ({"if-match": ETAG, "if-modified-since": SAME}, KNOWN),
    ],
)
def test_precedence(headers: dict[str, str], wanted: Verdict) -> None:
    assert verdict(headers) is wanted


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        (ETAG, True),
        (f" {ETAG} ", True),
        (f"W/{ETAG}", False),
        (f'"x", {ETAG}', False),
        ('"x"', False),
        ("*", False),
        ("", False),
        (SAME, True),
        (EARLIER, False),
        (LATER, False),
        ("Sun Nov  6 08:49:37 1994", True),
        ("a,b", False),
    ],
)
def test_if_range(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, etag=ETAG, modified=MODIFIED) is applies


def test_if_range_never_matches_a_weak_tag_of_ours() -> None:
    assert not range_applies('W/"a"', etag='W/"a"', modified=MODIFIED)


@given(st.text() | st.from_regex(r"\w{3}, \d{1,3} Nov \d+ \d+:\d+:\d+ [-+]\d+") | st.text('"W/,* \t\\a'))
def test_no_header_breaks_it(value: str) -> None:
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        assert isinstance(verdict({name: value}), Verdict)
    assert isinstance(range_applies(value, etag=ETAG, modified=MODIFIED), bool)
