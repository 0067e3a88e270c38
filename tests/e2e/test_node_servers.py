"""A gateway whose nodes are two node servers, one of them over HTTPS."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import Authority
from tests.conftest import StartServer
from tests.e2e.test_commands import command, result_of
from tests.node_servers import TOKEN, NodeServer, node_server
from tests.support import Server, eventually

MIB = 1 << 20


def blobs(node: NodeServer) -> list[Path]:
    return list(node.directory.glob("??/*"))


def downloaded(server: Server, receipt: Any) -> bytes | None:
    """What a client takes for the whole file."""
    try:
        answer = server.client.get(f"/api/files/{receipt['fileId']}")
    except httpx.RemoteProtocolError:
        return None
    return answer.content if answer.status_code == 200 else None


def test_files_lie_on_node_servers(start_server: StartServer, tmp_path: Path) -> None:
    content = os.urandom(20 * MIB + 5)
    with ExitStack() as stack:
        authority = Authority(tmp_path / "authority")
        nodes = [
            stack.enter_context(node_server(tmp_path / "one")),
            stack.enter_context(node_server(tmp_path / "two", *authority.flags())),
        ]
        assert [node.url.partition(":")[0] for node in nodes] == ["http", "https"]
        settings = {"nodes": ",".join(node.url for node in nodes), "env": {"MINI_S3_NODE_TOKEN": TOKEN}}
        with pytest.raises(RuntimeError, match=f"{nodes[1].url}: its certificate .* --node-ca"):
            start_server(**settings)
        settings["env"]["MINI_S3_NODE_CA"] = str(authority.path)
        server = start_server(**settings)
        receipt = server.upload(content)
        assert [len(blobs(node)) > 0 for node in nodes] == [True, True]
        assert sum(len(blobs(node)) for node in nodes) == 21
        assert downloaded(server, receipt) == content

        store = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)
        access = ("--node-token", TOKEN, "--node-ca", str(authority.path))
        report = result_of("check", "--read-data", *store, *access)
        assert (report["clean"], report["checked"]["bytesRead"]) == (True, len(content))
        blobs(nodes[0])[0].unlink()
        report = result_of("check", "--repair", *store, *access, code=1)
        assert (
            {finding["kind"] for finding in report["findings"]}
            == {"blob-missing", "chunk-lost"} & {finding["kind"] for finding in report["findings"]}
            != set()
        )
        refused = command("check", *store)
        assert refused.returncode == 2
        assert "MINI_S3_NODE_TOKEN" in refused.stderr

        server.upload(content)
        assert downloaded(server, receipt) == content, "the upload healed it"
        server.stop()
        server = start_server(**settings)
        assert downloaded(server, receipt) == content

        nodes[1].kill()
        assert downloaded(server, receipt) is None
        nodes[1].start()
        assert eventually(lambda: downloaded(server, receipt) == content)
        assert TOKEN not in server.log_text()
