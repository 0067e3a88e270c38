"""tus 1.0 from outside: what each request is answered, and what is there afterwards."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.e2e.helpers import MIB, Wire, assert_problem, distinct, metric, own_server
from tests.support import Databases, Server, eventually

LIMIT = 8 * MIB
ORIGIN = "https://app.example"
SPEAKS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}
NAMED = "filename YS9iLnR4dA==,filetype dGV4dC9wbGFpbg==,confidential"

Headers = Mapping[str, str]


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that takes little and has no patience."""
    settings = {"max_file_size": LIMIT, "idle_timeout": 1, "cors_origins": ORIGIN}
    with own_server(databases, tmp_path_factory, **settings) as running:
        yield running


def call(server: Server, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    """A request that speaks tus; headers as keywords, with underscores."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.client.request(method, path, content=content, headers=SPEAKS | more)
    assert answer.headers["tus-resumable"] == "1.0.0"
    return answer


def create(server: Server, size: int | None, **headers: str) -> str:
    length = {"Upload-Length": str(size)} if size is not None else {"Upload-Defer-Length": "1"}
    answer = call(server, "POST", "/api/tus", **length, **headers)
    assert answer.status_code == 201, answer.text
    return str(answer.request.url.join(answer.headers["location"]).path)


def append(server: Server, path: str, offset: int, content: bytes, **headers: str) -> httpx.Response:
    return call(server, "PATCH", path, content, Upload_Offset=str(offset), **BYTES, **headers)


def offset(server: Server, path: str) -> int:
    answer = call(server, "HEAD", path)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def content_of(server: Server, answer: httpx.Response) -> bytes:
    """Of the file that the answer names."""
    return server.client.get(f"/api/files/{answer.headers['x-file-id']}").content


def checksum(kind: str, content: bytes) -> str:
    return f"{kind} {b64encode(hashlib.new(kind, content).digest()).decode()}"


# One request each, to an upload of ten bytes four of which are there.

ROWS: list[tuple[str, str, Headers, bytes, int, Headers]] = [
    ("its state", "HEAD", {}, b"", 200, {"upload-offset": "4", "upload-length": "10", "cache-control": "no-store"}),
    ("what it was created with", "HEAD", {}, b"", 200, {"upload-metadata": NAMED}),
    ("going on", "PATCH", {"Upload-Offset": "4", **BYTES}, b"456", 204, {"upload-offset": "7"}),
    ("nothing more", "PATCH", {"Upload-Offset": "4", **BYTES}, b"", 204, {"upload-offset": "4"}),
    ("the end", "PATCH", {"Upload-Offset": "4", **BYTES}, b"456789", 204, {"upload-offset": "10"}),
    ("too far", "PATCH", {"Upload-Offset": "5", **BYTES}, b"5", 409, {}),
    ("again", "PATCH", {"Upload-Offset": "3", **BYTES}, b"3", 409, {}),
    ("no offset", "PATCH", BYTES, b"4", 400, {}),
    ("no number", "PATCH", {"Upload-Offset": "-4", **BYTES}, b"4", 400, {}),
    ("another type", "PATCH", {"Upload-Offset": "4", "Content-Type": "text/plain"}, b"4", 415, {}),
    ("no type", "PATCH", {"Upload-Offset": "4"}, b"4", 415, {}),
    ("more than announced", "PATCH", {"Upload-Offset": "4", **BYTES}, b"4567890", 413, {}),
    ("the length again", "PATCH", {"Upload-Offset": "4", "Upload-Length": "10", **BYTES}, b"4", 204, {}),
    ("another length", "PATCH", {"Upload-Offset": "4", "Upload-Length": "11", **BYTES}, b"4", 400, {}),
    *(
        (
            "a checksum",
            "PATCH",
            {"Upload-Offset": "4", "Upload-Checksum": checksum(kind, b"45"), **BYTES},
            b"45",
            204,
            {},
        )
        for kind in ("sha256", "sha1", "md5")
    ),
    *(
        (
            "a wrong one",
            "PATCH",
            {"Upload-Offset": "4", "Upload-Checksum": checksum(kind, b"x"), **BYTES},
            b"45",
            460,
            {},
        )
        for kind in ("sha256", "sha1", "md5")
    ),
    ("an unknown one", "PATCH", {"Upload-Offset": "4", "Upload-Checksum": "crc32 AAAAAA==", **BYTES}, b"45", 400, {}),
    ("one behind the body", "PATCH", {"Upload-Offset": "4", "Trailer": "Upload-Checksum", **BYTES}, b"45", 400, {}),
    ("another version", "PATCH", {"Tus-Resumable": "0.2.2", **BYTES}, b"4", 412, {"tus-version": "1.0.0"}),
    ("no version", "HEAD", {"Tus-Resumable": ""}, b"", 412, {"tus-version": "1.0.0"}),
    ("another method", "POST", {}, b"", 405, {"allow": "HEAD, PATCH, DELETE, OPTIONS"}),
    (
        "PATCH by POST",
        "POST",
        {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "4", **BYTES},
        b"4",
        204,
        {"upload-offset": "5"},
    ),
    ("HEAD by POST", "POST", {"X-HTTP-Method-Override": "HEAD"}, b"", 200, {"upload-offset": "4"}),
    ("DELETE by POST", "POST", {"X-HTTP-Method-Override": "DELETE"}, b"", 204, {}),
    ("the end of it", "DELETE", {}, b"", 204, {}),
    ("what is spoken", "OPTIONS", {"Tus-Resumable": ""}, b"", 204, {"tus-version": "1.0.0"}),
]


@pytest.mark.parametrize(
    ("method", "headers", "body", "status", "told"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_one_request(server: Server, method: str, headers: Headers, body: bytes, status: int, told: Headers) -> None:
    path = create(server, 10, Upload_Metadata=NAMED)
    append(server, path, 0, b"0123")
    answer = call(server, method, path, body, **headers)
    assert answer.status_code == status, answer.text
    assert told.items() <= dict(answer.headers).items()
    if "DELETE" in (method, headers.get("X-HTTP-Method-Override")):
        assert_problem(call(server, "PATCH", path, b"4", Upload_Offset="4", **BYTES), 404, "no-such-upload")
        return
    if status >= 400 and method != "HEAD":
        assert answer.json()["status"] == status
    there = offset(server, path)
    assert there == (4 + len(body) if status == 204 else 4)
    assert append(server, path, there, b"0123456789"[there:]).status_code == 204
    file = server.client.get(f"/api/files/{call(server, 'HEAD', path).headers['x-file-id']}")
    assert (file.content, file.headers["content-type"]) == (b"0123456789", "text/plain")
    assert "b.txt" in file.headers["content-disposition"]


# Creation

CREATED: list[tuple[str, Headers, bytes, int]] = [
    ("a length", {"Upload-Length": "5"}, b"", 201),
    ("none yet", {"Upload-Defer-Length": "1"}, b"", 201),
    ("neither", {}, b"", 400),
    ("both", {"Upload-Length": "5", "Upload-Defer-Length": "1"}, b"", 400),
    ("no number", {"Upload-Length": "five"}, b"", 400),
    ("too much", {"Upload-Length": str(LIMIT + 1)}, b"", 413),
    ("metadata", {"Upload-Length": "5", "Upload-Metadata": NAMED}, b"", 201),
    ("bad metadata", {"Upload-Length": "5", "Upload-Metadata": "filename ?"}, b"", 400),
    ("with bytes", {"Upload-Length": "5", **BYTES}, b"12", 201),
    ("with too many", {"Upload-Length": "5", **BYTES}, b"123456", 413),
    ("with others", {"Upload-Length": "5", "Content-Type": "text/plain"}, b"12", 415),
    ("with a wrong checksum", {"Upload-Length": "5", "Upload-Checksum": checksum("md5", b"x"), **BYTES}, b"12", 460),
    ("of nothing", {"Upload-Concat": "final;"}, b"", 400),
    ("of what is not there", {"Upload-Concat": f"final;/api/tus/{'0' * 24}"}, b"", 404),
    ("another version", {"Upload-Length": "5", "Tus-Resumable": "2.0.0"}, b"", 412),
]


@pytest.mark.parametrize(("headers", "body", "status"), [row[1:] for row in CREATED], ids=[r[0] for r in CREATED])
def test_creation(server: Server, databases: Databases, headers: Headers, body: bytes, status: int) -> None:
    with databases.client() as client:
        sessions = client[server.mongo_database]["upload_sessions"]
        before = sessions.count_documents({})
        answer = call(server, "POST", "/api/tus", body, **headers)
        assert answer.status_code == status, answer.text
        assert sessions.count_documents({}) == before + (status == 201)
    if status == 201:
        path = str(answer.request.url.join(answer.headers["location"]).path)
        assert int(answer.headers["upload-offset"]) == offset(server, path) == len(body)
        assert parsedate_to_datetime(answer.headers["upload-expires"])


@pytest.mark.parametrize("endpoint", ["/api/tus", "/api/tus/"])
def test_the_location_is_relative_to_the_request(server: Server, endpoint: str) -> None:
    answer = call(server, "POST", endpoint, Upload_Length="1")
    before_a_proxy = httpx.URL("https://example.org/behind" + endpoint).join(answer.headers["location"])
    assert str(before_a_proxy).startswith("https://example.org/behind/api/tus/")
    assert offset(server, before_a_proxy.path.removeprefix("/behind")) == 0


def test_a_whole_file_in_one_request(server: Server) -> None:
    content = distinct(2, 3)
    answer = call(server, "POST", "/api/tus", content, Upload_Length=str(len(content)), **BYTES)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(content)))
    assert content_of(server, answer) == content
    assert "upload-expires" not in answer.headers


def test_an_empty_file_is_there_at_once(server: Server) -> None:
    answer = call(server, "POST", "/api/tus", Upload_Length="0")
    assert content_of(server, answer) == b""


def test_what_the_server_speaks(server: Server) -> None:
    answer = server.client.options("/api/tus")
    assert answer.status_code == 204
    told = {name: answer.headers[f"tus-{name}"] for name in ("version", "resumable", "max-size")}
    assert told == {"version": "1.0.0", "resumable": "1.0.0", "max-size": str(LIMIT)}
    assert set(answer.headers["tus-extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length", "checksum", "expiration", "termination"),
        "concatenation",
    }
    assert answer.headers["tus-checksum-algorithm"] == "sha256,sha1,md5"


def test_a_length_that_is_told_later(server: Server) -> None:
    path = create(server, None)
    append(server, path, 0, b"012")
    there = call(server, "HEAD", path).headers
    assert (there["upload-defer-length"], "upload-length" in there) == ("1", False)
    assert append(server, path, 3, b"3", Upload_Length="2").status_code == 400
    assert append(server, path, 3, b"3", Upload_Length=str(LIMIT + 1)).status_code == 413
    assert append(server, path, 3, b"3", Upload_Length="6").status_code == 204
    there = call(server, "HEAD", path).headers
    assert (there["upload-length"], there["upload-offset"], "upload-defer-length" in there) == ("6", "4", False)
    assert append(server, path, 4, b"", Upload_Length="7").status_code == 400
    assert content_of(server, append(server, path, 4, b"45")) == b"012345"


def test_one_whose_length_is_never_told_ends_at_the_largest(server: Server) -> None:
    path = create(server, None)
    assert append(server, path, 0, bytes(LIMIT - 1)).status_code == 204
    assert append(server, path, LIMIT - 1, b"xy").status_code == 413
    assert offset(server, path) == LIMIT - 1


def test_what_has_come_to_its_end(server: Server) -> None:
    path = create(server, 3)
    ended = append(server, path, 0, b"012")
    assert append(server, path, 3, b"").headers["x-file-id"] == ended.headers["x-file-id"]
    assert append(server, path, 3, b"3").status_code == 409
    assert append(server, path, 0, b"012").status_code == 409
    assert call(server, "DELETE", path).status_code == 204
    assert call(server, "HEAD", path).status_code == 404
    assert content_of(server, ended) == b"012", "the file stays"


# Concatenation


def test_partial_uploads_are_concatenated(server: Server) -> None:
    """In any order, also twice, also by absolute URLs; the parts stay, and become no files."""
    bodies = [distinct(1, 5), b"x", distinct(0, 999)]
    paths = [create(server, len(body), Upload_Concat="partial") for body in bodies]
    early = call(server, "POST", "/api/tus", Upload_Concat=f"final;{paths[0]}")
    assert_problem(early, 409, "invalid-part")
    for path, body in zip(paths, bodies, strict=True):
        assert "x-file-id" not in append(server, path, 0, body).headers
        assert call(server, "HEAD", path).headers["upload-concat"] == "partial"

    concat = f"final;{paths[2]} {server.url}{paths[0]} {paths[1]} {paths[1]}"
    answer = call(server, "POST", "/api/tus", Upload_Concat=concat, Upload_Metadata=NAMED)
    assert answer.status_code == 201
    content = bodies[2] + bodies[0] + bodies[1] * 2
    assert content_of(server, answer) == content
    final = str(answer.request.url.join(answer.headers["location"]).path)
    there = call(server, "HEAD", final).headers
    assert (there["upload-concat"], there["upload-length"], there["upload-offset"]) == (
        concat,
        str(len(content)),
        str(len(content)),
    )
    assert append(server, final, len(content), b"x").status_code == 403
    assert offset(server, paths[0]) == len(bodies[0])
    whole = call(server, "POST", "/api/tus", Upload_Concat=f"final;{create(server, 0)}")
    assert_problem(whole, 409, "invalid-part")


def test_a_concatenation_that_would_be_too_long(server: Server) -> None:
    path = create(server, LIMIT // 2 + 1, Upload_Concat="partial")
    append(server, path, 0, bytes(LIMIT // 2 + 1))
    assert call(server, "POST", "/api/tus", Upload_Concat=f"final;{path} {path}").status_code == 413


# Interruptions


def begin_to_append(wire: Wire, path: str, offset: int, size: int) -> None:
    headers = {**SPEAKS, **BYTES, "Upload-Offset": str(offset), "Content-Length": str(size)}
    wire.head("PATCH", path, list(headers.items()))


def test_what_came_before_the_connection_broke_is_kept(server: Server) -> None:
    content = distinct(3, 17)
    path = create(server, len(content))
    sent = MIB + 12_345
    with Wire(server) as wire:
        begin_to_append(wire, path, 0, len(content))
        wire.send(content[:sent])
    eventually(lambda: offset(server, path) == sent)
    with Wire(server) as wire:
        begin_to_append(wire, path, sent, len(content) - sent)
        wire.send(content[sent : sent + 5])
        assert_problem(wire.answer("PATCH"), 408, "upload-stalled")
    assert offset(server, path) == sent + 5
    new = metric(server, "mini_s3_chunks_new_total")
    assert content_of(server, append(server, path, sent + 5, content[sent + 5 :])) == content
    assert metric(server, "mini_s3_chunks_new_total") == new + 3
    server.upload(content)
    # It was cut as a file is that comes at once, but where it was broken off.
    assert metric(server, "mini_s3_chunks_new_total") == new + 4


def test_of_a_request_with_a_checksum_nothing_is_kept_that_was_not_compared(server: Server) -> None:
    content = distinct(0, 50_000)
    path = create(server, len(content))
    with Wire(server) as wire:
        headers = {**SPEAKS, **BYTES, "Upload-Offset": "0", "Content-Length": str(len(content))}
        wire.head("PATCH", path, [*headers.items(), ("Upload-Checksum", checksum("sha1", content))])
        wire.send(content[:-1])
        assert_problem(wire.answer("PATCH"), 408, "upload-stalled")
    assert offset(server, path) == 0
    assert append(server, path, 0, content, Upload_Checksum=checksum("sha1", content)).status_code == 204


def test_who_begins_last_goes_on(server: Server) -> None:
    """An old connection may still be there: nothing more of it is kept."""
    content, other = distinct(0, 100_000), distinct(0, 100_000)
    path = create(server, len(content))
    with Wire(server) as old:
        begin_to_append(old, path, 0, len(other))
        old.send(other[:50_000])
        eventually(lambda: metric(server, "mini_s3_buffers_bytes") > 0)
        assert append(server, path, 0, content[:60_000]).status_code == 204
        old.send(other[50_000:])
        assert_problem(old.answer("PATCH"), 409, "offset-mismatch")
    assert offset(server, path) == 60_000
    assert content_of(server, append(server, path, 60_000, content[60_000:])) == content


# Browsers


def test_pages_of_other_origins_may_use_it(server: Server) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,tus-resumable,upload-offset,upload-checksum",
    }
    preflight = server.client.options("/api/tus/x", headers=asked)
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "upload-checksum" in preflight.headers["access-control-allow-headers"].lower()
    answer = call(server, "POST", "/api/tus", Upload_Length="5", Origin=ORIGIN)
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"Location", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires", "X-File-Id"}
    assert exposed >= {"Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Concat"}
