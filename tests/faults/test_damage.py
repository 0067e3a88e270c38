"""Damaged bytes are never sent: the answer is an error, or it is broken off."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from bson import ObjectId
from bson.binary import Binary

from tests.conftest import StartServer
from tests.support import Databases, Server, blob_of, eventually

MIB = 1 << 20


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def digests(server: Server, file_id: str) -> list[str]:
    chunks = server.client.get(f"/api/files/{file_id}/manifest").json()["chunks"]
    return [chunk["digest"] for chunk in chunks]


def damage_found(server: Server, file_id: str) -> list[Any]:
    """The chunks of this file that were found damaged so far."""
    return [event["chunk"] for event in server.events("damage found") if event.get("chunk") in digests(server, file_id)]


def damage_counted(server: Server) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("mini_s3_damage_found_total"))


def received(server: Server, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, bool]:
    """Status, body as far as it came, and whether it was whole."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        try:
            return answer.status, answer.read(), True
        except http.client.IncompleteRead as incomplete:
            return answer.status, incomplete.partial, False
    finally:
        connection.close()


@pytest.mark.parametrize("damage", [flip, shorten, lengthen, Path.unlink])
def test_a_damaged_first_chunk_is_an_error_document(server: Server, damage: Callable[[Path], Any]) -> None:
    file_id = server.upload(os.urandom(2 * MIB))["fileId"]
    first = digests(server, file_id)[0]
    damage(blob_of(server, first))
    before = damage_counted(server)
    answer = server.client.get(f"/api/files/{file_id}")
    assert (answer.status_code, answer.json()["code"]) == (500, "content-damaged")
    assert damage_found(server, file_id) == [first]
    assert damage_counted(server) == before + 1
    assert server.client.get(f"/api/files/{file_id}", headers={"Range": f"bytes={MIB}-"}).status_code == 206


@pytest.mark.parametrize("damage", [flip, shorten, lengthen, Path.unlink])
def test_a_damaged_later_chunk_breaks_the_connection_off(server: Server, damage: Callable[[Path], Any]) -> None:
    content = os.urandom(30 * MIB)
    file_id = server.upload(content)["fileId"]
    healthy = server.upload(b"healthy")["fileId"]
    damaged = digests(server, file_id)[20]
    damage(blob_of(server, damaged))
    status, body, whole = received(server, f"/api/files/{file_id}")
    assert (status, whole) == (200, False)
    assert content.startswith(body)
    assert len(body) <= 20 * MIB
    assert damage_found(server, file_id) == [damaged]
    assert server.events("download broken off")
    status, _, whole = received(server, f"/api/files/{file_id}", {"Range": f"bytes=0-9, {20 * MIB}-{20 * MIB + 9}"})
    assert (status, whole) == (206, False)
    assert server.client.get(f"/api/files/{healthy}").content == b"healthy"


def test_missing_documents_are_damage_too(start_server: StartServer, databases: Databases) -> None:
    server = start_server()
    content = os.urandom(3 * MIB)
    file_id = server.upload(content)["fileId"]
    second = bytes.fromhex(digests(server, file_id)[1])
    with databases.client() as client:
        database = client[server.mongo_database]
        database["chunks"].update_one({"_id": Binary(second)}, {"$set": {"state": "dead"}})
        assert server.client.get(f"/api/files/{file_id}").status_code == 500
        database["chunks"].delete_one({"_id": Binary(second)})
        assert server.client.get(f"/api/files/{file_id}").status_code == 500
        assert {event["kind"] for event in server.events("damage found")} == {"chunk"}
        database["pages"].delete_many({})
    answer = server.client.get(f"/api/files/{file_id}")
    assert (answer.status_code, answer.json()["code"]) == (500, "content-damaged")
    assert server.events("damage found")[-1]["kind"] == "page"
    assert server.client.get("/health").status_code == 200


def test_a_client_that_leaves_in_mid_download_stops_the_reading(server: Server) -> None:
    file_id = server.upload(os.urandom(60 * MIB))["fileId"]
    with httpx.stream("GET", f"{server.url}/api/files/{file_id}", trust_env=False) as answer:
        next(answer.iter_bytes(1000))
    line = eventually(lambda: [event for event in server.events("request") if event["path"].endswith(file_id)])[0]
    assert line["sent"] < 60 * MIB


def test_a_later_page_that_is_missing_breaks_the_connection_off(server: Server, databases: Databases) -> None:
    halves = [os.urandom(12 * MIB), os.urandom(2 * MIB)]
    first, second = (server.upload(half)["fileId"] for half in halves)
    with databases.client() as client:
        database = client[server.mongo_database]
        joined, other = (database["files"].find_one({"_id": ObjectId(file_id)}) for file_id in (first, second))
        assert joined is not None
        assert other is not None
        # A file of two pages, without the gigabyte that makes one.
        joined |= {"_id": ObjectId(), "key": "joined", "size": 14 * MIB, "pages": joined["pages"] + other["pages"]}
        database["files"].insert_one(joined)
        path = f"/api/files/{joined['_id']}"
        assert received(server, path) == (200, b"".join(halves), True)
        database["pages"].delete_one({"_id": other["pages"][0]["id"]})
    status, body, whole = received(server, path)
    assert (status, whole) == (200, False)
    assert halves[0].startswith(body)
    assert server.events("damage found")[-1]["kind"] == "page"
    assert received(server, path, {"Range": f"bytes=1-{12 * MIB - 1}"}) == (206, halves[0][1:], True)
    assert server.client.get(path, headers={"Range": f"bytes={12 * MIB}-"}).status_code == 500
