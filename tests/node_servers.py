"""Node servers in processes of their own, and nodes that are reached through them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from app.nodes.http_node import HttpNode
from app.nodes.http_site import HttpSite
from app.types import NodeId
from tests.support import PATIENCE

TOKEN = "the-token-of-the-tests"


class NodeServer:
    """`mini-s3 node serve` on a free port; on the same one when it is started again."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self._flags = flags
        self.port = 0
        self._log = directory.with_name(f"{directory.name}-{secrets.token_hex(4)}.log")
        self.start()

    def start(self) -> None:
        words = ["node", "serve", "--dir", str(self.directory), "--port", str(self.port), "--log-format", "json"]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", *words, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**ours, "MINI_S3_NODE_TOKEN": TOKEN},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if "listening on" not in line:
            self._ended()
            raise RuntimeError(f"the node server did not start: {line} {self.log_text()}")
        self.url = line.rpartition(" ")[2]
        self.port = int(self.url.rpartition(":")[2])

    def log_text(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.log_text().splitlines())
        return [line for line in lines if line["event"] == name]

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it as an operator would; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def node_server(directory: Path, *flags: str) -> Iterator[NodeServer]:
    server = NodeServer(directory, *flags)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def node_servers(folder: Path, count: int) -> Iterator[list[NodeServer]]:
    """Several in this folder, started at the same time."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        with ThreadPoolExecutor(count) as threads:
            starting = [threads.submit(NodeServer, folder / f"served{number}") for number in range(1, count + 1)]
        for start in starting:
            if not start.exception():
                stack.callback(start.result().stop)
        yield [start.result() for start in starting]


def node_id(url: str) -> str:
    """That of the node at this URL, where it was new."""
    return url.removeprefix("http://").replace(".", "-").replace(":", "-")


async def claimed(server: NodeServer, node_id: str = "n", trust: ssl.SSLContext | None = None) -> HttpNode:
    """The node of this name there, which the server's directory becomes."""
    site = HttpSite(server.url, TOKEN, trust)
    await site.claim(json.dumps({"id": node_id}).encode())
    return site.open(NodeId(node_id))
