"""Downloads as HTTP has them: headers, ranges, conditions."""

from __future__ import annotations

import os
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import Server

MIB = 1 << 20
CONTENT = os.urandom(3 * MIB + 12345)


@pytest.fixture(scope="module")
def file(server: Server) -> Any:
    return server.upload(CONTENT, "größe 1.bin", "text/plain; charset=utf-8")["file"]


def test_headers(server: Server, file: Any) -> None:
    answer = server.client.get(f"/api/files/{file['id']}")
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{file["contentId"]}"'
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert "filename*=UTF-8''gr%C3%B6%C3%9Fe%201.bin" in answer.headers["content-disposition"]
    head = server.client.head(f"/api/files/{file['id']}")
    assert head.status_code == 200
    assert head.content == b""
    changing = {"date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in answer.headers.items() if k not in changing
    }


def test_by_content(server: Server, file: Any) -> None:
    answer = server.client.get(f"/api/content/{file['contentId']}", headers={"Range": "bytes=0-9"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[:10]
    assert server.client.head(f"/api/content/{file['contentId']}").status_code == 200


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_range_is_the_slice(server: Server, file: Any, data: st.DataObject) -> None:
    size = len(CONTENT)
    start = data.draw(st.integers(0, size - 1) | st.sampled_from([MIB - 1, MIB, MIB + 1, size - 1]))
    stop = data.draw(st.integers(start, size + 5) | st.just(start))
    answer = server.client.get(f"/api/files/{file['id']}", headers={"Range": f"bytes={start}-{stop}"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start : stop + 1]
    assert answer.headers["content-range"] == f"bytes {start}-{min(stop, size - 1)}/{size}"


def test_open_and_suffix_ranges(server: Server, file: Any) -> None:
    for header, expected in (("bytes=3000000-", CONTENT[3_000_000:]), ("bytes=-7", CONTENT[-7:])):
        answer = server.client.get(f"/api/files/{file['id']}", headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, expected)


def test_several_ranges(server: Server, file: Any) -> None:
    ranges = [(0, 9), (MIB - 5, MIB + 5), (len(CONTENT) - 3, len(CONTENT) - 1)]
    header = "bytes=" + ", ".join(f"{start}-{stop}" for start, stop in ranges)
    answer = server.client.get(f"/api/files/{file['id']}", headers={"Range": header})
    assert answer.status_code == 206
    assert len(answer.content) == int(answer.headers["content-length"])
    whole = b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
    message = BytesParser(policy=HTTP).parsebytes(whole)
    parts: list[Message] = list(message.iter_parts())  # type: ignore[attr-defined]
    assert [part["content-range"] for part in parts] == [f"bytes {a}-{b}/{len(CONTENT)}" for a, b in ranges]
    position = 0
    for start, stop in ranges:
        position = answer.content.index(CONTENT[start : stop + 1], position)


def test_a_range_beyond_the_end_is_416(server: Server, file: Any) -> None:
    answer = server.client.get(f"/api/files/{file['id']}", headers={"Range": f"bytes={len(CONTENT)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.json()["code"] == "range-not-satisfiable"


def test_if_range(server: Server, file: Any) -> None:
    etag = f'"{file["contentId"]}"'
    path = f"/api/files/{file['id']}"
    modified = server.client.head(path).headers["last-modified"]
    for value, status in ((etag, 206), (modified, 206), ('"other"', 200), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)):
        answer = server.client.get(path, headers={"Range": "bytes=0-3", "If-Range": value})
        assert answer.status_code == status


def test_conditions(server: Server, file: Any) -> None:
    etag = f'"{file["contentId"]}"'
    path = f"/api/files/{file['id']}"
    unmodified = server.client.get(path, headers={"If-None-Match": f'"x", W/{etag}'})
    assert (unmodified.status_code, unmodified.content, unmodified.headers["etag"]) == (304, b"", etag)
    assert server.client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert server.client.get(path, headers={"If-Match": etag}).status_code == 200
    failed = server.client.get(path, headers={"If-Match": '"x"'})
    assert (failed.status_code, failed.json()["code"]) == (412, "precondition-failed")


def test_an_empty_file(server: Server) -> None:
    file = server.upload(b"")["file"]
    answer = server.client.get(f"/api/files/{file['id']}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert server.client.get(f"/api/files/{file['id']}", headers={"Range": "bytes=0-"}).status_code == 416
