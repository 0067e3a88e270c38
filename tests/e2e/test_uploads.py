"""Uploads through a real server: the main job, and the ways in which a predecessor failed at it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartServer
from tests.support import Server, blob_names

MIB = 1 << 20


def test_a_file_comes_out_as_it_went_in_and_its_second_upload_stores_nothing(server: Server) -> None:
    content = os.urandom(5_000_000)
    first, second = server.upload(content), server.upload(content)
    assert first["chunks"] == {"total": 5, "new": 5, "linked": 0}
    assert second["chunks"] == {"total": 5, "new": 0, "linked": 5}
    assert second["bytes"] == {"received": len(content), "stored": 0, "saved": len(content)}
    assert second["file"]["contentId"] == first["file"]["contentId"]
    for upload in (first, second):
        assert server.client.get(f"/api/files/{upload['fileId']}").content == content


def test_an_edited_file_stores_only_the_chunks_that_changed(server: Server) -> None:
    content = bytearray(os.urandom(20 * MIB))
    server.upload(bytes(content))
    content[7 * MIB] ^= 1
    edited = server.upload(bytes(content))
    assert edited["chunks"] == {"total": 20, "new": 1, "linked": 19}
    assert edited["bytes"]["stored"] == MIB


def test_a_file_may_hold_the_same_chunk_many_times(server: Server) -> None:
    chunk = os.urandom(MIB)
    content = chunk * 40 + b"end"
    upload = server.upload(content)
    assert upload["chunks"] == {"total": 41, "new": 2, "linked": 39}
    assert server.client.get(f"/api/files/{upload['fileId']}").content == content


def test_a_form_with_several_files_loses_none(server: Server) -> None:
    contents = [os.urandom(size) for size in (10, 3 * MIB, 0, MIB, 2 * MIB + 1)]
    contents.append(contents[1])
    form = [("file", (f"{number}.bin", content)) for number, content in enumerate(contents)]
    answer = server.client.post("/api/upload", files=form)
    assert answer.status_code == 201
    body = answer.json()
    assert [file["name"] for file in body["files"]] == [f"{number}.bin" for number in range(6)]
    assert body["file"] == body["files"][0]
    assert body["fileId"] == body["file"]["id"]
    assert answer.headers["location"] == f"/api/files/{body['fileId']}"
    for file, content in zip(body["files"], contents, strict=True):
        assert server.client.get(f"/api/files/{file['id']}").content == content


def test_other_fields_of_the_form_are_let_through(server: Server) -> None:
    answer = server.client.post("/api/upload", data={"note": "hello"}, files={"file": ("a", b"abc")})
    assert answer.status_code == 201
    assert answer.json()["file"]["size"] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_concurrent_uploads_of_one_new_file_store_it_once(start_server: StartServer, workers: int) -> None:
    server = start_server(workers=workers)
    content = os.urandom(20 * MIB + 17)
    with ThreadPoolExecutor(8) as threads:
        uploads = list(threads.map(lambda _: server.upload(content), range(8)))
    assert sum(upload["chunks"]["new"] for upload in uploads) == 21
    assert all(upload["chunks"]["total"] == 21 for upload in uploads)
    assert len(blob_names(server)) == 21
    for upload in uploads:
        assert server.client.get(f"/api/files/{upload['fileId']}").content == content


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB])
def test_the_content_id_of_a_file_of_one_chunk_is_its_sha256(server: Server, size: int) -> None:
    content = os.urandom(size)
    file = server.upload(content)["file"]
    assert file["size"] == size
    assert file["contentId"] == hashlib.sha256(content).hexdigest()
    assert server.client.get(f"/api/files/{file['id']}").content == content


def test_a_longer_file_is_named_by_its_bytes_and_how_they_were_cut(server: Server) -> None:
    content = os.urandom(MIB + 1)
    file = server.upload(content)["file"]
    digests = [hashlib.sha256(part).digest() for part in (content[:MIB], content[MIB:])]
    assert file["contentId"] == hashlib.sha256(b"mini-s3 fixed 1048576\n" + b"".join(digests)).hexdigest()


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/passwd",
        "x" * 5000,
        "ünïcödé 😀 \u202etxt.exe",
        "a\tb\x01\x7f",
        "..",
        ".",
        'say "hi"; a=b',
        "a\\b",
        "%2e%22",
    ],
)
def test_names_are_data(server: Server, name: str) -> None:
    before = blob_names(server)
    boundary = "b0undary"
    escaped = name.replace('"', "%22")
    if name == "%2e%22":
        escaped, name = name, '%2e"'
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n\r\n'.encode()
        + os.urandom(20)
        + f"\r\n--{boundary}--\r\n".encode()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = server.client.post("/api/upload", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["file"]["name"] == name
    assert len(blob_names(server) - before) == 1
    download = server.client.get(f"/api/files/{answer.json()['fileId']}")
    assert download.headers["content-disposition"].startswith("attachment; filename=")
    listed = server.client.get("/api/files", params={"name": name}).json()["files"]
    assert listed[0]["name"] == name


def test_a_file_without_a_name_has_an_empty_one(server: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--b--'
    answer = server.client.post(
        "/api/upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 201
    assert answer.json()["file"]["name"] == ""
    assert server.client.get(f"/api/files/{answer.json()['fileId']}").headers["content-disposition"] == "attachment"


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "application/vnd.x+json", "image/png"])
def test_the_content_type_comes_back_as_it_was_sent(server: Server, content_type: str) -> None:
    file = server.upload(b"x", content_type=content_type)["file"]
    assert file["contentType"] == content_type
    assert server.client.head(f"/api/files/{file['id']}").headers["content-type"] == content_type
