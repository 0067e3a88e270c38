"""GET and HEAD of a file's bytes: headers, conditions, ranges."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tests.e2e.helpers import MIB, SECURITY, Wire, assert_problem, byteranges, distinct
from tests.support import Server

NAME = "Ein Töst “file”.bin"
TYPE = "application/x-test; version=1"
OTHER_TAG = '"' + "0" * 64 + '"'
LONG_AGO = "Thu, 01 Jan 2015 00:00:00 GMT"
FAR_AHEAD = "Fri, 01 Jan 2100 00:00:00 GMT"


@dataclass(frozen=True)
class Stored:
    content: bytes
    file: dict[str, Any]
    etag: str
    modified: str

    @property
    def path(self) -> str:
        return f"/api/files/{self.file['id']}"

    @property
    def paths(self) -> tuple[str, str]:
        """By id, and by content."""
        return self.path, f"/api/content/{self.file['contentId']}"


@pytest.fixture(scope="module")
def stored(server: Server) -> Stored:
    content = distinct(5, 12_345)
    file = server.upload(content, NAME, TYPE)["file"]
    modified = server.client.head(f"/api/files/{file['id']}").headers["last-modified"]
    return Stored(content, file, f'"{file["contentId"]}"', modified)


@pytest.mark.parametrize("which", [0, 1], ids=["by id", "by content"])
def test_the_whole_file(server: Server, stored: Stored, which: int) -> None:
    answer = server.client.get(stored.paths[which])
    assert answer.status_code == 200
    assert answer.content == stored.content
    assert answer.headers["content-length"] == str(len(stored.content))
    assert answer.headers["content-type"] == TYPE
    assert answer.headers["etag"] == stored.etag
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert "filename*=UTF-8''Ein%20T%C3%B6st%20%E2%80%9Cfile%E2%80%9D.bin" in answer.headers["content-disposition"]


def test_a_slow_reader_gets_its_own_bytes_while_others_read_theirs(server: Server, stored: Stored) -> None:
    """Memory of what the server has sent is used again; of what it only means to send it is not."""
    slow = distinct(24, 5)
    path = f"/api/files/{server.upload(slow, 'slow')['file']['id']}"
    with Wire(server) as wire:
        wire.head("GET", path)
        response = http.client.HTTPResponse(wire.socket, method="GET")
        response.begin()
        received = b""
        for _ in range(6):
            received += response.read(4 * MIB)
            for _ in range(2):
                assert server.client.get(stored.path).content == stored.content
        assert received + response.read() == slow


@pytest.mark.parametrize("which", [0, 1], ids=["by id", "by content"])
def test_head_is_get_without_its_body(server: Server, stored: Stored, which: int) -> None:
    path = stored.paths[which]
    got, head = server.client.get(path), server.client.head(path)
    assert head.status_code == 200
    assert head.content == b""
    own = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }


def test_head_heeds_no_range_and_leaves_the_connection_usable(server: Server, stored: Stored) -> None:
    for _ in range(3):
        head = server.client.head(stored.path, headers={"Range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(stored.content)))
        missing = server.client.head(f"/api/files/{'0' * 24}")
        assert (missing.status_code, missing.content) == (404, b"")


def test_an_empty_file(server: Server) -> None:
    path = f"/api/files/{server.upload(b'')['fileId']}"
    answer = server.client.get(path)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    refused = server.client.get(path, headers={"Range": "bytes=0-0"})
    assert_problem(refused, 416, "range-not-satisfiable")
    assert refused.headers["content-range"] == "bytes */0"


def test_content_lives_as_long_as_a_file_has_it(server: Server) -> None:
    content = distinct(1, 1)
    first, second = server.upload(content, "one"), server.upload(content, "two")
    path = f"/api/content/{first['file']['contentId']}"
    assert server.client.get(path).content == content
    server.client.delete(f"/api/files/{first['fileId']}")
    assert server.client.get(path).content == content
    server.client.delete(f"/api/files/{second['fileId']}")
    assert_problem(server.client.get(path), 404, "not-found")


# Ranges

SIZE = 5 * MIB + 12_345


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        (f"bytes={MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        (f"bytes={MIB}-{2 * MIB - 1}", MIB, 2 * MIB),
        ("bytes=100-", 100, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 100}", SIZE - 1, SIZE),
        ("bytes = 5-6", 5, 7),
    ],
)
def test_one_range(server: Server, stored: Stored, asked: str, start: int, stop: int) -> None:
    for path in stored.paths:
        answer = server.client.get(path, headers={"Range": asked})
        assert answer.status_code == 206
        assert answer.content == stored.content[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(stop - start)
        assert answer.headers["content-type"] == TYPE
        assert answer.headers["etag"] == stored.etag


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2", "5-6", "bytes=1-2;3"])
def test_a_range_that_can_not_be_understood_is_ignored(server: Server, stored: Stored, asked: str) -> None:
    answer = server.client.get(stored.path, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


@pytest.mark.parametrize(
    "asked",
    [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0", "bytes=" + ",".join(["0-0"] * 1000), "bytes=0-,0-"],
)
def test_a_range_that_can_not_be_satisfied(server: Server, stored: Stored, asked: str) -> None:
    for path in stored.paths:
        answer = server.client.get(path, headers={"Range": asked})
        assert_problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_several_ranges(server: Server, stored: Stored) -> None:
    answer = server.client.get(stored.path, headers={"Range": f"bytes=10-19, {MIB - 5}-{2 * MIB + 4}, -7"})
    assert answer.status_code == 206
    assert answer.headers["content-length"] == str(len(answer.content))
    assert "content-range" not in answer.headers
    spans = [(10, 20), (MIB - 5, 2 * MIB + 5), (SIZE - 7, SIZE)]
    parts = byteranges(answer)
    assert [part.body for part in parts] == [stored.content[start:stop] for start, stop in spans]
    assert [part.content_range for part in parts] == [f"bytes {start}-{stop - 1}/{SIZE}" for start, stop in spans]
    assert {part.content_type for part in parts} == {TYPE}


def test_of_several_ranges_those_beyond_the_end_are_dropped(server: Server, stored: Stored) -> None:
    answer = server.client.get(stored.path, headers={"Range": f"bytes=3-4,{SIZE}-"})
    assert (answer.status_code, answer.content) == (206, stored.content[3:5])


@effort(max_examples=40, deadline=None)
@given(
    spans=st.lists(
        st.tuples(st.integers(0, SIZE - 1), st.integers(0, 2 * MIB)).map(
            lambda pair: (pair[0], min(SIZE, pair[0] + pair[1] + 1))
        ),
        min_size=1,
        max_size=3,
    )
)
def test_random_ranges_are_slices(server: Server, stored: Stored, spans: list[tuple[int, int]]) -> None:
    asked = "bytes=" + ",".join(f"{start}-{stop - 1}" for start, stop in spans)
    answer = server.client.get(stored.path, headers={"Range": asked})
    if sum(stop - start for start, stop in spans) > SIZE:
        assert answer.status_code == 416
        return
    assert answer.status_code == 206
    bodies = [answer.content] if len(spans) == 1 else [part.body for part in byteranges(answer)]
    assert bodies == [stored.content[start:stop] for start, stop in spans]


# Conditions


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("by", ["tag", "date"])
def test_if_range(server: Server, stored: Stored, by: str, holds: bool) -> None:
    good, bad = (stored.etag, OTHER_TAG) if by == "tag" else (stored.modified, LONG_AGO)
    answer = server.client.get(stored.path, headers={"Range": "bytes=1-3", "If-Range": good if holds else bad})
    if holds:
        assert (answer.status_code, answer.content) == (206, stored.content[1:4])
    else:
        assert (answer.status_code, answer.content) == (200, stored.content)


def test_if_range_that_fails_turns_even_an_impossible_range_into_the_whole_file(server: Server, stored: Stored) -> None:
    answer = server.client.get(stored.path, headers={"Range": f"bytes={SIZE}-", "If-Range": OTHER_TAG})
    assert (answer.status_code, answer.content) == (200, stored.content)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(server: Server, stored: Stored, method: str) -> None:
    for headers in (
        {"If-None-Match": stored.etag},
        {"If-None-Match": f"{OTHER_TAG}, W/{stored.etag}"},
        {"If-None-Match": "*"},
        {"If-Modified-Since": stored.modified},
        {"If-None-Match": stored.etag, "Range": "bytes=0-1"},
    ):
        for path in stored.paths:
            answer = server.client.request(method, path, headers=headers)
            assert (answer.status_code, answer.content) == (304, b""), headers
            assert answer.headers["etag"] == stored.etag
            assert "content-type" not in answer.headers
            assert set(answer.headers) >= SECURITY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_precondition_failed(server: Server, stored: Stored, method: str) -> None:
    for headers in ({"If-Match": OTHER_TAG}, {"If-Match": f"W/{stored.etag}"}, {"If-Unmodified-Since": LONG_AGO}):
        for path in stored.paths:
            answer = server.client.request(method, path, headers=headers)
            assert answer.status_code == 412, headers
            if method == "GET":
                assert_problem(answer, 412, "precondition-failed")


def test_conditions_that_hold(server: Server, stored: Stored) -> None:
    for headers in (
        {"If-Match": stored.etag},
        {"If-Match": f"{OTHER_TAG}, {stored.etag}"},
        {"If-Match": "*"},
        {"If-None-Match": OTHER_TAG},
        {"If-Modified-Since": LONG_AGO},
        {"If-Unmodified-Since": FAR_AHEAD},
        {"If-Modified-Since": "not a date"},
        {"If-None-Match": OTHER_TAG, "If-Modified-Since": FAR_AHEAD},
    ):
        answer = server.client.get(stored.path, headers=headers)
        assert (answer.status_code, answer.content) == (200, stored.content), headers


def test_a_lost_blob_is_an_error_document_and_the_server_goes_on(server: Server) -> None:
    content = distinct(1)
    file = server.upload(content)["file"]
    (blob,) = (server.data_dir / "nodes").rglob(f"{file['contentId']}.*")
    blob.unlink()
    for path in (f"/api/files/{file['id']}", f"/api/content/{file['contentId']}"):
        assert_problem(server.client.get(path), 500, "content-damaged")
    assert server.client.get(f"/api/files/{server.upload(b'next')['fileId']}").content == b"next"
