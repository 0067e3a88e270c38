"""Byte ranges (RFC 9110, section 14): what a Range header asks for, and the body that answers several."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import RangeNotSatisfiable

MAX_RANGES = 50
"""The most ranges that one request may ask for: each costs a read and a part of its own."""

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")

_MAX_DIGITS = 19
"""A number of more digits lies beyond every file, and `int` takes quadratic time over it."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, not including, `stop`; at least one."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range, of a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_ranges(header: str | None, size: int) -> list[ByteRange] | None:
    """The ranges of a file of `size` bytes that `header` asks for, in its order; never an empty list.

    None means the whole file: there is no header, it is malformed, or its unit is not bytes. Ranges
    that lie wholly beyond the end are dropped. Raises RangeNotSatisfiable where none remains, where
    there are more than `MAX_RANGES`, or where they overlap so that they add up to more than the file.
    """
    unit, separator, asked = (header or "").partition("=")
    if not separator or unit.strip().lower() != "bytes":
        return None
    # A list may hold empty elements (RFC 9110, section 5.6.1), but a set of ranges must hold a range.
    specs = [_spec(spec) for item in asked.split(",") if (spec := item.strip(" \t"))]
    wanted = [spec for spec in specs if spec is not None]
    if not wanted or len(wanted) < len(specs):
        return None
    if len(wanted) > MAX_RANGES:
        raise RangeNotSatisfiable(f"More than {MAX_RANGES} ranges are asked for at once.", size)
    if size == 0 and any(first is None and last for first, last in wanted):
        return None  # "the last n bytes" of nothing: satisfiable, but Content-Range can't say it
    ranges = [found for first, last in wanted if (found := _resolve(first, last, size))]
    if not ranges:
        raise RangeNotSatisfiable(f"None of the ranges lies within the {size} bytes of the file.", size)
    if sum(one.size for one in ranges) > size:
        raise RangeNotSatisfiable("The ranges overlap and add up to more than the file.", size)
    return ranges


def _spec(text: str) -> tuple[int | None, int | None] | None:
    """The first and the last position, or None and the length of a suffix; None where malformed."""
    match = _SPEC.fullmatch(text)
    if match is None or text == "-":
        return None
    first, last = _number(match[1]), _number(match[2])
    return None if first is not None and last is not None and last < first else (first, last)


def _number(digits: str) -> int | None:
    significant = digits.lstrip("0")[: _MAX_DIGITS + 1]  # cut, it is still beyond every file
    return int(significant or "0") if digits else None


def _resolve(first: int | None, last: int | None, size: int) -> ByteRange | None:
    """The part of the range that lies in the file, if any."""
    if first is None:
        start, stop = size - min(last or 0, size), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    return ByteRange(start, stop) if start < stop else None


class ByterangesBody:
    """The framing of a multipart/byteranges body: everything in it but the bytes of the file.

    The body is, for each range in turn, its entry of `heads` and its bytes, and at last `closing`:
    `content_length` bytes in all. `content_type` is the answer's; that of the file goes into the heads.
    """

    def __init__(
        self, ranges: Sequence[ByteRange], size: int, content_type: str, *, boundary: str | None = None
    ) -> None:
        boundary = boundary or secrets.token_hex(16)  # random: it must not occur in the file
        heads = [
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {one.content_range(size)}\r\n\r\n"
            for one in ranges
        ]
        heads[0] = heads[0].removeprefix("\r\n")
        self.heads = [head.encode("latin-1") for head in heads]
        self.closing = f"\r\n--{boundary}--\r\n".encode("latin-1")
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        framing = sum(map(len, self.heads)) + len(self.closing)
        self.content_length = framing + sum(one.size for one in ranges)
