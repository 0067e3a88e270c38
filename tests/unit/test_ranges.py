"""Byte ranges against RFC 9110, section 14, and the exact length of a multipart answer."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RangeNotSatisfiable
from app.http.ranges import MAX_RANGES, ByteRange, ByterangesBody, parse_ranges

R = ByteRange
HUGE = "9" * 100_000


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-499", [R(0, 500)]),
        ("bytes=500-999", [R(500, 1000)]),
        ("bytes=-500", [R(500, 1000)]),
        ("bytes=950-", [R(950, 1000)]),
        ("bytes=0-0,-1", [R(0, 1), R(999, 1000)]),
        ("Bytes = 999-5000", [R(999, 1000)]),
        ("bytes=-5000", [R(0, 1000)]),
        ("bytes=-0,5-5", [R(5, 6)]),
        ("bytes=1000-,5-5,4000-5000", [R(5, 6)]),
        ("bytes= ,\t500-600 , ,0-1,", [R(500, 601), R(0, 2)]),
        ("bytes=10-20,15-25", [R(10, 21), R(15, 26)]),
        (f"bytes=0-{HUGE}", [R(0, 1000)]),
        (f"bytes=-{HUGE}", [R(0, 1000)]),
        (f"bytes={'0' * 100_000}7-8", [R(7, 9)]),
    ],
)
def test_ranges_of_1000_bytes(header: str, ranges: list[ByteRange]) -> None:
    assert parse_ranges(header, 1000) == ranges


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5", "bytes=1--2", "bytes=+1-2"),
        *("bytes=2-1", "bytes=0-1,2-1", "bytes=0-1;2-3", "bytes=1 - 2", "bytes=\u0661-\u0662", "bytes=0x1-2"),
        *("lines=0-1", "=0-1", "0-1", "bytes:0-1", f"bytes={HUGE}-1"),
    ],
)
def test_anything_else_means_the_whole_file(header: str | None) -> None:
    assert parse_ranges(header, 1000) is None


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=1000-", "bytes=1000-2000,3000-", "bytes=-0", f"bytes={HUGE}-", f"bytes={HUGE}-{HUGE}"),
        *("bytes=0-,0-", "bytes=0-999,0-0", "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1))),
        "bytes=" + ",".join(["5000-"] * (MAX_RANGES + 1)),
    ],
)
def test_unsatisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_ranges(header, 1000)
    assert caught.value.size == 1000


def test_as_many_ranges_as_allowed() -> None:
    assert parse_ranges("bytes=" + ",".join(["0-0"] * MAX_RANGES), 1000) == [R(0, 1)] * MAX_RANGES


def test_an_empty_file_has_no_bytes_to_ask_for() -> None:
    assert parse_ranges(None, 0) is None
    assert parse_ranges("bytes=-5", 0) is None
    for header in ("bytes=0-", "bytes=0-0", "bytes=-0"):
        with pytest.raises(RangeNotSatisfiable):
            parse_ranges(header, 0)


def test_content_range() -> None:
    assert R(2, 5).content_range(10) == "bytes 2-4/10"
    assert R(2, 5).size == 3


specs = st.builds("{}-{}".format, st.integers(0, 60) | st.just(""), st.integers(0, 60) | st.just(""))


@given(st.lists(specs, max_size=4), st.integers(0, 50))
def test_what_is_given_is_what_was_asked_for(asked: list[str], size: int) -> None:
    """Against a model: the set of positions each range names."""
    file = list(range(size))
    slices = []
    for spec in asked:
        first, _, last = spec.partition("-")
        if (not first and not last) or (first and last and int(last) < int(first)):
            return
        stop = int(last) + 1 if first and last else None
        slices.append(file[int(first) : stop] if first else file[-int(last) :] if int(last) else [])
    wanted = [piece for piece in slices if piece]
    try:
        got = parse_ranges("bytes=" + ", ".join(asked), size)
    except RangeNotSatisfiable:
        assert not wanted or sum(map(len, wanted)) > size
        return
    if got is None:
        assert not asked or size == 0
    else:
        assert [file[one.start : one.stop] for one in got] == wanted


@given(st.text(max_size=30) | st.text(max_size=30).map("bytes=".__add__), st.integers(0, 9))
def test_no_header_breaks_it(header: str, size: int) -> None:
    try:
        ranges = parse_ranges(header, size)
    except RangeNotSatisfiable:
        return
    assert ranges is None or all(0 <= one.start < one.stop <= size for one in ranges)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 256)), min_size=1, max_size=5))
def test_a_multipart_answer_is_read_by_others_and_as_long_as_it_says(bounds: list[tuple[int, int]]) -> None:
    file = bytes(range(256))
    ranges = [ByteRange(start, min(start + size, 256)) for start, size in bounds]
    framing = ByterangesBody(ranges, 256, "text/plain; charset=utf-8")
    body = b"".join(head + file[one.start : one.stop] for head, one in zip(framing.heads, ranges, strict=True))
    body += framing.closing
    assert len(body) == framing.content_length
    message = message_from_bytes(f"Content-Type: {framing.content_type}\n\n".encode() + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    for part, one in zip(parts, ranges, strict=True):
        assert isinstance(part, Message)
        assert part["Content-Range"] == one.content_range(256)
        assert part["Content-Type"] == "text/plain; charset=utf-8"


def test_the_framing_byte_for_byte() -> None:
    framing = ByterangesBody([R(0, 1), R(5, 9)], 10, "a/b", boundary="x")
    assert framing.content_type == "multipart/byteranges; boundary=x"
    assert framing.heads == [
        b"--x\r\nContent-Type: a/b\r\nContent-Range: bytes 0-0/10\r\n\r\n",
        b"\r\n--x\r\nContent-Type: a/b\r\nContent-Range: bytes 5-8/10\r\n\r\n",
    ]
    assert framing.closing == b"\r\n--x--\r\n"
    assert framing.content_length == sum(map(len, framing.heads)) + len(framing.closing) + 5


def test_boundaries_cant_be_foreseen() -> None:
    first, second = (ByterangesBody([R(0, 1)], 1, "a/b").content_type for _ in range(2))
    assert first != second
