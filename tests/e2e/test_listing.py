"""Files as JSON: list, info, manifest, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.helpers import MIB, Part, assert_problem, digests, distinct, upload_parts
from tests.support import Databases, Server


def pages(server: Server, **query: Any) -> Iterator[dict[str, Any]]:
    """The pages of a listing as the cursors lead through them, each asked for when it is wanted."""
    after: dict[str, str] = {}
    while True:
        answer = server.client.get("/api/files", params={**query, **after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page
        if page["next"] is None:
            return
        after = {"after": page["next"]}


def listed(server: Server, **query: Any) -> list[dict[str, Any]]:
    return [file for page in pages(server, **query) for file in page["files"]]


def ids(files: list[dict[str, Any]]) -> list[str]:
    return [file["id"] for file in files]


# List


def test_newest_first_with_all_fields(server: Server) -> None:
    uploads = [server.upload(b"x", f"order {number}")["file"] for number in range(5)]
    assert listed(server, name="order ") == uploads[::-1]


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 1000])
def test_paging_meets_each_file_once(server: Server, limit: int) -> None:
    prefix = f"paging {limit}/"
    alone = [server.upload(b"x", f"{prefix}{number}")["fileId"] for number in range(3)]
    # Files of one form have the same instant: only their ids tell them apart.
    together = ids(upload_parts(server, *(Part(b"x", f"{prefix}{number}") for number in range(4)))["files"])
    found = list(pages(server, name=prefix, limit=limit))
    assert all(len(page["files"]) == limit for page in found[:-1])
    seen = ids([file for page in found for file in page["files"]])
    assert sorted(seen) == sorted(alone + together)
    assert seen[4:] == alone[::-1]


def test_paging_goes_on_while_files_are_deleted_and_added(server: Server) -> None:
    files = [server.upload(b"x", f"moving {number:02}")["fileId"] for number in range(20)][::-1]
    seen: list[str] = []
    doomed = {0: files[4], 1: files[9], 2: files[11]}  # the cursor's own file, the next one's, one in between
    for number, page in enumerate(pages(server, name="moving ", limit=5)):
        seen += ids(page["files"])
        if number in doomed:
            assert server.client.delete(f"/api/files/{doomed[number]}").status_code == 204
            server.upload(b"x", "moving late")
    gone_unseen = {file for file in doomed.values() if file not in seen}
    assert seen == [file for file in files if file not in gone_unseen]


@pytest.mark.parametrize(
    "prefix", ["a.b*", "[x]", "^", "$", "(", "\\d", "a|b", "*", ".", "ä{2}", "#", "a b", "\n", "\t", "日本", "x\x00y"]
)
def test_a_prefix_is_no_pattern(server: Server, prefix: str) -> None:
    wanted = [upload_parts(server, Part(b"x", name))["fileId"] for name in (prefix, f"{prefix}tail")]
    upload_parts(server, Part(b"x", "axb"), Part(b"x", "1"), Part(b"x", f"head{prefix}"))
    assert set(wanted) <= set(ids(listed(server, name=prefix)))
    assert all(file["name"].startswith(prefix) for file in listed(server, name=prefix))


def test_a_prefix_heeds_case_and_may_match_nothing(server: Server) -> None:
    upload = server.upload(b"x", "Case")["fileId"]
    assert upload in ids(listed(server, name="Case"))
    assert upload not in ids(listed(server, name="case"))
    assert listed(server, name="no file is called so") == []


def test_a_long_prefix_finds_a_long_name(server: Server) -> None:
    name = "long" * 1250
    upload = server.upload(b"x", name)["fileId"]
    assert ids(listed(server, name=name)) == [upload]


def test_a_prefix_longer_than_any_pattern_may_be_is_no_fault(server: Server) -> None:
    answer = server.client.get("/api/files", params={"name": "y" * 40_000})
    assert answer.status_code in (200, 400), answer.text


def test_without_a_limit_a_page_has_a_hundred(databases: Databases, server: Server) -> None:
    parts = [Part(b"", f"hundred {number}") for number in range(101)]
    upload_parts(server, *parts)
    found = list(pages(server, name="hundred "))
    assert [len(page["files"]) for page in found] == [100, 1]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.5", "", "9" * 30, "٣", "1e2"])
def test_limits_out_of_bounds_are_refused(server: Server, limit: str) -> None:
    assert_problem(server.client.get("/api/files", params={"limit": limit}), 400, "bad-request")


@pytest.mark.parametrize("cursor", ["x", "AAAA", "é", "=" * 28, "A" * 27, "/" * 28, "_" * 28, "\x00", "A" * 5000])
def test_cursors_that_no_listing_gave_out_are_refused(server: Server, cursor: str) -> None:
    assert_problem(server.client.get("/api/files", params={"after": cursor}), 400, "bad-request")


# Info


def unique(server: Server, upload: Any) -> int:
    info = server.client.get(f"/api/files/{upload['fileId']}/info").json()
    assert isinstance(info["uniqueBytes"], int)
    return info["uniqueBytes"]


def test_info_is_the_file_and_what_only_it_holds(server: Server) -> None:
    upload = server.upload(distinct(2, 10), "whole", "a/b")
    info = server.client.get(f"/api/files/{upload['fileId']}/info").json()
    assert info == {**upload["file"], "logicalBytes": 2 * MIB + 10, "uniqueBytes": 2 * MIB + 10, "chunks": 3}


def test_unique_bytes_are_those_that_no_other_file_holds(server: Server) -> None:
    shared, own, others = distinct(2), distinct(3, 7), distinct(1)
    first = server.upload(shared + own)
    assert unique(server, first) == 5 * MIB + 7
    second = server.upload(shared + others)
    assert (unique(server, first), unique(server, second)) == (3 * MIB + 7, MIB)
    third = server.upload(shared + own)
    assert (unique(server, first), unique(server, third)) == (0, 0)
    server.client.delete(f"/api/files/{third['fileId']}")
    assert unique(server, first) == 3 * MIB + 7


def test_a_repeated_chunk_counts_once(server: Server) -> None:
    repeated, once = distinct(1), distinct(1)
    upload = server.upload(repeated * 5 + once)
    assert unique(server, upload) == 2 * MIB
    server.upload(repeated)
    assert unique(server, upload) == MIB


def test_an_empty_file_holds_nothing(server: Server) -> None:
    upload = server.upload(b"")
    assert unique(server, upload) == 0
    manifest = server.client.get(f"/api/files/{upload['fileId']}/manifest").json()
    assert (manifest["chunks"], manifest["next"]) == ([], None)


# Manifest


@pytest.mark.parametrize("limit", [1, 4, 9, 10, 1000])
def test_the_pages_of_a_manifest_rebuild_the_file(server: Server, limit: int) -> None:
    content = distinct(3) * 2 + distinct(3, 5)
    file = server.upload(content)["file"]
    chunks: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        answer = server.client.get(f"/api/files/{file['id']}/manifest", params={"after": after, "limit": limit})
        manifest = answer.json()
        assert (manifest["fileId"], manifest["contentId"]) == (file["id"], file["contentId"])
        assert 0 < len(manifest["chunks"]) <= limit
        chunks += manifest["chunks"]
        after = manifest["next"]
    assert [chunk["digest"] for chunk in chunks] == digests(content)
    assert [chunk["index"] for chunk in chunks] == list(range(10))
    assert [chunk["offset"] for chunk in chunks] == [number * MIB for number in range(10)]
    assert sum(chunk["size"] for chunk in chunks) == len(content)
    nodes = {node["id"] for node in server.client.get("/api/stats").json()["nodes"]}
    assert all(len(chunk["nodes"]) == 1 and nodes.issuperset(chunk["nodes"]) for chunk in chunks)


def test_new_chunks_go_to_all_nodes_in_turn(server: Server) -> None:
    upload = server.upload(distinct(9))
    manifest = server.client.get(f"/api/files/{upload['fileId']}/manifest").json()
    placed = [node for chunk in manifest["chunks"] for node in chunk["nodes"]]
    assert sorted(placed.count(node) for node in set(placed)) == [3, 3, 3]


def test_a_manifest_page_behind_the_end_is_empty(server: Server) -> None:
    upload = server.upload(b"x")
    manifest = server.client.get(f"/api/files/{upload['fileId']}/manifest", params={"after": 1 << 40}).json()
    assert (manifest["chunks"], manifest["next"]) == ([], None)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=", f"after={'9' * 40}", "limit=0", "limit=1001"])
def test_manifest_parameters_out_of_bounds_are_refused(server: Server, query: str) -> None:
    upload = server.upload(b"x")
    assert_problem(server.client.get(f"/api/files/{upload['fileId']}/manifest?{query}"), 400, "bad-request")


# Delete


def test_a_deleted_file_is_gone_everywhere(server: Server) -> None:
    content = distinct(2)
    upload = server.upload(content, "doomed")
    path = f"/api/files/{upload['fileId']}"
    answer = server.client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    for method, gone in (
        ("GET", path),
        ("GET", f"{path}/info"),
        ("GET", f"{path}/manifest"),
        ("GET", f"/api/content/{upload['file']['contentId']}"),
        ("DELETE", path),
    ):
        assert_problem(server.client.request(method, gone), 404, "not-found")
    assert server.client.head(path).status_code == 404
    assert upload["fileId"] not in ids(listed(server, name="doomed"))


def test_what_another_file_shares_stays(server: Server) -> None:
    shared = distinct(3)
    doomed, kept = server.upload(shared + b"tail"), server.upload(shared)
    server.client.delete(f"/api/files/{doomed['fileId']}")
    assert server.client.get(f"/api/files/{kept['fileId']}").content == shared


def test_deleted_content_can_be_uploaded_again(server: Server) -> None:
    content = distinct(2, 3)
    server.client.delete(f"/api/files/{server.upload(content)['fileId']}")
    again = server.upload(content)
    assert server.client.get(f"/api/files/{again['fileId']}").content == content
