"""Bad requests: each gets its status, a problem document with a stable code, and harms nothing."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.helpers import (
    BOUNDARY,
    FORM,
    MIB,
    SECURITY,
    Part,
    Wire,
    assert_problem,
    distinct,
    form,
    metric,
    own_server,
    post_form,
)
from tests.support import Databases, Server, eventually

LIMIT = 2 * MIB


@pytest.fixture(scope="module")
def strict(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes little and has no patience."""
    with own_server(databases, tmp_path_factory, max_file_size=LIMIT, idle_timeout=0.4) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_stays(strict: Server) -> Iterator[None]:
    """Whatever came in, no file appeared, all memory came back, and the next upload works."""
    before = strict.client.get("/api/files").json()["files"]
    yield
    eventually(lambda: metric(strict, "mini_s3_buffers_bytes") == 0)
    assert strict.client.get("/api/files").json()["files"] == before
    path = f"/api/files/{strict.upload(b'good')['fileId']}"
    assert strict.client.get(path).content == b"good"
    strict.client.delete(path)


# Forms

GOOD = form(Part(b"content"))


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed", ""]
)
def test_another_media_type(strict: Server, content_type: str) -> None:
    assert_problem(post_form(strict, b'{"file": "x"}', content_type), 415, "not-multipart")


def test_no_media_type(strict: Server) -> None:
    assert_problem(strict.client.post("/api/upload", content=b"x"), 415, "not-multipart")
    assert_problem(strict.client.post("/api/upload"), 415, "not-multipart")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="' + "b" * 71 + '"',
        "multipart/form-data; boundary=a; boundary=b",
        'multipart/form-data; boundary="never closed',
    ],
)
def test_no_usable_boundary(strict: Server, content_type: str) -> None:
    assert_problem(post_form(strict, GOOD, content_type), 400, "bad-form")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing like a form",
        GOOD.replace(BOUNDARY.encode(), b"another-boundary"),
        GOOD[: GOOD.index(b"content")],
        GOOD[:-6],
        GOOD.replace(f"\r\n--{BOUNDARY}--".encode(), b""),
        GOOD.replace(b"Content-Disposition: form-data", b"Content-Disposition: inline"),
        GOOD.replace(b'name="file"; ', b""),
        GOOD.replace(b"Content-Type: application", b"no colon"),
        GOOD.replace(b"a.bin", b"\xff\xfe"),
        GOOD.replace(b"a.bin", b"a" * 70_000),
        form(*[Part(b"")] * 1001),
        form(Part(b"n" * 70_000, None, None, field="note"), Part(b"x")),
        GOOD + b"z" * 70_000,
    ],
    ids=range(14),
)
def test_a_form_that_is_garbled_truncated_or_over_a_limit(strict: Server, body: bytes) -> None:
    assert_problem(post_form(strict, body), 400, "bad-form")


def test_a_form_that_breaks_after_a_whole_file_stores_none(strict: Server) -> None:
    body = form(Part(distinct(1), "whole"), Part(distinct(1), "broken"))[:-100]
    assert_problem(post_form(strict, body), 400, "bad-form")


@pytest.mark.parametrize("body", [form(), form(Part(b"x", field="files")), form(Part(b"x", None, None, field="a"))])
def test_a_form_without_a_file(strict: Server, body: bytes) -> None:
    assert_problem(post_form(strict, body), 400, "no-file-part")


# Too large


def test_a_file_at_the_limit_is_taken_and_one_byte_more_is_not(strict: Server) -> None:
    upload = strict.upload(distinct(0, LIMIT))
    assert strict.client.delete(f"/api/files/{upload['fileId']}").status_code == 204
    assert_problem(post_form(strict, form(Part(distinct(0, LIMIT + 1)))), 413, "file-too-large")


def test_the_limit_is_for_each_file_and_one_too_large_stops_all(strict: Server) -> None:
    taken = post_form(strict, form(*[Part(distinct(0, LIMIT))] * 3))
    assert taken.status_code == 201
    for file in taken.json()["files"]:
        strict.client.delete(f"/api/files/{file['id']}")
    refused = post_form(strict, form(Part(b"small"), Part(distinct(0, LIMIT + 1))))
    assert_problem(refused, 413, "file-too-large")


def test_a_client_in_the_middle_of_its_body_can_read_that_it_is_too_large(strict: Server) -> None:
    body = form(Part(bytes(40 * MIB)))
    connection = http.client.HTTPConnection(urlsplit(strict.url).netloc, timeout=30)
    try:
        connection.request("POST", "/api/upload", body, {"Content-Type": FORM})
        answer = connection.getresponse()
        read = httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()
    assert_problem(read, 413, "file-too-large")
    assert read.headers["connection"] == "close"


def test_the_answer_comes_before_the_body_has_ended(strict: Server) -> None:
    body = form(Part(bytes(40 * MIB)))
    with Wire(strict) as wire:
        wire.begin_upload(len(body))
        wire.send(body[: LIMIT + MIB])
        assert_problem(wire.answer(), 413, "file-too-large")


