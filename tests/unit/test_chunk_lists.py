"""Bodies that list chunks: read the same however they are cut, and refused where they are no such lists."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.chunk_lists import ChunkLists, parse_digest
from app.errors import BadRequest
from app.types import ChunkRef, Digest

DIGEST = "ab" * 32


def refs(count: int) -> list[ChunkRef]:
    return [ChunkRef(Digest(hashlib.sha256(bytes([n])).digest()), n + 1) for n in range(count)]


def document(listed: list[ChunkRef], **style: Any) -> bytes:
    return json.dumps({"chunks": [{"digest": one.digest.hex(), "size": one.size} for one in listed]}, **style).encode()


def read(body: bytes, *cuts: int) -> tuple[list[ChunkRef], bool, dict[str, Any]]:
    reader = ChunkLists()
    found: list[ChunkRef] = []
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, stop in pairwise(places):
        found += reader.feed(body[start:stop])
    return found, reader.listed, reader.finish()


@given(count=st.integers(0, 20), cuts=st.lists(st.integers(0, 5000), max_size=30), indent=st.sampled_from([None, 0, 3]))
@settings(max_examples=200)
def test_a_list_is_read_however_it_is_cut(count: int, cuts: list[int], indent: int | None) -> None:
    assert read(document(refs(count), indent=indent), *cuts) == (refs(count), True, {})


def test_chunks_are_given_as_they_come() -> None:
    reader, body = ChunkLists(), document(refs(3))
    at = body.index(b"}") + 1
    assert list(reader.feed(body[:at])) == refs(1)
    assert list(reader.feed(body[at:])) == refs(3)[1:]


@pytest.mark.parametrize("body", [b"", b"  ", b"{}", b'{"parts": [1, 2]}', b'{"contentId": "x"}'])
def test_other_documents_are_read_whole(body: bytes) -> None:
    assert read(body, 1, 5) == ([], False, json.loads(body.strip() or b"{}"))


GOOD = f'{{"digest": "{DIGEST}", "size": 1}}'


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "1",
        "null",
        "{",
        '{"chunks": 1}x',
        '{"chunks": [',
        '{"chunks": []',
        '{"chunks": []}}',
        '{"chunks": [], "parts": []}',
        f'{{"chunks": [{GOOD},]}}',
        f'{{"chunks": [,{GOOD}]}}',
        f'{{"chunks": [{GOOD} {GOOD}]}}',
        f'{{"chunks": [{GOOD}, 1]}}',
        f'{{"chunks": ["{DIGEST}"]}}',
        '{"chunks": [{}]}',
        '{"chunks": [{"digest": "ab", "size": 1}]}',
        *(f'{{"chunks": [{{"digest": "{DIGEST}", "size": {size}}}]}}' for size in (0, -1, 1.0, "true", '"1"', 1048577)),
        f'{{"chunks": [{{"digest": "{DIGEST}"}}]}}',
        '{"chunks": [{"digest": "}]}", "size": 1}]}',
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_what_is_no_list_is_refused(body: str, piece: int) -> None:
    with pytest.raises(BadRequest):
        read(body.encode(), *range(0, len(body), piece))


def test_what_never_becomes_a_list_is_refused_before_it_is_large() -> None:
    reader, fed = ChunkLists(), 0
    with pytest.raises(BadRequest):
        while fed < 8 << 20:
            reader.feed(b" " * (64 << 10))
            fed += 64 << 10
    reader = ChunkLists()
    reader.feed(b'{"chunks": [')
    with pytest.raises(BadRequest):
        for _ in range(100):
            reader.feed(b'{"digest": "' * 10_000)


@pytest.mark.parametrize("text", ["", DIGEST[:-1], DIGEST + "0", "g" * 64, None, 5, " " + DIGEST[1:]])
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(BadRequest):
        parse_digest(text)


def test_digests_may_be_in_upper_case() -> None:
    assert parse_digest(DIGEST.upper()) == bytes.fromhex(DIGEST)
