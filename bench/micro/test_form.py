"""The form parser, beside the library that it watches over, alone, and beside a bare search for the delimiter."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from streaming_form_data import StreamingFormDataParser
from streaming_form_data.targets import BaseTarget

from app.streams.multipart import FileData, FormParser
from bench.http import MIB
from bench.micro.conftest import Measure, amount, pieces

BOUNDARY = "mini-s3-bench-5a1c6e0d2f7b4938"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Form:
    """One file of `size` bytes, as it comes from the socket."""

    size: int
    pieces: list[bytes]


@pytest.fixture(
    params=[(16 * MIB, 64 << 10), (16 * MIB, 256 << 10), (4096, 64 << 10)],
    ids=lambda given: f"{amount(given[0])} in pieces of {amount(given[1])}",
)
def form(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Form:
    size, piece = request.param
    benchmark.group = f"form with a file of {amount(size)}, in pieces of {amount(piece)}"
    return Form(size, pieces(HEAD + secrets.token_bytes(size) + TAIL, piece))


def test_form_parser(measure: Measure, form: Form) -> None:
    def parse() -> int:
        parser, size = FormParser(CONTENT_TYPE), 0
        for piece in form.pieces:
            for event in parser.feed(piece):
                if isinstance(event, FileData):
                    size += len(event.data)
        parser.finish()
        return size

    assert measure(form.size, parse) == form.size


def test_floor_library(measure: Measure, form: Form) -> None:
    def parse() -> int:
        target = _Counted()
        parser = StreamingFormDataParser({"Content-Type": CONTENT_TYPE})
        parser.register("file", target)
        for piece in form.pieces:
            parser.data_received(piece)
        return target.count

    assert measure(form.size, parse) == form.size


def test_floor_find(measure: Measure, form: Form) -> None:
    delimiter = b"\r\n--" + BOUNDARY.encode()
    found = measure(form.size, lambda: [piece.find(delimiter) for piece in form.pieces])
    assert max(found) >= 0


class _Counted(BaseTarget):  # type: ignore[misc]  # the library has no types
    count = 0

    def on_data_received(self, chunk: bytes) -> None:
        self.count += len(chunk)
