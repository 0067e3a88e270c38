"""What end-to-end tests share: forms made by hand, connections below httpx, and what answers must be."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from app.cli.main import main
from tests.support import Databases, Server

MIB = 1 << 20
BOUNDARY = "a-boundary-of-the-tests"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

SECURITY = {
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "origin-agent-cluster",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-dns-prefetch-control",
    "x-download-options",
    "x-frame-options",
    "x-permitted-cross-domain-policies",
    "x-xss-protection",
}
"""The headers that Helmet sets."""


@contextmanager
def own_server(databases: Databases, factory: pytest.TempPathFactory, **settings: Any) -> Iterator[Server]:
    """A server with settings of its own for a whole module, on the shared databases."""
    with databases.empty() as name:
        server = Server(factory.mktemp("server"), **(databases.flags(name) | settings))
        try:
            yield server
        finally:
            server.stop()


def process(*words: object) -> subprocess.CompletedProcess[str]:
    """`mini-s3` with these words, as a process of its own: for commands that serve."""
    return subprocess.run(
        [sys.executable, "-m", "app", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")},
    )


def command(*words: object) -> subprocess.CompletedProcess[str]:
    """As `process`, for any other command, but in this process, which takes a tenth of the time; and in a thread of
    its own, for this one may have an event loop. What it logs is not shown."""
    runner = CliRunner(env={name: None for name in os.environ if name.startswith("MINI_S3_")})
    with patch("app.cli.options.set_up_logs"), capture_logs(), ThreadPoolExecutor(1) as thread:
        ended = thread.submit(runner.invoke, main, [*map(str, words)], prog_name="mini-s3").result()
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return subprocess.CompletedProcess(words, ended.exit_code, ended.stdout, ended.stderr)


def result_of(*words: object, code: int = 0) -> Any:
    """What a command prints as JSON; it must end with this code."""
    done = command(*words, "--json")
    assert done.returncode == code, done
    return json.loads(done.stdout)


KeyFor = Callable[..., tuple[str, str]]


def maker_of_keys(server: Server) -> KeyFor:
    """Makes access keys of a server, by the words of the command."""
    where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)

    def make(*words: object) -> tuple[str, str]:
        made = result_of("key", "create", *where, "--data-dir", server.data_dir, *words)
        return made["accessKey"], made["secretKey"]

    return make


# Forms


@dataclass(frozen=True)
class Part:
    """One part of a form. Without a name it is no file for a browser, but a file for us."""

    content: bytes
    name: str | None = "a.bin"
    content_type: str | None = "application/octet-stream"
    field: str = "file"

    def encode(self) -> bytes:
        """As the WHATWG encoding of forms has it."""
        disposition = f'Content-Disposition: form-data; name="{self.field}"'
        if self.name is not None:
            escaped = self.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            disposition += f'; filename="{escaped}"'
        lines = [f"--{BOUNDARY}", disposition]
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}")
        return "\r\n".join([*lines, "", ""]).encode() + self.content + b"\r\n"


def form(*parts: Part) -> bytes:
    return b"".join(part.encode() for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def post_form(server: Server, body: bytes, content_type: str = FORM) -> httpx.Response:
    return server.client.post("/api/upload", content=body, headers={"Content-Type": content_type})


def upload_parts(server: Server, *parts: Part) -> Any:
    answer = post_form(server, form(*parts))
    assert answer.status_code == 201, answer.text
    return answer.json()


def distinct(chunks: int, tail: int = 0) -> bytes:
    """Random bytes of so many whole chunks and a tail."""
    return os.urandom(chunks * MIB + tail)


def digests(content: bytes) -> list[str]:
    return [hashlib.sha256(content[at : at + MIB]).hexdigest() for at in range(0, len(content), MIB)]


# What lies on the disk, and what the server counts


def blob_digests(data_dir: Path) -> list[str]:
    """The digest in the name of each file in the node directories, half-written ones included."""
    files = (path for path in (data_dir / "nodes").rglob("*") if path.is_file() and path.name != "node.json")
    return [path.name.partition(".")[0] for path in files]


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric over all sets of labels that hold these."""
    found = samples(server.client.get("/metrics").text)
    return sum(value for (key, has), value in found.items() if key == name and labels.items() <= dict(has).items())


# Answers


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["title"]
    assert body["detail"]
    assert body["requestId"] == answer.headers["x-request-id"]
    assert set(answer.headers) >= SECURITY
    return body


@dataclass(frozen=True)
class RangePart:
    content_type: str
    content_range: str
    body: bytes


def byteranges(answer: httpx.Response) -> list[RangePart]:
    """The parts of a multipart/byteranges answer, read strictly."""
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    pieces = (b"\r\n" + answer.content).split(f"\r\n--{boundary}".encode())
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [_range_part(piece) for piece in pieces[1:-1]]


def _range_part(piece: bytes) -> RangePart:
    head, separator, body = piece.partition(b"\r\n\r\n")
    assert separator
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return RangePart(headers["Content-Type"], headers["Content-Range"], body)


# Connections by hand


class Wire:
    """One connection, for what httpx will not do: stop half-way, vanish, send what is wrong."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        assert address.hostname is not None
        self.socket = socket.create_connection((address.hostname, address.port or 80), timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def head(self, method: str, target: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers)]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def begin_upload(self, size: int, *extra: tuple[str, str]) -> None:
        self.head("POST", "/api/upload", [("Content-Type", FORM), ("Content-Length", str(size)), *extra])

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = self.socket.recv(1)
            assert byte, line
            line += byte
        return line

    def answer(self, method: str = "POST") -> httpx.Response:
        """The final answer, whole."""
        response = http.client.HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            return httpx.Response(response.status, headers=response.getheaders(), content=response.read())
        finally:
            response.close()

    def closed(self) -> bool:
        """Whether the server closes the connection without another byte; waits for it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def vanish(self) -> None:
        """Go as a client that crashes does: with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