def test_who_asks_first_is_told_to_go_on_and_then_that_it_was_too_much(strict: Server) -> None:
    body = form(Part(bytes(LIMIT + MIB)))
    with Wire(strict) as wire:
        wire.begin_upload(len(body), ("Expect", "100-continue"))
        assert wire.receive_line().startswith(b"HTTP/1.1 100 ")
        assert wire.receive_line() == b"\r\n"
        wire.send(body)
        assert_problem(wire.answer(), 413, "file-too-large")


def test_who_asks_first_is_refused_without_sending_a_body(strict: Server) -> None:
    with Wire(strict) as wire:
        headers = [("Content-Type", "application/json"), ("Content-Length", "1000000"), ("Expect", "100-continue")]
        wire.head("POST", "/api/upload", headers)
        line = wire.receive_line()
        assert line.startswith(b"HTTP/1.1 415 ")
        while wire.receive_line() != b"\r\n":
            pass


# Too slow


def test_an_upload_that_stalls_is_given_up(strict: Server) -> None:
    body = form(Part(distinct(1)))
    with Wire(strict) as wire:
        wire.begin_upload(len(body))
        wire.send(body[: MIB // 2])
        answer = wire.answer()
        assert_problem(answer, 408, "upload-stalled")
        assert answer.headers["connection"] == "close"
        assert wire.closed()


def test_an_upload_of_which_nothing_comes_is_given_up(strict: Server) -> None:
    with Wire(strict) as wire:
        wire.begin_upload(1000)
        assert_problem(wire.answer(), 408, "upload-stalled")


# Ids, routes, methods

BAD_IDS = [
    "x",
    "0" * 23,
    "0" * 25,
    "g" * 24,
    "0" * 24,
    "f" * 64,
    "a" * 5000,
    "%00",
    "%00" * 24,
    "a%2Fb",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "%ff%fe",
    "%C3%A9" * 24,
    "%F0%9F%8E%89",
    "$ne",
    "%7B%22$gt%22:%22%22%7D",
    "%0d%0aX-Injected:%20yes",
    "%25",
    "%zz",
    "%20" * 24,
    "null",
    "0" * 24 + "%0a",
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=range(len(BAD_IDS)))
@pytest.mark.parametrize(
    "template", ["/api/files/{}", "/api/files/{}/info", "/api/files/{}/manifest", "/api/content/{}"]
)
def test_ids_that_are_none(strict: Server, template: str, bad: str) -> None:
    with Wire(strict) as wire:
        wire.head("GET", template.format(bad))
        answer = wire.answer("GET")
        assert_problem(answer, 404, "not-found")
        assert "x-injected" not in answer.headers
        wire.head("HEAD", template.format(bad))
        assert wire.answer("HEAD").status_code in (404, 405)
        if template == "/api/files/{}":
            wire.head("DELETE", template.format(bad))
            assert_problem(wire.answer("DELETE"), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/api", "/api/", "/api/nothing", "/api/files/1/2/3", "/static/nothing", "/static/../openapi.json"],
)
def test_unknown_routes(strict: Server, path: str) -> None:
    with Wire(strict) as wire:
        wire.head("GET", path)
        assert_problem(wire.answer("GET"), 404, "not-found")


FILE = "/api/files/" + "0" * 24


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/upload", {"POST"}),
        ("POST", "/api/files", {"GET", "HEAD"}),
        ("PUT", FILE, {"GET", "HEAD", "DELETE"}),
        ("POST", FILE, {"GET", "HEAD", "DELETE"}),
        ("DELETE", f"{FILE}/info", {"GET", "HEAD"}),
        ("DELETE", "/api/content/" + "0" * 64, {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("PATCH", "/", {"GET", "HEAD"}),
        ("OPTIONS", "/api/stats", {"GET", "HEAD"}),
    ],
)
def test_wrong_methods(strict: Server, method: str, path: str, allowed: set[str]) -> None:
    answer = strict.client.request(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert {word.strip() for word in answer.headers["allow"].split(",")} == allowed


def test_a_wrong_method_with_a_body_is_answered(strict: Server) -> None:
    answer = strict.client.put(FILE, content=bytes(5 * MIB))
    assert_problem(answer, 405, "method-not-allowed")


def test_what_is_no_http_is_refused_and_the_server_goes_on(strict: Server) -> None:
    with Wire(strict) as wire:
        wire.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert wire.answer("GET").status_code == 400


def test_every_answer_has_the_security_headers(strict: Server) -> None:
    for answer in (
        strict.client.get("/"),
        strict.client.get("/static/index.js"),
        strict.client.get("/metrics"),
        strict.client.get("/nothing"),
        strict.client.put("/api/upload"),
        strict.client.post("/api/upload"),
        strict.client.options("/api/files"),
    ):
        assert set(answer.headers) >= SECURITY
        assert answer.headers["x-request-id"]
