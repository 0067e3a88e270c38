"""Content-Disposition: harmless, printable, and read back as the name that went in."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.http.disposition import MAX_NAME, attachment

VALUE = re.compile(r"attachment; filename=\"([^\"]*)\"(?:; filename\*=UTF-8''([A-Za-z0-9%._~-]*))?")


def saved(value: str) -> str:
    """The name under which a client that knows RFC 6266 saves the file."""
    match = VALUE.fullmatch(value)
    assert match is not None
    return match[1] if match[2] is None else unquote(match[2], errors="strict")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "attachment"),
        ("report 1.pdf", 'attachment; filename="report 1.pdf"'),
        ("\u20ac.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%E2%82%AC.txt"),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("100%25.txt", "attachment; filename=\"100_25.txt\"; filename*=UTF-8''100%2525.txt"),
        ("a;b='c'.txt", "attachment; filename=\"a;b='c'.txt\""),
        ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
        ("C:\\x.txt", 'attachment; filename="C:_x.txt"'),
        ("a\r\nSet-Cookie: b", 'attachment; filename="a__Set-Cookie: b"'),
        ("a\x00\x1f\x7f\x85\u2028b", 'attachment; filename="a_____b"'),
        ("cod\u202etxt.exe", 'attachment; filename="cod_txt.exe"'),
        ("..", 'attachment; filename="_"'),
        (".", 'attachment; filename="_"'),
        (".bashrc", 'attachment; filename=".bashrc"'),
        ("a\ud800b", 'attachment; filename="a?b"'),
    ],
)
def test_values(name: str, value: str) -> None:
    assert attachment(name) == value


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("n" * 255, "n" * 255),
        ("n" * 256, "n" * 255),
        ("n" * 300 + ".tar", "n" * 251 + ".tar"),
        ("\u20ac" * 100 + ".txt", "\u20ac" * 83 + ".txt"),
        ("." + "n" * 300, "." + "n" * 254),
        ("a." + "n" * 300, "a." + "n" * 253),
        ("n" * 300 + ".", "n" * 254 + "."),
    ],
)
def test_long_names_keep_their_extension(name: str, short: str) -> None:
    assert saved(attachment(name)) == short


@given(st.text(st.characters(), min_size=1, max_size=400))
@example("\ud800" * 300 + ".txt")
@example("\U0001f468\u200d\U0001f469" * 50)
def test_every_name_gives_a_harmless_value(name: str) -> None:
    value = attachment(name)
    assert value.isascii()
    assert value.isprintable()
    assert len(value) < 2000
    result = saved(value)
    assert 0 < len(result.encode()) <= MAX_NAME
    assert result not in {".", ".."}
    assert not re.search(r"[/\\\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", result)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="/\\"), min_size=1, max_size=60))
def test_ordinary_names_are_kept(name: str) -> None:
    assert saved(attachment(name)) == ("_" if name in {".", ".."} else name)
