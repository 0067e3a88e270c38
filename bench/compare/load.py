"""Many small requests: a generator in a process of its own, with HTTP/1.1 by hand on connections that stay open.

`run` starts it; `python -m bench.compare.load` is it: a Load as JSON comes in, what was measured goes out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, cast

import uvloop

from bench.compare.figures import percentile
from bench.http import HttpError

_ROOT = Path(__file__).parents[2]
_BOUNDARY = "mini-s3-bench-load"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_FILE_ID = re.compile(rb'"fileId": *"(\w+)"')
PATIENCE = 60.0
"""Seconds that the last answers may take after the time is up."""


@dataclass(frozen=True)
class Load:
    """`kind`: form (POST to /api/upload), put or get. `paths` are gone through again and again by get; number N
    of them holds the body that `seed` and N make. Put makes its paths from `prefix`."""

    kind: str
    address: str
    seed: str
    size: int
    connections: int
    seconds: float
    prefix: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """`paths` as a Load for get wants them; `busy` the share of one processor that the generator took."""

    per_second: float
    p99_ms: float
    paths: tuple[str, ...]
    busy: float


def run(load: Load) -> Done:
    """Put the load on in a process of its own. Raises HttpError with the first wrong answer."""
    command = [sys.executable, "-m", "bench.compare.load"]
    patience = load.seconds + 2 * PATIENCE
    made = subprocess.run(
        command,
        cwd=_ROOT,
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    if made.returncode:
        raise HttpError(f"small files, {load.kind}: {made.stderr.strip()[-1000:]}")
    answer: dict[str, Any] = json.loads(made.stdout)
    return Done(**{**answer, "paths": tuple(answer["paths"])})


class Bodies:
    """Body N: random bytes, of which the first tell N. Nothing about them is stored."""

    def __init__(self, seed: str, size: int) -> None:
        self._common = hashlib.shake_256(seed.encode()).digest(size)

    def __getitem__(self, number: int) -> bytes:
        return number.to_bytes(8) + self._common[8:]


class Requests:
    """The bytes of each request, and what its answer must be."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._bodies = Bodies(load.seed, load.size)
        self.paths: dict[int, str] = {}

    def make(self, number: int) -> bytes:
        load = self._load
        host = f"Host: {load.address}\r\n"
        if load.kind == "get":
            return f"GET {load.paths[number % len(load.paths)]} HTTP/1.1\r\n{host}\r\n".encode()
        body = self._bodies[number]
        if load.kind == "put":
            octets = "Content-Type: application/octet-stream\r\n"
            head = f"PUT {load.prefix}{number} HTTP/1.1\r\n{host}{octets}Content-Length: {len(body)}\r\n\r\n"
            return head.encode() + body
        body = form(f"{load.seed}-{number}", body)
        kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        head = f"POST /api/upload HTTP/1.1\r\n{host}{kind}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def take(self, number: int, status: bytes, body: bytes) -> None:
        """Raises HttpError if it is not the right answer."""
        load = self._load
        good = b"201" if load.kind == "form" else b"200"
        if status != good:
            raise HttpError(f"the answer was {status.decode()}: {body[:500].decode(errors='replace')}")
        if load.kind == "put":
            self.paths[number] = f"{load.prefix}{number}"
        elif load.kind == "form":
            found = _FILE_ID.search(body)
            self.paths[number] = f"/api/files/{found[1].decode()}" if found else ""
        elif body != self._bodies[number % len(load.paths)]:
            raise HttpError(f"{load.paths[number % len(load.paths)]}: the bytes differ from those that were sent")


def form(name: str, body: bytes) -> bytes:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"%b%b\r\n--%b--\r\n" % (head.encode(), body, _BOUNDARY.encode())


class _Connection(asyncio.Protocol):
    """Sends a request as soon as the one before is answered, until the time is up."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._got = bytearray()
        self._end = self._number = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(HttpError(f"the server closed a connection: {error}"))

    def send(self) -> None:
        self._number = next(self._run.numbers)
        request = self._run.requests.make(self._number)
        self._sent = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        try:
            self._look()
        except HttpError as error:
            if not self.over.done():
                self.over.set_exception(error)

    def _look(self) -> None:
        if not self._end:
            head = self._got.find(b"\r\n\r\n")
            if head < 0:
                return
            length = _LENGTH.search(self._got, 0, head + 2)
            if length is None:
                raise HttpError(f"an answer without Content-Length: {bytes(self._got[:200])!r}")
            self._head, self._end = head, head + 4 + int(length[1])
        if len(self._got) < self._end:
            return
        now = perf_counter()
        self._run.latencies.append(now - self._sent)
        self._run.requests.take(self._number, bytes(self._got[9:12]), bytes(self._got[self._head + 4 : self._end]))
        self._got.clear()
        self._end = 0
        if now < self._run.deadline:
            self.send()
        else:
            self.over.set_result(None)


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.numbers = count()
        self.requests = Requests(load)
        self.latencies: list[float] = []
        self.deadline = 0.0

    async def measure(self) -> Done:
        loop = asyncio.get_running_loop()
        host, _, port = self.load.address.partition(":")
        opened = [await loop.create_connection(lambda: _Connection(self), host, int(port)) for _ in self._each()]
        start, cpu = perf_counter(), process_time()
        self.deadline = start + self.load.seconds
        for _, connection in opened:
            connection.send()
        async with asyncio.timeout(self.load.seconds + PATIENCE):
            await asyncio.gather(*(connection.over for _, connection in opened))
        seconds, busy = perf_counter() - start, process_time() - cpu
        for transport, _ in opened:
            transport.close()
        paths = tuple(self.requests.paths[number] for number in sorted(self.requests.paths))
        return Done(len(self.latencies) / seconds, percentile(self.latencies, 0.99) * 1000, paths, busy / seconds)

    def _each(self) -> range:
        return range(self.load.connections)


def _main() -> None:
    given = json.load(sys.stdin)
    try:
        done = uvloop.run(_Run(Load(**{**given, "paths": tuple(given["paths"])})).measure())
    except (HttpError, OSError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    json.dump(asdict(done), sys.stdout)


if __name__ == "__main__":
    _main()
