"""A node server as it answers callers who are careless, hostile or cut off."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.node import MOST_BLOB
from app.http.digest import content_digest
from app.types import CHUNK_SIZE
from tests.faults.tools import code_of
from tests.node_servers import TOKEN, NodeServer, claimed, node_server
from tests.support import eventually

NAME = f"{'ab' * 32}.{'0' * 16}"
ALLOWED = {"Authorization": f"Bearer {TOKEN}", "Mini-S3-Node": "n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeServer]:
    with node_server(tmp_path_factory.mktemp("node") / "n") as running:
        asyncio.run(_claim(running))
        yield running


async def _claim(running: NodeServer) -> None:
    await (await claimed(running)).close()


@pytest.fixture(autouse=True)
def nothing_left(server: NodeServer) -> Iterator[None]:
    yield
    for path in files(server):
        path.unlink()


@pytest.fixture
def client(server: NodeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=ALLOWED, trust_env=False, timeout=30) as opened:
        yield opened


def digest_of(content: bytes) -> dict[str, str]:
    return {"Content-Digest": content_digest(hashlib.sha256(content).digest())}


def files(server: NodeServer) -> list[Path]:
    return [path for path in server.directory.rglob("*") if path.is_file() and path.name != "node.json"]


def put(client: httpx.Client, content: bytes, name: str = NAME, **headers: str) -> httpx.Response:
    return client.put(f"/v1/blobs/{name}", content=content, headers={**digest_of(content), **headers})


def test_a_blob_goes_in_and_out(server: NodeServer, client: httpx.Client) -> None:
    """Also one whose bytes are not those that its name tells, and one that is longer than a chunk."""
    for content in (b"", b"x", os.urandom(CHUNK_SIZE), os.urandom(MOST_BLOB)):
        assert put(client, content).status_code == 201
        assert (server.directory / "ab" / NAME).read_bytes() == content
        answer = client.get(f"/v1/blobs/{NAME}?size={len(content)}")
        assert (answer.content, answer.headers["content-length"]) == (content, str(len(content)))
    assert client.post("/v1/unlink", content=NAME).status_code == 204
    assert not files(server)


CALLS = [
    ("GET", "/v1/identity"),
    ("PUT", "/v1/identity"),
    ("PUT", f"/v1/blobs/{NAME}"),
    ("GET", f"/v1/blobs/{NAME}?size=1"),
    ("POST", "/v1/unlink"),
    ("POST", f"/v1/quarantine/{NAME}"),
    ("GET", "/v1/folders/ab"),
    ("GET", "/v1/space"),
    ("GET", "/"),
]


@pytest.mark.parametrize("given", [None, "", TOKEN, "Bearer", f"Bearer {TOKEN}x", f"Bearer{TOKEN}", "Bearer \xe9"])
def test_without_the_token_nothing_is_told_or_done(server: NodeServer, given: str | None) -> None:
    headers = {"Mini-S3-Node": "n", **digest_of(b"x")} | ({} if given is None else {"Authorization": given})
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    with httpx.Client(base_url=server.url, headers=encoded, trust_env=False) as stranger:
        for method, path in CALLS:
            answer = stranger.request(method, path, content=None if method == "GET" else b"x")
            assert code_of(answer) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert not files(server)


def test_without_the_token_a_body_is_not_waited_for(server: NodeServer) -> None:
    assert (
        raw_status(server, f"PUT /v1/blobs/{NAME} HTTP/1.1", {"Authorization": "", "Content-Length": "9"}, b"") == 401
    )


BAD_NAMES = [
    "",
    "x",
    "../node.json",
    "..%2Fnode.json",
    "%2e%2e%2fnode.json",
    "ab%2F" + NAME,
    "/etc/passwd",
    "%2Fetc%2Fpasswd",
    NAME + "x",
    NAME[:-1],
    NAME.upper(),
    NAME + "/",
    ".tmp-" + NAME,
    NAME + "%00",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_a_blobs_or_refused(server: NodeServer, name: str) -> None:
    """As they stand on the wire: clients would tidy some of them up."""
    before = (server.directory / "node.json").read_bytes()
    for line in (f"GET /v1/blobs/{name}?size=1", f"PUT /v1/blobs/{name}", f"POST /v1/quarantine/{name}"):
        assert raw_status(server, f"{line} HTTP/1.1", digest_of(b"x"), b"x") == 400, line
    assert not files(server)
    assert (server.directory / "node.json").read_bytes() == before


def raw_status(server: NodeServer, line: str, headers: dict[str, str], body: bytes) -> int:
    with connected(server) as connection:
        connection.sendall(head(line, {"Content-Length": str(len(body)), **headers}) + body)
        return int(connection.recv(4096).split()[1])


def connected(server: NodeServer) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(line: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([line, "Host: n", *(f"{k}: {v}" for k, v in {**ALLOWED, **headers}.items()), "\r\n"]).encode()


def test_names_to_unlink_are_blobs_or_none_is_unlinked(server: NodeServer, client: httpx.Client) -> None:
    put(client, b"x")
    for names in (f"{NAME}\n../../node.json", f"{NAME}\n\n", "\n".join([NAME] * 1001), "\xff"):
        assert code_of(client.post("/v1/unlink", content=names.encode("latin-1"))) == (400, "bad-request")
    assert [path.name for path in files(server)] == [NAME]
    assert client.post("/v1/unlink", content=b"x" * 200_000).status_code == 413
    assert client.post("/v1/unlink", content=f"{NAME}\n{NAME[:-1]}1\n").status_code == 204
    assert not files(server)


@pytest.mark.parametrize("size", ["", "-1", "x", "1.0", str(MOST_BLOB + 1), "9" * 30, "٣"])
def test_a_reader_must_say_how_long_the_blob_is(client: httpx.Client, size: str) -> None:
    assert code_of(client.get(f"/v1/blobs/{NAME}", params={"size": size})) == (400, "bad-request")


def test_what_is_not_as_asked_is_told_by_its_code(client: httpx.Client) -> None:
    assert code_of(client.get(f"/v1/blobs/{NAME}?size=1")) == (404, "blob-missing")
    put(client, b"12")
    assert code_of(client.get(f"/v1/blobs/{NAME}?size=1")) == (409, "blob-damaged")


def test_a_blob_may_not_be_too_large(server: NodeServer, client: httpx.Client) -> None:
    assert code_of(put(client, bytes(MOST_BLOB + 1))) == (413, "too-large")
    assert not files(server)


def test_a_body_must_say_how_long_it_is(server: NodeServer, client: httpx.Client) -> None:
    answer = client.put(f"/v1/blobs/{NAME}", content=iter([b"x"]), headers=digest_of(b"x"))
    assert code_of(answer) == (411, "length-required")
    assert not files(server)


WRONG = [
    digest_of(b"y"),
    {"Content-Digest": ""},
    {"Content-Digest": "sha-256=:AAAA:"},
    {"Content-Digest": "md5=:AAAA:"},
]


@pytest.mark.parametrize("headers", WRONG)
def test_a_body_that_changed_on_its_way_is_not_stored(
    server: NodeServer, client: httpx.Client, headers: dict[str, str]
) -> None:
    assert code_of(put(client, b"x", **headers)) == (400, "bad-request")
    assert not files(server)


def test_a_body_that_breaks_off_leaves_nothing(server: NodeServer, client: httpx.Client) -> None:
    before = len(server.events("client gone in mid-body"))
    for sent in (b"", b"x" * 100_000):
        with connected(server) as connection:
            declared = {"Content-Length": str(CHUNK_SIZE), **digest_of(bytes(CHUNK_SIZE))}
            connection.sendall(head(f"PUT /v1/blobs/{NAME} HTTP/1.1", declared) + sent)
    eventually(lambda: len(server.events("client gone in mid-body")) == before + 2)
    assert not files(server)
    assert put(client, b"x").status_code == 201


@pytest.mark.parametrize("node", ["m", "", "%C3%A9"])
def test_a_call_for_another_node_is_refused(server: NodeServer, client: httpx.Client, node: str) -> None:
    """A blob that is missing here may well be there."""
    expected = (500, "node-error") if node else (400, "bad-request")
    for answer in (
        client.get(f"/v1/blobs/{NAME}?size=1", headers={"Mini-S3-Node": node}),
        put(client, b"x", **{"Mini-S3-Node": node}),
        client.post("/v1/unlink", content=NAME, headers={"Mini-S3-Node": node}),
        client.post(f"/v1/quarantine/{NAME}", headers={"Mini-S3-Node": node}),
        client.get("/v1/folders/ab", headers={"Mini-S3-Node": node}),
        client.get("/v1/space", headers={"Mini-S3-Node": node}),
    ):
        assert code_of(answer) == expected
    assert not files(server)


def test_paths_and_methods_that_are_not_known(client: httpx.Client) -> None:
    for path in ("/", "/v1", "/v1/blobs", "/v2/space", "/v1/space/", "/v1/folders/ab/cd"):
        assert code_of(client.get(path)) == (404, "not-found")
    for method, path, allowed in (
        ("POST", f"/v1/blobs/{NAME}", {"GET", "HEAD", "PUT"}),
        ("DELETE", "/v1/identity", {"GET", "HEAD", "PUT"}),
        ("GET", "/v1/unlink", {"POST"}),
        ("PUT", "/v1/space", {"GET", "HEAD"}),
    ):
        answer = client.request(method, path)
        assert code_of(answer) == (405, "method-not-allowed")
        assert set(answer.headers["allow"].split(", ")) == allowed
    for folder in ("a", "abc", "AB", "..", "zz"):
        assert client.get(f"/v1/folders/{folder}").status_code in (400, 404)


def test_an_identity_is_put_once(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server, httpx.Client(base_url=server.url, headers=ALLOWED) as client:
        assert client.get("/v1/identity").status_code == 204
        assert code_of(put(client, b"x")) == (500, "node-error")
        for garbled in (b"", b"x", b"[]", b'{"id": 1}'):
            assert code_of(client.put("/v1/identity", content=garbled)) == (400, "bad-request")
        first, second = (json.dumps({"id": name}).encode() for name in ("n", "m"))
        for identity in (first, second):
            assert client.put("/v1/identity", content=identity).content == first
        assert client.get("/v1/identity").content == first
        assert put(client, b"x").status_code == 201


def test_a_foreign_directory_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "letter.txt").touch()
    with node_server(tmp_path / "n") as server, httpx.Client(base_url=server.url, headers=ALLOWED) as client:
        assert code_of(client.put("/v1/identity", content=b'{"id": "n"}')) == (409, "bad-configuration")


def test_each_request_is_logged_and_the_token_never(server: NodeServer, client: httpx.Client) -> None:
    answer = client.get("/v1/space")
    eventually(lambda: answer.headers["x-request-id"] in {line["request"] for line in server.events("request")})
    assert TOKEN not in server.log_text()


def test_it_stops_in_order(tmp_path: Path) -> None:
    with node_server(tmp_path / "n") as server:
        assert server.stop() == 0


def refused(*words: str, **env: str) -> Any:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
    command = [sys.executable, "-m", "app", "node", "serve", "--port", "0", *words]
    return subprocess.run(command, env={**ours, **env}, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_token_or_a_place_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "token").write_text("a token of several words\n")
    for ended, why in (
        (refused("--dir", str(tmp_path / "n")), "openssl rand"),
        (refused("--dir", str(tmp_path / "n"), "--token", ""), "openssl rand"),
        (refused("--dir", str(tmp_path / "n"), "--token-file", str(tmp_path / "token")), "letters, digits"),
        (refused("--dir", str(tmp_path / "n"), "--token-file", str(tmp_path / "absent")), "No such file"),
        (refused("--dir", str(tmp_path / "n"), "--token", "a", "--token-file", str(tmp_path / "token")), "once"),
        (refused("--dir", str(tmp_path / "file"), "--token", "a"), "can't be used"),
        (refused("--dir", str(tmp_path / "n"), "--host", "256.0.0.1", "--token", "a"), "can't listen"),
        (refused(MINI_S3_NODE_TOKEN="a"), "--dir"),
    ):
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert why in ended.stderr
        assert "several words" not in ended.stderr
    assert not (tmp_path / "n").exists()
