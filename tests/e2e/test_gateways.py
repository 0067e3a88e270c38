"""Several gateways on one store, as behind a load balancer: what one takes the others give."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import StartServer
from tests.node_servers import TOKEN, node_server
from tests.support import Databases

MIB = 1 << 20


def test_gateways_share_files_chunks_and_limits_and_survive_each_other(
    start_server: StartServer, databases: Databases, tmp_path: Path
) -> None:
    content = os.urandom(3 * MIB + 1)
    with ExitStack() as stack:
        nodes = [stack.enter_context(node_server(tmp_path / name)) for name in ("one", "two")]
        one, two = (
            start_server(
                data_dir=tmp_path / f"gateway-{name}",
                nodes=",".join(node.url for node in nodes),
                redundancy=2,
                redis_url=f"{databases.redis_url}?db=7",  # Other tests call from the same address.
                rate_upload="3/hour",
                env={"MINI_S3_NODE_TOKEN": TOKEN},
            )
            for name in ("one", "two")
        )
        first = one.upload(content)
        assert two.client.get(f"/api/files/{first['fileId']}").content == content
        again = two.upload(content)
        assert again["chunks"] == {"total": 4, "new": 0, "linked": 4}
        assert one.client.get("/ready").status_code == two.client.get("/ready").status_code == 200

        one.kill()
        assert two.client.get(f"/api/files/{first['fileId']}").content == content
        assert two.client.delete(f"/api/files/{first['fileId']}").status_code == 204
        third = two.upload(content + b"more")
        assert third["chunks"]["linked"] == 3
        assert two.client.get(f"/api/files/{third['fileId']}").content == content + b"more"
        refused = two.client.post("/api/upload", files={"file": ("a", b"x")})
        assert refused.status_code == 429, "the other gateway's upload counts too"
