"""Listing, describing and deleting files, and the figures about them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import Server, eventually

MIB = 1 << 20


@pytest.fixture
def own(start_server: StartServer) -> Server:
    return start_server()


def listed(server: Server, **query: Any) -> list[str]:
    names: list[str] = []
    after = None
    while True:
        page = server.client.get("/api/files", params=query | ({"after": after} if after else {})).json()
        names += [file["name"] for file in page["files"]]
        after = page["next"]
        if after is None:
            return names
        assert len(page["files"]) == query["limit"]


def test_files_are_listed_newest_first_page_by_page(own: Server) -> None:
    names = [f"{'a.b' if number % 3 else 'axb'}{number}" for number in range(23)]
    for name in names:
        own.upload(b"x", name)
    for limit in (1, 5, 22, 23, 24):
        assert listed(own, limit=limit) == names[::-1]
    assert listed(own, limit=4, name="a.b") == [name for name in names[::-1] if name.startswith("a.b")]
    assert listed(own, limit=4, name="nothing") == []


def test_paging_goes_on_where_it_was_though_files_vanish(own: Server) -> None:
    ids = [own.upload(b"x", str(number))["fileId"] for number in range(6)]
    page = own.client.get("/api/files?limit=3").json()
    for file_id in (ids[3], ids[2]):
        assert own.client.delete(f"/api/files/{file_id}").status_code == 204
    rest = own.client.get("/api/files", params={"limit": 3, "after": page["next"]}).json()
    assert [file["name"] for file in rest["files"]] == ["1", "0"]


def test_info_tells_what_only_this_file_holds(own: Server) -> None:
    common, single, twice = os.urandom(MIB), os.urandom(MIB), os.urandom(MIB)
    first = own.upload(common + single + twice * 2)["fileId"]
    info = own.client.get(f"/api/files/{first}/info").json()
    assert (info["logicalBytes"], info["uniqueBytes"], info["chunks"]) == (4 * MIB, 3 * MIB, 4)
    second = own.upload(common)["fileId"]
    assert own.client.get(f"/api/files/{first}/info").json()["uniqueBytes"] == 2 * MIB
    assert own.client.get(f"/api/files/{second}/info").json()["uniqueBytes"] == 0
    copy = own.upload(common + single + twice * 2)["fileId"]
    assert own.client.get(f"/api/files/{first}/info").json()["uniqueBytes"] == 0
    own.client.delete(f"/api/files/{copy}")
    assert own.client.get(f"/api/files/{first}/info").json()["uniqueBytes"] == 2 * MIB


def test_the_manifest_lists_the_chunks_in_order(own: Server) -> None:
    content = os.urandom(5 * MIB + 3)
    file_id = own.upload(content)["fileId"]
    chunks, after = [], 0
    while after is not None:
        page = own.client.get(f"/api/files/{file_id}/manifest", params={"after": after, "limit": 2}).json()
        chunks += page["chunks"]
        after = page["next"]
    assert [chunk["index"] for chunk in chunks] == list(range(6))
    assert [chunk["offset"] for chunk in chunks] == [number * MIB for number in range(6)]
    assert sum(chunk["size"] for chunk in chunks) == len(content)
    assert all(chunk["nodes"] in (["node1"], ["node2"], ["node3"]) for chunk in chunks)


def test_a_deleted_file_is_gone_and_others_with_its_bytes_stay(own: Server) -> None:
    content = os.urandom(2 * MIB)
    first, second = own.upload(content)["fileId"], own.upload(content)["fileId"]
    assert own.client.delete(f"/api/files/{first}").status_code == 204
    for path in ("", "/info", "/manifest"):
        assert own.client.get(f"/api/files/{first}{path}").status_code == 404
    assert own.client.delete(f"/api/files/{first}").status_code == 404
    assert own.client.get(f"/api/files/{second}").content == content


def test_statistics_follow(own: Server) -> None:
    shared, other = os.urandom(3 * MIB), os.urandom(MIB)
    first = own.upload(shared)["fileId"]
    own.upload(shared + other)

    def stats() -> Any:
        return own.client.get("/api/stats").json()

    found = eventually(lambda: (now := stats())["files"] == 2 and now)
    assert found["logicalBytes"] == 7 * MIB
    assert (found["chunks"], found["storedBytes"]) == (4, 4 * MIB)
    assert found["dedupRatio"] == 1.75
    assert [node["id"] for node in found["nodes"]] == ["node1", "node2", "node3"]
    assert sum(node["chunks"] for node in found["nodes"]) == 4
    assert sum(node["bytes"] for node in found["nodes"]) == 4 * MIB
    assert all(node["state"] == "active" and node["freeBytes"] > 0 for node in found["nodes"])
    own.client.delete(f"/api/files/{first}")
    assert eventually(lambda: (now := stats())["files"] == 1 and now)["logicalBytes"] == 4 * MIB
