"""Upload sessions from outside: parts, negotiation, what answers tell, and what is refused."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.helpers import MIB, Wire, assert_problem, digests, distinct, metric, own_server
from tests.support import Databases, Server, eventually

LIMIT = 8 * MIB


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that takes little and has no patience."""
    with own_server(databases, tmp_path_factory, max_file_size=LIMIT, idle_timeout=1) as running:
        yield running


def begin(server: Server, **document: Any) -> str:
    answer = server.client.post("/api/uploads", json={"name": "a.bin"} | document)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/uploads/{answer.json()['id']}"
    return answer.headers["location"]


def listed(content: bytes) -> list[dict[str, Any]]:
    cuts = [content[at : at + MIB] for at in range(0, len(content), MIB)]
    return [{"digest": digest, "size": len(cut)} for digest, cut in zip(digests(content), cuts, strict=True)]


def send_chunk(server: Server, path: str, chunk: bytes) -> httpx.Response:
    return server.client.put(f"{path}/chunks/{hashlib.sha256(chunk).hexdigest()}", content=chunk)


def made(answer: httpx.Response, server: Server, content: bytes, status: int = 201) -> Any:
    """What was made of a session, which is these bytes."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/api/files/{body['fileId']}"
    assert body["files"] == [body["file"]]
    assert server.client.get(answer.headers["location"]).content == content
    return body


# Parts


def test_a_file_of_parts(server: Server) -> None:
    """That come in any order, at the same time, and again."""
    bodies = {1: distinct(2, 5), 2: b"x", 7: distinct(1)}
    path = begin(server, contentType="text/plain", size=3 * MIB + 6)
    fresh = server.client.get(path).json()
    assert (fresh["received"], fresh["parts"], fresh["size"], fresh["contentType"]) == (
        0,
        [],
        3 * MIB + 6,
        "text/plain",
    )
    assert fresh["createdAt"] < fresh["expiresAt"]

    server.client.put(f"{path}/parts/2", content=b"another")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda n: server.client.put(f"{path}/parts/{n}", content=bodies[n]), [7, 2, 1]))
    parts = [{"number": n, "size": len(b), "md5": hashlib.md5(b).hexdigest()} for n, b in bodies.items()]
    assert sorted((answer.json() for answer in answers), key=lambda part: part["number"]) == parts
    there = server.client.get(path).json()
    assert (there["parts"], there["received"]) == (parts, 3 * MIB + 6)
    assert there["expiresAt"] > fresh["expiresAt"]

    answer = server.client.post(f"{path}/complete")
    body = made(answer, server, b"".join(bodies.values()))
    assert (body["file"]["name"], body["file"]["contentType"]) == ("a.bin", "text/plain")
    assert body["chunks"] == {"total": 5, "new": 5, "linked": 0}
    received = 3 * MIB + 6 + len(b"another")
    assert body["bytes"] == {"received": received, "stored": received, "saved": 0}

    again = server.client.post(f"{path}/complete", json={})
    assert made(again, server, b"".join(bodies.values()), 200) == body
    after = server.client.get(path).json()
    assert (after["fileId"], after["parts"]) == (body["fileId"], [])
    assert_problem(server.client.put(f"{path}/parts/1", content=b"late"), 404, "no-such-upload")
    server.client.delete(answer.headers["location"])
    assert_problem(server.client.post(f"{path}/complete"), 404, "not-found")


def test_parts_that_are_chosen(server: Server) -> None:
    path = begin(server)
    for number in (1, 2, 3):
        server.client.put(f"{path}/parts/{number}", content=str(number).encode())
    assert_problem(server.client.post(f"{path}/complete", json={"parts": [1, 4]}), 409, "invalid-part")
    made(server.client.post(f"{path}/complete", json={"parts": [3, 1]}), server, b"31")


def test_digests_of_a_part_are_compared(server: Server) -> None:
    path, body = begin(server), distinct(1, 7)

    def text(kind: str, content: bytes = body) -> str:
        return b64encode(hashlib.new(kind, content).digest()).decode()

    good = {
        "Content-MD5": text("md5"),
        "Content-Digest": f"sha-256=:{text('sha256')}:, sha-512=:{text('sha512')}:",
        "Repr-Digest": f"md5=:{text('md5')}:",
        "Digest": f"SHA-256={text('sha256')}",
    }
    assert server.client.put(f"{path}/parts/1", content=body, headers=good).status_code == 200
    bad = {
        "Content-MD5": text("md5", b"x"),
        "Content-Digest": f"sha-256=:{text('sha256')}:, sha-512=:{text('sha512', b'x')}:",
        "Repr-Digest": f"md5=:{text('md5', b'x')}:",
        "Digest": f"sha-256={text('sha256', b'x')}",
    }
    for name, value in bad.items():
        answer = server.client.put(f"{path}/parts/2", content=body, headers=good | {name: value})
        assert_problem(answer, 400, "digest-mismatch")
        unreadable = server.client.put(f"{path}/parts/2", content=body, headers={name: "sha-256"})
        assert_problem(unreadable, 400, "bad-request")
    assert [part["number"] for part in server.client.get(path).json()["parts"]] == [1]


# Negotiation


def test_only_what_is_missing_is_sent(server: Server) -> None:
    content = distinct(5, 9)
    server.upload(content)
    edited = content[: 2 * MIB] + distinct(1) + content[3 * MIB :]
    path = begin(server, size=len(edited))
    chunks = listed(edited)
    asked = server.client.post(f"{path}/missing", json={"chunks": [*chunks, chunks[2]]})
    assert asked.json() == {"missing": [chunks[2]["digest"]], "known": 5}

    early = server.client.post(f"{path}/complete", json={"chunks": chunks})
    assert assert_problem(early, 409, "chunks-missing")["missing"] == [chunks[2]["digest"]]
    for _ in range(2):
        assert send_chunk(server, path, edited[2 * MIB : 3 * MIB]).status_code == 204
    assert server.client.post(f"{path}/missing", json={"chunks": chunks}).json() == {"missing": [], "known": 6}
    body = made(server.client.post(f"{path}/complete", json={"chunks": chunks}), server, edited)
    assert body["chunks"] == {"total": 6, "new": 1, "linked": 5}
    # What was sent twice came twice.
    assert body["bytes"] == {"received": 2 * MIB, "stored": MIB, "saved": 4 * MIB + 9}


def test_nothing_is_made_of_what_was_not_sent_in_this_session(server: Server) -> None:
    chunk = distinct(0, 1000)
    one, other = begin(server), begin(server)
    send_chunk(server, one, chunk)
    for chunks in (listed(chunk), [{**listed(chunk)[0], "size": 999}]):
        refused = server.client.post(f"{other}/complete", json={"chunks": chunks})
        assert assert_problem(refused, 409, "chunks-missing")["missing"] == [chunks[0]["digest"]]
    wrong = server.client.put(f"{other}/chunks/{listed(chunk)[0]['digest']}", content=chunk[:-1])
    assert_problem(wrong, 400, "digest-mismatch")
    assert server.client.post(f"{other}/missing", json={"chunks": listed(chunk)}).json()["known"] == 0
    made(server.client.post(f"{one}/complete", json={"chunks": listed(chunk) * 3}), server, chunk * 3)


def test_a_file_of_the_content_of_another(server: Server) -> None:
    content = distinct(2, 1)
    file = server.upload(content)["file"]
    path = begin(server, name="copy")
    assert_problem(server.client.post(f"{path}/complete", json={"contentId": "0" * 64}), 409, "content-unknown")
    body = made(server.client.post(f"{path}/complete", json={"contentId": file["contentId"]}), server, content)
    assert (body["file"]["name"], body["file"]["contentId"]) == ("copy", file["contentId"])
    assert body["bytes"] == {"received": 0, "stored": 0, "saved": len(content)}


def test_an_empty_file(server: Server) -> None:
    path = begin(server)
    assert_problem(server.client.post(f"{path}/complete"), 409, "invalid-part")
    made(server.client.post(f"{path}/complete", json={"chunks": []}), server, b"")
    made(server.client.post(f"{begin(server, size=0)}/complete"), server, b"")


def test_many_chunks_at_the_same_time(server: Server) -> None:
    """More than are held one by one."""
    path = begin(server)
    cuts = [bytes([n % 250]) * 40 + n.to_bytes(2, "big") for n in range(150)]
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda cut: send_chunk(server, path, cut), cuts)} == {204}
    chunks = [{"digest": hashlib.sha256(cut).hexdigest(), "size": len(cut)} for cut in cuts]
    made(server.client.post(f"{path}/complete", json={"chunks": chunks[::-1]}), server, b"".join(cuts[::-1]))


# Sessions


def test_sessions_are_listed_newest_first_while_they_are_open(server: Server) -> None:
    paths = [begin(server, name=str(number)) for number in range(5)]
    server.client.post(f"{paths[1]}/complete", json={"chunks": []})
    assert server.client.delete(paths[3]).status_code == 204
    found, after = [], ""
    while True:
        page = server.client.get("/api/uploads", params={"limit": 2} | ({"after": after} if after else {})).json()
        found += page["uploads"]
        after = page["next"]
        if not after:
            break
        assert len(page["uploads"]) == 2
    assert [one["name"] for one in found][:3] == ["4", "2", "0"]
    assert {one["id"] for one in found} >= {path.rpartition("/")[2] for path in (paths[0], paths[2], paths[4])}
    assert_problem(server.client.delete(paths[3]), 404, "no-such-upload")
    assert_problem(server.client.get(paths[3]), 404, "no-such-upload")


# What is refused

CHUNK = {"digest": "ab" * 32, "size": 1}
REFUSED: Sequence[tuple[str, str, Any, int, str]] = [
    ("POST", "", b"{", 400, "bad-request"),
    ("POST", "", [], 400, "bad-request"),
    ("POST", "", {}, 400, "bad-request"),
    ("POST", "", {"name": 5}, 400, "bad-request"),
    ("POST", "", b'{"name": "\\ud800"}', 400, "bad-request"),
    ("POST", "", {"name": "x" * 4097}, 400, "bad-request"),
    ("POST", "", {"name": "a", "contentType": "a\nb/c"}, 400, "bad-request"),
    ("POST", "", {"name": "a", "contentType": None}, 400, "bad-request"),
    ("POST", "", {"name": "a", "size": -1}, 400, "bad-request"),
    ("POST", "", {"name": "a", "size": "1"}, 400, "bad-request"),
    ("POST", "", {"name": "a", "size": True}, 400, "bad-request"),
    ("POST", "", {"name": "a", "size": LIMIT + 1}, 413, "file-too-large"),
    ("POST", "", {"name": "a", "size": 10**30}, 400, "bad-request"),
    ("PUT", "/{id}/parts/0", b"x", 400, "bad-request"),
    ("PUT", "/{id}/parts/10001", b"x", 400, "bad-request"),
    ("PUT", "/{id}/parts/x", b"x", 400, "bad-request"),
    ("PUT", "/{id}/parts/1", b"", 400, "bad-request"),
    ("PUT", "/{id}/parts/1", bytes(LIMIT + 1), 413, "file-too-large"),
    ("PUT", f"/{{id}}/chunks/{'ab' * 31}", b"x", 400, "bad-request"),
    ("PUT", f"/{{id}}/chunks/{'ab' * 32}", b"", 400, "bad-request"),
    ("PUT", f"/{{id}}/chunks/{'ab' * 32}", b"x", 400, "digest-mismatch"),
    ("PUT", f"/{{id}}/chunks/{'ab' * 32}", bytes(MIB + 1), 413, "file-too-large"),
    ("POST", "/{id}/missing", b"", 400, "bad-request"),
    ("POST", "/{id}/missing", {"chunks": []}, 400, "bad-request"),
    ("POST", "/{id}/missing", {"chunks": [{"digest": "ab", "size": 1}]}, 400, "bad-request"),
    ("POST", "/{id}/missing", {"chunks": [{**CHUNK, "size": MIB + 1}]}, 400, "bad-request"),
    ("POST", "/{id}/missing", {"chunks": [CHUNK, {**CHUNK, "size": 2}]}, 400, "bad-request"),
    (
        "POST",
        "/{id}/missing",
        {"chunks": [{**CHUNK, "digest": f"{n:064x}"} for n in range(10_001)]},
        400,
        "bad-request",
    ),
    ("POST", "/{id}/complete", b"[]", 400, "bad-request"),
    ("POST", "/{id}/complete", {"parts": []}, 400, "bad-request"),
    ("POST", "/{id}/complete", {"parts": [1, 1]}, 400, "bad-request"),
    ("POST", "/{id}/complete", {"parts": ["1"]}, 400, "bad-request"),
    ("POST", "/{id}/complete", {"parts": [1], "contentId": "ab" * 32}, 400, "bad-request"),
    ("POST", "/{id}/complete", {"contentId": "ab"}, 400, "bad-request"),
    ("POST", "/{id}/complete", {"chunks": [CHUNK]}, 409, "chunks-missing"),
    ("POST", "/{id}/complete", {"parts": [1]}, 409, "invalid-part"),
    ("PUT", "/none/parts/1", b"x", 404, "no-such-upload"),
    ("PUT", f"/{'0' * 24}/chunks/{'ab' * 32}", b"x", 404, "no-such-upload"),
    ("POST", f"/{'0' * 24}/complete", {}, 404, "no-such-upload"),
    ("GET", "?after=x", b"", 400, "bad-request"),
    ("GET", "?limit=0", b"", 400, "bad-request"),
    ("PATCH", "", b"", 405, "method-not-allowed"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSED)
def test_what_is_refused(server: Server, method: str, path: str, body: Any, status: int, code: str) -> None:
    session = begin(server)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = "/api/uploads" + path.replace("{id}", session.rpartition("/")[2])
    assert_problem(server.client.request(method, path, content=content), status, code)
    assert server.client.get(session).json()["parts"] == []
    eventually(lambda: metric(server, "mini_s3_buffers_bytes") == 0)


def test_a_file_that_is_not_as_announced(server: Server) -> None:
    path = begin(server, size=3)
    server.client.put(f"{path}/parts/1", content=b"1234")
    assert_problem(server.client.post(f"{path}/complete"), 409, "size-mismatch")
    assert_problem(server.client.post(f"{path}/complete", json={"chunks": []}), 409, "size-mismatch")
    server.client.put(f"{path}/parts/1", content=b"123")
    made(server.client.post(f"{path}/complete"), server, b"123")


def test_parts_that_are_too_much_together(server: Server) -> None:
    path = begin(server)
    for number in (1, 2):
        assert server.client.put(f"{path}/parts/{number}", content=bytes(LIMIT // 2 + 1)).status_code == 200
    assert_problem(server.client.post(f"{path}/complete"), 413, "file-too-large")
    made(server.client.post(f"{path}/complete", json={"parts": [1]}), server, bytes(LIMIT // 2 + 1))


def test_a_client_that_goes_or_stops_leaves_nothing(server: Server) -> None:
    path = begin(server)
    for target in (f"{path}/parts/1", f"{path}/chunks/{'ab' * 32}"):
        with Wire(server) as wire:
            wire.head("PUT", target, [("Content-Length", str(MIB))])
            wire.send(bytes(1000))
            wire.vanish()
        with Wire(server) as wire:
            wire.head("PUT", target, [("Content-Length", str(MIB))])
            wire.send(bytes(1000))
            assert_problem(wire.answer("PUT"), 408, "upload-stalled")
    assert server.client.get(path).json()["parts"] == []
    eventually(lambda: metric(server, "mini_s3_buffers_bytes") == 0)
