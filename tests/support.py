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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pymongo

from app.embedded.child import Program
from app.server import Assignment
from app.settings import Settings

PATIENCE = 30.0


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

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(self.mongo_url, tz_aware=True)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The name of a database of its own, dropped in the end."""
        name = f"test_{secrets.token_hex(6)}"
        try:
            yield name
        finally:
            with self.client() as client:
                client.drop_database(name)

    def assignment(self, name: str, data_dir: Path, *, redis: bool = True, **settings: Any) -> Assignment:
        chosen = Settings(data_dir=data_dir, mongo_database=name, **settings)
        return Assignment(
            settings=chosen, mongo_url=self.mongo_url, mongo_initiate="", redis_url=self.redis_url if redis else ""
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
        line = self.process.stdout.readline().strip()
        if "listening on" not in line:
            self._ended()
            raise RuntimeError(f"the server did not start: {line} {self.log_text()}")
        self.url = line.rpartition(" ")[2]
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
            ["pgrep", "-P", str(self.process.pid), "-f", "app.server"], capture_output=True, text=True, check=False
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
