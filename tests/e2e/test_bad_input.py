"""Bad input gets a clear error, a stable code, and leaves nothing behind."""

from __future__ import annotations

import http.client
import os
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import StartServer
from tests.support import Server, blob_names, eventually

MIB = 1 << 20
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
END = b"\r\n--b--\r\n"


def problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["detail"]
    assert body["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415, "not-multipart"),
        ({}, b"abc", 415, "not-multipart"),
        ({"Content-Type": "multipart/form-data"}, HEAD + b"x" + END, 400, "bad-form"),
        (FORM, b"garbage", 400, "bad-form"),
        (FORM, b"", 400, "bad-form"),
        (FORM, HEAD + b"x" * 3 * MIB, 400, "bad-form"),
        (FORM, HEAD + b"x" + END[:-5], 400, "bad-form"),
        (FORM, HEAD.replace(b'"file"', b'"other"') + b"x" + END, 400, "no-file-part"),
        (FORM, b"--b--\r\n", 400, "no-file-part"),
        (FORM, HEAD[:-2] + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\nx" + END, 400, "bad-form"),
        (FORM, (HEAD + b"x\r\n") * 2000 + END[2:], 400, "bad-form"),
        (FORM, HEAD.replace(b'filename="a"', b'filename="\xff\xfe"') + b"x" + END, 400, "bad-form"),
    ],
)
def test_forms_that_are_none(server: Server, headers: dict[str, str], body: bytes, status: int, code: str) -> None:
    newest = server.client.get("/api/files?limit=1").json()["files"]
    problem(server.client.post("/api/upload", content=body, headers=headers), status, code)
    assert server.client.get("/api/files?limit=1").json()["files"] == newest


@pytest.mark.parametrize("bad", ["x", "0" * 24, "g" * 24, "%00", "..%2f..%2fetc", "ü" * 100, "0" * 5000, " "])
@pytest.mark.parametrize("suffix", ["", "/info", "/manifest"])
def test_ids_that_name_nothing(server: Server, bad: str, suffix: str) -> None:
    problem(server.client.get(f"/api/files/{bad}{suffix}"), 404, "not-found")


def test_what_is_not_there(server: Server) -> None:
    problem(server.client.get(f"/api/content/{'0' * 64}"), 404, "not-found")
    problem(server.client.get("/api/content/%00"), 404, "not-found")
    problem(server.client.delete(f"/api/files/{'0' * 24}"), 404, "not-found")
    problem(server.client.get("/nowhere"), 404, "not-found")
    problem(server.client.put("/api/upload"), 405, "method-not-allowed")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=²", "after=x", "after=AAAA", "after=" + "A" * 500]
)
def test_queries_that_make_no_sense(server: Server, query: str) -> None:
    problem(server.client.get(f"/api/files?{query}"), 400, "bad-request")


def test_a_file_over_the_maximum_is_refused_while_it_is_being_sent(start_server: StartServer) -> None:
    server = start_server(max_file_size="2MiB")
    assert server.upload(os.urandom(2 * MIB))["file"]["size"] == 2 * MIB
    before = blob_names(server)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", "/api/upload")
    connection.putheader("Content-Type", FORM["Content-Type"])
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders(HEAD)
    for _ in range(3):
        connection.send(b"x" * MIB)
    answer = connection.getresponse()
    assert answer.status == 413
    assert b'"file-too-large"' in answer.read()
    connection.close()
    assert len(server.client.get("/api/files").json()["files"]) == 1
    assert len(blob_names(server) - before) <= 2


def test_a_client_that_waits_for_leave_to_send_is_told_before_it_sends(server: Server) -> None:
    with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), 30) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 415 ")


def test_a_client_that_stalls_is_given_up(start_server: StartServer) -> None:
    server = start_server(idle_timeout="0.2")
    with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), 30) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 1000000\r\n\r\n" + HEAD
        )
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"upload-stalled" in received


def test_a_client_that_goes_away_leaves_no_file_and_no_memory(start_server: StartServer) -> None:
    server = start_server()

    def buffers() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("mini_s3_buffers_bytes "))

    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", "/api/upload")
    connection.putheader("Content-Type", FORM["Content-Type"])
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders(HEAD)
    connection.send(os.urandom(20 * MIB + 5))
    eventually(lambda: buffers() > 0)
    connection.close()
    eventually(lambda: buffers() == 0)
    eventually(lambda: server.events("client gone in mid-upload"))
    assert server.client.get("/api/files").json() == {"files": [], "next": None}
