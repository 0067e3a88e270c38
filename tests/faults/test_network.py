"""One of three node servers behind a network that is cut off, slow, or comes and goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bench.proxy import Proxy
from tests.e2e.helpers import metric, own_server
from tests.faults.tools import MIB, read_back
from tests.node_servers import TOKEN, node_id, node_servers
from tests.support import Databases, Server, eventually

IMPATIENT = """
from app.nodes import breaker, guarded

guarded._SOUNDING = 2.0
breaker._REST = breaker._LONGEST_REST = 0.5
"""


OPEN = 2


class House:
    """A gateway with two copies of all, and how it sees the node behind the proxy."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server = server
        self.network = proxy
        self.far = node_id(proxy.url)
        self._files: dict[str, bytes] = {}

    def upload(self) -> None:
        content = os.urandom(5 * MIB + 9)
        self._files[self.server.upload(content)["fileId"]] = content

    def read_all(self) -> None:
        for file_id, content in self._files.items():
            read_back(self.server, file_id, content)

    def figure(self, name: str, **labels: str) -> float:
        """A metric of the node behind the proxy."""
        return metric(self.server, f"mini_s3_node_{name}", node=self.far, **labels)

    def is_left_alone(self) -> bool:
        return self.figure("breaker", calls="all") == OPEN

    def is_used(self) -> bool:
        file_id = self.server.upload(os.urandom(3 * MIB))["fileId"]
        chunks = self.server.client.get(f"/api/files/{file_id}/manifest").json()["chunks"]
        return any(self.far in chunk["nodes"] for chunk in chunks)


@pytest.fixture(scope="module")
def shared(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("network")
    (folder / "sitecustomize.py").write_text(IMPATIENT)
    env = {"MINI_S3_NODE_TOKEN": TOKEN, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}"}
    with ExitStack() as stack:
        far, *near = stack.enter_context(node_servers(folder, 3))
        proxy = stack.enter_context(closing(Proxy(far.port)))
        urls = ",".join([proxy.url, *(node.url for node in near)])
        server = stack.enter_context(own_server(databases, tmp_path_factory, nodes=urls, redundancy=2, env=env))
        house = House(server, proxy)
        house.upload()
        yield house


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    eventually(lambda: shared.is_used() and shared.figure("state") == 0)
    yield shared
    shared.network.restore()


CUTS = {"both ways": {}, "what it sends": {"sent": False}, "what it is sent": {"answered": False}}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_node_that_is_cut_off(house: House, cut: dict[str, bool]) -> None:
    """It is found out by reads alone, although each is called off for that of another copy. Then nobody waits
    for it, and it comes back by itself."""
    house.network.cut(**cut)
    house.read_all()
    eventually(house.is_left_alone)
    before = house.figure("seconds_count")
    house.read_all()
    house.upload()
    house.read_all()
    assert house.is_left_alone()
    assert house.figure("seconds_count") == before
    house.network.restore()
    eventually(house.is_used)
    house.read_all()
    assert not house.server.events("damage found")


def test_an_upload_finds_out_that_a_node_is_cut_off(house: House) -> None:
    house.network.cut()
    house.upload()
    assert house.is_left_alone()
    house.read_all()


def test_a_slow_node_stays_in_use(house: House) -> None:
    timeouts = house.figure("timeouts_total")
    house.network.slow(0.2)
    house.read_all()
    assert house.is_used()
    house.read_all()
    assert (house.figure("state"), house.figure("timeouts_total")) == (0, timeouts)


def test_a_node_that_comes_and_goes(house: House) -> None:
    for _ in range(2):
        house.network.cut()
        house.upload()
        house.network.restore()
        house.read_all()
    house.network.restore()
    eventually(house.is_used)
    house.read_all()
    assert not house.server.events("damage found")
