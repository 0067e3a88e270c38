"""POST /api/upload: what goes in, what is stored of it, and what the answer says."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.e2e.helpers import (
    FORM,
    MIB,
    Part,
    Wire,
    blob_digests,
    digests,
    distinct,
    form,
    metric,
    own_server,
    upload_parts,
)
from tests.support import Databases, Server, eventually


def read(server: Server, file_id: str) -> bytes:
    answer = server.client.get(f"/api/files/{file_id}")
    assert answer.status_code == 200, answer.text
    return answer.content


# The main job


def test_a_file_comes_out_as_it_went_in_and_its_second_upload_stores_nothing(server: Server) -> None:
    content = distinct(4, 700_000)
    first, second = server.upload(content), server.upload(content)
    assert first["chunks"] == {"total": 5, "new": 5, "linked": 0}
    assert first["bytes"] == {"received": len(content), "stored": len(content), "saved": 0}
    assert second["chunks"] == {"total": 5, "new": 0, "linked": 5}
    assert second["bytes"] == {"received": len(content), "stored": 0, "saved": len(content)}
    assert first["fileId"] != second["fileId"]
    for upload in (first, second):
        assert read(server, upload["fileId"]) == content
    held = Counter(blob_digests(server.data_dir))
    assert {held[digest] for digest in digests(content)} == {1}


def test_an_edited_version_stores_only_the_chunks_that_changed(server: Server) -> None:
    content = distinct(6)
    edited = content[: 2 * MIB] + distinct(1) + content[3 * MIB :]
    server.upload(content)
    upload = server.upload(edited)
    assert upload["chunks"] == {"total": 6, "new": 1, "linked": 5}
    assert upload["bytes"] == {"received": 6 * MIB, "stored": MIB, "saved": 5 * MIB}
    assert read(server, upload["fileId"]) == edited


def test_the_answer_describes_the_file(server: Server) -> None:
    content = distinct(0, 1000)
    answer = server.client.post("/api/upload", files={"file": ("report.txt", content, "text/plain")})
    assert answer.status_code == 201
    body = answer.json()
    assert body["success"] is True
    assert body["files"] == [body["file"]]
    assert body["fileId"] == body["file"]["id"]
    assert answer.headers["location"] == f"/api/files/{body['fileId']}"
    assert server.client.get(answer.headers["location"]).content == content
    described = body["file"]
    assert (described["name"], described["size"], described["contentType"]) == ("report.txt", 1000, "text/plain")
    assert described["contentId"] == hashlib.sha256(content).hexdigest()
    assert described["createdAt"].endswith("Z")


@pytest.mark.parametrize("repeats", [2, 40])
def test_a_file_may_hold_the_same_chunk_many_times(server: Server, repeats: int) -> None:
    content = distinct(1) * repeats
    upload = server.upload(content)
    assert upload["chunks"] == {"total": repeats, "new": 1, "linked": repeats - 1}
    assert upload["bytes"] == {"received": repeats * MIB, "stored": MIB, "saved": (repeats - 1) * MIB}
    assert read(server, upload["fileId"]) == content
    assert server.upload(content)["chunks"]["new"] == 0
    assert Counter(blob_digests(server.data_dir))[digests(content)[0]] == 1


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 16, 16 * MIB, 16 * MIB + 17])
def test_sizes_at_the_edges_of_chunks_and_batches(server: Server, size: int) -> None:
    content = distinct(0, size)
    upload = server.upload(content)
    assert upload["file"]["size"] == size
    assert upload["chunks"] == {"total": len(digests(content)), "new": len(digests(content)), "linked": 0}
    assert read(server, upload["fileId"]) == content
    info = server.client.get(f"/api/files/{upload['fileId']}/info").json()
    assert (info["size"], info["logicalBytes"], info["chunks"]) == (size, size, len(digests(content)))
    if size <= MIB:
        assert upload["file"]["contentId"] == hashlib.sha256(content).hexdigest()
    assert server.upload(content)["file"]["contentId"] == upload["file"]["contentId"]


def test_content_ids_tell_contents_apart(server: Server) -> None:
    first, second = distinct(1), distinct(1)
    orders = [first + second, second + first, first, first + first, first + second[:-1]]
    assert len({server.upload(content)["file"]["contentId"] for content in orders}) == len(orders)


# Forms of several files


@pytest.mark.parametrize("sizes", [(3 * MIB + 16, 10), (0, 15, 2 * MIB, MIB + 17, 0)])
def test_no_file_of_a_form_is_lost(server: Server, sizes: tuple[int, ...]) -> None:
    parts = [Part(distinct(0, size), f"file {number}", f"x/n{number}") for number, size in enumerate(sizes)]
    upload = upload_parts(server, *parts)
    shown = [(file["name"], file["size"], file["contentType"]) for file in upload["files"]]
    assert shown == [(part.name, len(part.content), part.content_type) for part in parts]
    assert upload["file"] == upload["files"][0]
    assert upload["bytes"]["received"] == sum(sizes)
    assert [read(server, file["id"]) for file in upload["files"]] == [part.content for part in parts]


def test_a_form_of_identical_files_stores_them_once(server: Server) -> None:
    content = distinct(2, 5)
    upload = upload_parts(server, *[Part(content, "twin")] * 3)
    assert upload["chunks"] == {"total": 9, "new": 3, "linked": 6}
    assert len({file["id"] for file in upload["files"]}) == 3
    assert len({file["contentId"] for file in upload["files"]}) == 1
    assert all(read(server, file["id"]) == content for file in upload["files"])
    survivor, *others = upload["files"]
    for file in others:
        assert server.client.delete(f"/api/files/{file['id']}").status_code == 204
    assert read(server, survivor["id"]) == content


def test_other_fields_of_a_form_are_no_files(server: Server) -> None:
    note = Part(b"hello", None, None, field="note")
    upload = upload_parts(server, note, Part(b"kept", "kept.txt"), note)
    assert [file["name"] for file in upload["files"]] == ["kept.txt"]


# At the same time


def upload_together(server: Server, contents: list[bytes]) -> list[Any]:
    """Upload each at the same moment, over a connection of its own."""
    barrier = threading.Barrier(len(contents))

    def send(content: bytes) -> Any:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            barrier.wait()
            answer = client.post("/api/upload", files={"file": ("same.bin", content)})
        assert answer.status_code == 201, answer.text
        return answer.json()

    with ThreadPoolExecutor(len(contents)) as threads:
        return list(threads.map(send, contents))


def assert_stored_once(server: Server, content: bytes, uploads: list[Any]) -> None:
    for upload in uploads:
        assert read(server, upload["fileId"]) == content
    assert sum(upload["chunks"]["new"] for upload in uploads) == len(digests(content))
    held = Counter(blob_digests(server.data_dir))
    assert {held[digest] for digest in digests(content)} == {1}
    assert max(held.values()) == 1


@pytest.mark.parametrize("clients", [4, 8])
def test_one_new_file_uploaded_several_times_at_once_is_stored_once(server: Server, clients: int) -> None:
    content = distinct(5, 17)
    assert_stored_once(server, content, upload_together(server, [content] * clients))


@pytest.fixture(scope="module")
def two_workers(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(databases, tmp_path_factory, workers=2) as running:
        yield running


def test_the_same_with_two_workers(two_workers: Server) -> None:
    """Repeated until both workers have served uploads."""

    def both_served() -> bool:
        content = distinct(3, 17)
        assert_stored_once(two_workers, content, upload_together(two_workers, [content] * 8))
        served = {event["pid"] for event in two_workers.events("request") if event["path"] == "/api/upload"}
        return len(served) == 2

    eventually(both_served)


def test_different_files_at_once_stay_apart(two_workers: Server) -> None:
    shared = distinct(2)
    contents = [shared + distinct(1, number) for number in range(8)]
    uploads = upload_together(two_workers, contents)
    assert [read(two_workers, upload["fileId"]) for upload in uploads] == contents
    assert max(Counter(blob_digests(two_workers.data_dir)).values()) == 1


# Names and types are data

ODD_NAMES = [
    "",
    "a" * 5000,
    "../../x",
    "/etc/passwd",
    "..\\..\\x",
    "C:\\dir\\",
    ".",
    "..",
    "\x00",
    "tab\tbell\x07nul\x00del\x7f",
    "line\r\nSet-Cookie: a=b",
    'quo"ted; filename="other"',
    "$where",
    "naïve 日本語 🎉.txt",
    "\u202egnp.exe",
    " spaces ",
]


@effort(max_examples=25, deadline=None)
# A percent sign may be the escape of a browser, so it can't be told from one.
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%"), max_size=60))
def test_any_name_is_kept(server: Server, name: str) -> None:
    assert_name_is_kept(server, name)


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_an_odd_name_is_kept_and_never_used_as_a_path(server: Server, name: str) -> None:
    assert_name_is_kept(server, name)
    ours = {"nodes", "lock", "run.json", "mongo", "redis", "master.key"}
    outside = {path.name for path in server.data_dir.iterdir()} - ours
    assert not outside


def assert_name_is_kept(server: Server, name: str) -> None:
    upload = upload_parts(server, Part(b"content", name))
    assert upload["file"]["name"] == name
    answer = server.client.get(f"/api/files/{upload['fileId']}")
    assert answer.content == b"content"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment")
    assert disposition.isascii()
    assert disposition.isprintable()
    assert "set-cookie" not in answer.headers
    assert server.client.get(f"/api/files/{upload['fileId']}/info").json()["name"] == name


def test_a_missing_name_is_an_empty_one(server: Server) -> None:
    upload = upload_parts(server, Part(b"x", None))
    assert upload["file"]["name"] == ""
    answer = server.client.get(f"/api/files/{upload['fileId']}")
    assert answer.headers["content-disposition"] == "attachment"


def test_a_name_in_other_letters_reaches_the_downloader(server: Server) -> None:
    upload = server.upload(b"x", "Größe 日本.txt")
    disposition = server.client.get(f"/api/files/{upload['fileId']}").headers["content-disposition"]
    assert f"filename*=UTF-8''{quote('Größe 日本.txt')}" in disposition
    assert 'filename="' in disposition


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("text/html; charset=utf-8", "text/html; charset=utf-8"),
        ('application/x-y; a="b; c"', 'application/x-y; a="b; c"'),
        (None, "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
    ],
)
def test_the_content_type_comes_back(server: Server, sent: str | None, kept: str) -> None:
    upload = upload_parts(server, Part(b"<p>", "a.html", sent))
    assert upload["file"]["contentType"] == kept
    assert server.client.get(f"/api/files/{upload['fileId']}").headers["content-type"] == kept


# Half an upload


def test_a_client_that_goes_in_mid_upload_leaves_no_file_and_no_memory(start_server: StartServer) -> None:
    server = start_server()
    body = form(Part(distinct(40), "half.bin"))
    with Wire(server) as wire:
        wire.begin_upload(len(body))
        wire.send(body[: 20 * MIB])
        eventually(lambda: metric(server, "mini_s3_buffers_bytes") > 0)
        wire.vanish()
    eventually(lambda: metric(server, "mini_s3_buffers_bytes") == 0)
    eventually(lambda: server.events("client gone in mid-upload"))
    assert server.client.get("/api/files").json()["files"] == []
    assert server.upload(distinct(2))["chunks"]["new"] == 2


def test_a_body_in_chunked_transfer_coding_is_taken(server: Server) -> None:
    content = distinct(3, 99)
    body = form(Part(content, "chunked"))
    pieces = (body[at : at + 100_001] for at in range(0, len(body), 100_001))
    answer = server.client.post("/api/upload", content=pieces, headers={"Content-Type": FORM})
    assert answer.status_code == 201
    assert read(server, answer.json()["fileId"]) == content


def test_a_body_that_comes_byte_by_byte_is_taken(server: Server) -> None:
    body = form(Part(b"slow and steady", "slow"))
    with Wire(server) as wire:
        wire.begin_upload(len(body))
        for at in range(len(body)):
            wire.send(body[at : at + 1])
        answer = wire.answer()
    assert answer.status_code == 201
    assert read(server, answer.json()["fileId"]) == b"slow and steady"
