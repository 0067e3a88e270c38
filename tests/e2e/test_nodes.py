"""Nodes as an operator sees them: one is lost, taken out of the store, and made up for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.conftest import StartServer
from tests.e2e.helpers import MIB, command, result_of


def test_a_disk_is_lost_and_the_store_goes_on_without_it(start_server: StartServer, tmp_path: Path) -> None:
    disks = {name: tmp_path / name for name in ("disk1", "disk2", "disk3")}
    content = os.urandom(9 * MIB + 7)
    server = start_server(redundancy=2, nodes=",".join(map(str, disks.values())))
    file_id = server.upload(content)["fileId"]
    where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)
    listed = {node["id"]: node for node in result_of("node", "list", *where)["nodes"]}
    assert {node["state"] for node in listed.values()} == {"active"}
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
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        ["disk1", "active"],
        ["disk2", "absent"],
        ["disk3", "active"],
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
