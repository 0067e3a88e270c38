"""A server whose nodes are buckets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest

from tests.conftest import StartServer
from tests.e2e.helpers import process, result_of
from tests.s3_engine import BUCKET, KEYS, Engine
from tests.support import Databases, Server

MIB = 1 << 20


def blob_count(engine: Engine, prefix: str) -> int:
    """Objects below a prefix, without the nodes' identities."""
    query = {"list-type": "2", "prefix": prefix}
    listing = httpx.get(f"{engine.endpoint}/{BUCKET}", params=query, trust_env=False).text
    return listing.count("<Key>") - listing.count("node.json</Key>")


def store_of(server: Server) -> tuple[Any, ...]:
    return ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database, "--data-dir", server.data_dir)


def test_files_go_into_buckets_and_out_of_them(start_server: StartServer, s3: Engine) -> None:
    prefix = secrets.token_hex(8)
    nodes = f"{s3.url(f'{prefix}/a')},{s3.url(f'{prefix}/b')}"
    server = start_server(nodes=nodes, gc_interval=0, workers=2)
    content = os.urandom(5 * MIB + 1000)
    first = server.upload(content)
    again = server.upload(content)
    assert (first["chunks"]["new"], again["chunks"]["new"]) == (6, 0)
    assert blob_count(s3, prefix) == 6
    assert server.client.get(f"/api/files/{first['fileId']}").content == content
    part = server.client.get(f"/api/files/{again['fileId']}", headers={"Range": "bytes=1048570-3000000"})
    assert part.content == content[1048570:3000001]
    statistics = server.client.get("/api/stats").json()
    assert {node["state"] for node in statistics["nodes"]} == {"active"}
    assert server.client.get("/ready").status_code == 200

    # The commands find the buckets in the database, and their keys in the environment.
    assert result_of("check", *store_of(server), "--read-data")["clean"]
    for file_id in (first["fileId"], again["fileId"]):
        assert server.client.delete(f"/api/files/{file_id}").status_code == 204
    assert result_of("gc", *store_of(server), "--grace", 0)["chunksRemoved"] == 6
    assert blob_count(s3, prefix) == 0
    assert result_of("check", *store_of(server), "--read-data")["clean"]
    assert server.stop() == 0

    told = server.log_text() + repr(registry(server))
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in told
    assert registry(server)[0]["location"] == s3.url(f"{prefix}/a")


def registry(server: Server) -> list[dict[str, Any]]:
    """What the registry says of the nodes."""
    with pymongo.MongoClient[dict[str, Any]](server.mongo_url) as client:
        return list(client[server.mongo_database]["nodes"].find(sort=[("_id", 1)]))


def test_damage_in_a_bucket_is_found_and_put_aside(start_server: StartServer, s3: Engine) -> None:
    prefix = secrets.token_hex(8)
    server = start_server(nodes=s3.url(prefix), gc_interval=0)
    hurt = server.upload(os.urandom(2000), "hurt.bin")["fileId"]
    (chunk,) = server.client.get(f"/api/files/{hurt}/manifest").json()["chunks"]
    listing = httpx.get(f"{s3.endpoint}/{BUCKET}", params={"list-type": "2", "prefix": prefix}, trust_env=False).text
    (key,) = [part.partition("</Key>")[0] for part in listing.split("<Key>") if chunk["digest"] in part]
    s3.put(key, b"0" * 2000)
    report = result_of("check", *store_of(server), "--read-data", "--repair", code=1)
    assert [finding["kind"] for finding in report["findings"]] == ["blob-wrong"]
    assert s3.get(key) is None
    assert s3.get(f"{prefix}/quarantine/{key.rpartition('/')[2]}") == b"0" * 2000


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"bucket": "missing"}, "There is no bucket missing"),
        ({"endpoint": "http://127.0.0.1:1"}, "Connection refused"),
        ({"secret": "hush"}, "the parameter secret is not known"),
    ],
)
def test_a_server_that_can_not_use_its_bucket_says_why(
    databases: Databases, tmp_path: Path, s3: Engine, wrong: dict[str, str], reason: str
) -> None:
    with databases.fresh() as name:
        flags = {"mongo-url": databases.mongo_url, "mongo-database": name, "redis-url": databases.redis_url}
        flags |= {"port": "0", "data-dir": str(tmp_path), "nodes": s3.url("p", **wrong)}
        done = process("serve", *(word for flag, value in flags.items() for word in (f"--{flag}", value)))
    assert done.returncode != 0
    assert reason in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr
