"""Six node servers, a gateway on them, and as many of them lost as the redundancy bears."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.e2e.helpers import command, result_of
from tests.faults.tools import MIB, read_back
from tests.node_servers import TOKEN, NodeServer, node_id, node_servers
from tests.support import eventually

NODES = 6


@dataclass(frozen=True)
class Case:
    """A redundancy, which bears the loss of `losses` nodes at once. Where those that are left are too few to
    hold all of a chunk, uploads go on because that is wanted, and `fresh` others join before the repair."""

    redundancy: str
    losses: int
    fresh: int = 0

    @property
    def settings(self) -> dict[str, str]:
        return {"redundancy": self.redundancy, "degraded_writes": "yes" if self.fresh else "no"}

    def lost(self, nodes: Sequence[NodeServer], first: int) -> list[NodeServer]:
        """Neighbours, for copies lie on neighbours."""
        return [nodes[(first + number) % len(nodes)] for number in range(self.losses)]


CASES = [Case("2", losses=1), Case("ec:4+2", losses=2, fresh=2)]


class House:
    """A gateway, its nodes, and what was uploaded to it."""

    def __init__(self, start_server: StartServer, case: Case, nodes: Sequence[NodeServer]) -> None:
        self._start = start_server
        self._case = case
        self.nodes = list(nodes)
        self._files: dict[str, bytes] = {}
        self.serve()

    def serve(self) -> None:
        """Start the gateway on the nodes that there are."""
        urls = ",".join(node.url for node in self.nodes)
        self.server = self._start(nodes=urls, **self._case.settings, env={"MINI_S3_NODE_TOKEN": TOKEN})
        database = ("--mongo-url", self.server.mongo_url, "--mongo-database", self.server.mongo_database)
        self.where = (*database, "--node-token", TOKEN)

    def upload(self) -> None:
        """Several files at once: of several chunks, of one, and of a few bytes."""
        contents = [os.urandom(size) for size in (6 * MIB + 5, 3 * MIB, MIB, *[1000] * 6)]
        with ThreadPoolExecutor(len(contents)) as threads:
            receipts = list(threads.map(self.server.upload, contents))
        self._files |= {receipt["fileId"]: content for receipt, content in zip(receipts, contents, strict=True)}

    def read_all(self) -> None:
        for file_id, content in self._files.items():
            read_back(self.server, file_id, content)
            first, last = len(content) // 3, len(content) - 2
            part = self.server.client.get(f"/api/files/{file_id}", headers={"Range": f"bytes={first}-{last}"})
            assert (part.status_code, part.content) == (206, content[first : last + 1])

    def lose(self, lost: Sequence[NodeServer], how: signal.Signals) -> None:
        for node in lost:
            node.process.send_signal(how)
            self.nodes.remove(node)

    def states(self) -> Counter[str]:
        return Counter(node["state"] for node in self.server.client.get("/api/stats").json()["nodes"])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hanging"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.redundancy)
def test_nodes_are_lost(start_server: StartServer, tmp_path: Path, case: Case, how: signal.Signals) -> None:
    """All files stay readable, uploads go on, and after a repair the loss of further nodes is survived too."""
    with node_servers(tmp_path, NODES) as nodes, ExitStack() as stack:
        house = House(start_server, case, nodes)
        house.upload()
        lost = case.lost(house.nodes, first=len(case.redundancy) + how)
        house.lose(lost, how)
        house.read_all()
        house.upload()
        house.read_all()
        eventually(lambda: house.states() == {"active": NODES - case.losses, "down": case.losses})

        for node in lost:
            node.kill()
            assert command("node", "remove", node_id(node.url), "--lost", *house.where).returncode == 0
        if case.fresh:
            house.nodes += stack.enter_context(node_servers(tmp_path / "fresh", case.fresh))
            house.server.stop()
            house.serve()
        report = result_of("check", "--repair", "--read-data", *house.where)
        assert report["clean"]
        kinds = {finding["kind"] for finding in report["findings"]}
        assert kinds <= {"blob-missing", "chunk-copies"}, "the server has mended the rest, or all"

        house.lose(case.lost(house.nodes, first=0), how)
        house.read_all()
        assert not house.server.events("damage found")
