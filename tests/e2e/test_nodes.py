"""Nodes as an operator sees them: one is lost, taken out of the store, and made up for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.e2e.helpers import MIB, command, metric, result_of
from tests.support import Server, eventually


def test_a_disk_is_lost_and_the_store_goes_on_without_it(start_server: StartServer, tmp_path: Path) -> None:
    disks = {name: tmp_path / name for name in ("disk1", "disk2", "disk3")}
    content = os.urandom(9 * MIB + 7)
    server = start_server(redundancy=2, nodes=",".join(map(str, disks.values())))
    file_id = server.upload(content)["fileId"]
    where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)
    listed = {node["id"]: node for node in result_of("node", "list", *where)["nodes"]}
    assert {node["state"] for node in listed.values()} == {"active"}
    assert all(node["seconds"] > 0 and node["error"] is None for node in listed.values())
    assert sum(node["chunks"] for node in listed.values()) == 20
    assert listed["disk2"]["location"] == disks["disk2"].as_uri()
    refused = command("node", "remove", "disk2", *where)
    assert refused.returncode == 2
    assert f"disk2 holds {listed['disk2']['chunks']} chunks" in refused.stderr
    server.stop()

    shutil.rmtree(disks["disk2"])
    server = start_server(redundancy=2, nodes=f"{disks['disk1']},{disks['disk3']}")
    assert server.client.get(f"/api/files/{file_id}").content == content
    shown = command("node", "list", *where)
    assert [[*line.split()[:2], line.split()[-2]] for line in shown.stdout.splitlines()[1:]] == [
        ["disk1", "active", "ms"],
        ["disk2", "absent", "none"],
        ["disk3", "active", "ms"],
    ]
    assert command("node", "remove", "disk2", "--lost", *where).returncode == 0
    assert command("node", "remove", "disk2", "--lost", *where).returncode == 2
    assert result_of("check", "--repair", *where)["clean"]
    assert result_of("check", "--read-data", *where)["findings"] == []
    held = {node["id"]: node["chunks"] for node in result_of("node", "list", *where)["nodes"]}
    assert held == {"disk1": 10, "disk3": 10}
    for blob in disks["disk1"].glob("??/*"):
        blob.unlink()
    assert server.client.get(f"/api/files/{file_id}").content == content


def test_nodes_come_and_go_under_a_server(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(nodes=tmp_path / "one", placement="consistent-hash")
    where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)

    def states() -> dict[str, str]:
        return {node["id"]: node["state"] for node in server.client.get("/api/stats").json()["nodes"]}

    added = command("node", "add", tmp_path / "two", "--weight", 3, "--zone", "rack2", *where)
    assert (added.returncode, added.stdout) == (0, "two\n")
    eventually(lambda: states() == {"one": "active", "two": "active"})
    # By their digests, the same ones go to the same nodes each time.
    content = Random(3).randbytes(20 * MIB)
    file_id = server.upload(content)["fileId"]
    listed = {node["id"]: node for node in result_of("node", "list", *where)["nodes"]}
    assert [(listed[node]["weight"], listed[node]["zone"]) for node in ("one", "two")] == [(1, ""), (3, "rack2")]
    held = listed["two"]["chunks"]
    assert 0 < listed["one"]["chunks"] < held

    assert command("node", "set", "two", "--state", "readonly", *where).returncode == 0
    eventually(lambda: states() == {"one": "active", "two": "readonly"})
    server.upload(os.urandom(4 * MIB))
    after = command("node", "list", *where).stdout.splitlines()
    assert [line.split()[:5] for line in after[1:]] == [
        ["one", "active", "-", "1", str(24 - held)],
        ["two", "readonly", "rack2", "3", str(held)],
    ]
    for words, reason in (
        (("remove", "two"), f"two holds {held} chunks, and gets no new ones now. `mini-s3 node drain two`"),
        (("remove", "two", "--lost"), "two is not lost: it answers at"),
        (("drain", "three"), "knows no node three"),
        (("set", "two", "--weight", 0), "weighs more than 0"),
        (("set", "two"), "Say what is to change"),
        (("add", "ftp://host"), "no node can be there"),
    ):
        refused = command("node", *words, *where)
        assert (refused.returncode, reason in refused.stderr) == (2, True), refused.stderr
    moves(server, held, where)
    assert server.client.get(f"/api/files/{file_id}").content == content

    assert command("node", "remove", "two", *where).returncode == 0
    eventually(lambda: states() == {"one": "active"})
    assert result_of("check", "--read-data", *where)["clean"]


def test_a_store_with_too_few_nodes_for_its_redundancy_does_not_start(
    start_server: StartServer, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"on 6 nodes, and the store knows 1\. Name more"):
        start_server(nodes=tmp_path / "one", redundancy="ec:4+2")
    start_server(nodes=tmp_path / "one", redundancy="ec:4+2", degraded_writes="yes").stop()


def moves(server: Server, held: int, where: tuple[str, ...]) -> None:
    """Blobs go from `two` to `one`, back, and there again: by a server that is asked for it, or as soon as it sees
    what is wanted, or by the command."""

    def task(kind: str) -> dict[str, Any]:
        tasks = {task["kind"]: task for task in server.client.get("/api/stats").json()["upkeep"]}
        return tasks.get(kind, {"state": None})

    assert command("node", "drain", "two", "--background", *where).returncode == 0
    eventually(lambda: task("drain")["state"] == "done")
    drained = task("drain")
    assert (drained["done"], drained["left"], drained["blobs"]) == (held, 0, held)
    assert drained["parameters"] == {"nodes": ["two"]}
    assert metric(server, "mini_s3_upkeep_blobs_total", kind="drain") == held
    assert metric(server, "mini_s3_upkeep_left", kind="drain") == 0

    assert command("node", "set", "two", "--state", "active", *where).returncode == 0
    assert result_of("node", "rebalance", "--background", *where) == {"background": True}
    eventually(lambda: task("rebalance")["state"] == "done")
    assert held <= task("rebalance")["blobs"] <= held + 4, "those that belong there by their digests"

    done = command("node", "drain", "two", *where)
    assert done.returncode == 0, done.stderr
    assert "two is empty" in done.stdout
    copied = result_of("node", "rebalance", "--redundancy", "2", *where, code=1)
    assert (copied["done"], copied["left"], copied["waiting"]) == (0, 24, {"no node takes more": 24})
