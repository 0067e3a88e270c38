"""What tests share: real databases, a store in this process, a server in its own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pymongo
from pymongo.write_concern import WriteConcern

from app.embedded.child import Program
from app.server import Assignment
from app.settings import Settings
from app.store.credentials import completed

PATIENCE = 30.0

MOST_TO_DELETE = 5000
"""Documents of a database for which it is dropped rather than emptied."""

EFFORT = int(os.environ.get("MINI_S3_TEST_EFFORT", "1"))
"""Times as many programs as usual that long random searches try."""


def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Poll until `condition` gives something true, and return that."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience} s: {condition}"
        time.sleep(0.02)


async def eventually_async(condition: Callable[[], Awaitable[Any]], patience: float = PATIENCE) -> Any:
    """As `eventually`, for a condition that is awaited."""
    deadline = time.monotonic() + patience
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience} s: {condition}"
        await asyncio.sleep(0.02)


@contextmanager
def running(program: Program) -> Iterator[subprocess.Popen[bytes]]:
    """A database as the embedded default runs it, without supervision."""
    assert program.log is not None
    with program.log.open("wb") as log:
        process = subprocess.Popen(program.command, cwd=program.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: program.ready() or process.poll() is not None)
        assert process.poll() is None, program.log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(PATIENCE)


@dataclass(frozen=True)
class Databases:
    mongo_url: str
    redis_url: str
    _emptied: list[str] = field(default_factory=list)
    """Databases that were used and emptied, which takes a tenth of the time of making and dropping one."""

    @cached_property
    def _admin(self) -> pymongo.MongoClient[dict[str, Any]]:
        return self.client()

    def close(self) -> None:
        self._admin.close()

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(self.mongo_url, tz_aware=True)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The name of a database of its own, dropped in the end."""
        name = f"test_{secrets.token_hex(6)}"
        try:
            yield name
        finally:
            self._admin.drop_database(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The name of a database without documents. It may have had some, and have its indexes still; one whose test
        raises here is used no more."""
        name = self._emptied.pop() if self._emptied else f"test_{secrets.token_hex(6)}"
        yield name
        database = self._admin.get_database(name, write_concern=WriteConcern(w=1))
        if database.command("dbStats")["objects"] > MOST_TO_DELETE:
            self._admin.drop_database(name)
            return
        for collection in database.list_collection_names():
            database[collection].delete_many({})
        self._emptied.append(name)

    def flags(self, name: str) -> dict[str, Any]:
        """Settings of a server on this database, without limits of rates."""
        rates = dict.fromkeys(("rate_api", "rate_upload", "rate_download"), "1000000/minute")
        return {"mongo_url": self.mongo_url, "mongo_database": name, "redis_url": self.redis_url, **rates}

    def assignment(self, name: str, data_dir: Path, *, redis: bool = True, **settings: Any) -> Assignment:
        chosen, _ = completed(Settings(data_dir=data_dir, mongo_database=name, **settings))
        return Assignment(
            settings=chosen,
            mongo_url=self.mongo_url,
            mongo_initiate="",
            redis_url=self.redis_url if redis else "",
            local=True,
        )


class Server:
    """`mini-s3 serve` in processes of its own, on a free port."""

    def __init__(self, directory: Path, env: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.data_dir = directory / "data"
        self.mongo_url, self.mongo_database = settings.get("mongo_url", ""), settings.get("mongo_database", "")
        self._log = directory / f"server-{secrets.token_hex(4)}.log"
        flags = {"port": 0, "data_dir": self.data_dir, "log_format": "json"} | settings
        words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**ours, **(env or {})},
            )
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline().strip()]
        while "listening on" not in self.said[-1]:
            if not self.said[-1]:
                self._ended()
                raise RuntimeError(f"the server did not start: {self.said} {self.log_text()}")
            self.said.append(self.process.stdout.readline().strip())
        self.url = self.said[-1].rpartition(" ")[2]
        self.s3_url = ""
        if "s3_port" in settings:
            self.said.append(self.process.stdout.readline().strip())
            self.s3_url = self.said[-1].rpartition(" ")[2]
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def log_text(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the server logged under this name so far."""
        whole = self.log_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def upload(self, content: bytes, name: str = "a.bin", content_type: str = "application/octet-stream") -> Any:
        answer = self.client.post("/api/upload", files={"file": (name, content, content_type)})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def worker_pids(self) -> list[int]:
        """The processes that serve requests now."""
        listing = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "app.worker"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listing.stdout.split()]

    def stop(self) -> int:
        """End it as an operator would; return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        return self._ended()

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        code = self.process.wait(PATIENCE + 30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def blob_names(server: Server) -> set[str]:
    """The names of all blobs in the default nodes of a server, unfinished ones included."""
    return {path.name for path in (server.data_dir / "nodes").glob("*/??/*")}


def blob_of(server: Server, digest: str) -> Path:
    (path,) = (server.data_dir / "nodes").glob(f"*/{digest[:2]}/{digest}.*")
    return path
