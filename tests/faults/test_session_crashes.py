"""The server dies at points of an upload session: what was told durable is there, it goes on, nothing leaks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from app.faults import KILL_VARIABLE
from tests.conftest import StartServer
from tests.faults.crashing import check, collect
from tests.faults.tools import read_back, transactions_end_after
from tests.support import Databases, Server

PIECE = 300_000
CONTENT = os.urandom(4 * PIECE)
CUTS = [CONTENT[at : at + PIECE] for at in range(0, len(CONTENT), PIECE)]
SPEAKS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(autouse=True)
def short_transactions(databases: Databases) -> Iterator[None]:
    with databases.client() as client, transactions_end_after(client, 2):
        yield


def by_tus(server: Server, path: str) -> tuple[str, str]:
    """Upload in pieces from where it stands; the path, and the file in the end."""
    client = server.client
    if not path:
        answer = client.post("/api/tus", headers={**SPEAKS, "Upload-Length": str(len(CONTENT))})
        path = str(answer.request.url.join(answer.headers["location"]).path)
    there = client.head(path, headers=SPEAKS)
    with suppress(httpx.HTTPError):
        while "x-file-id" not in there.headers:
            at = int(there.headers["upload-offset"])
            assert at % PIECE == 0
            headers = {**SPEAKS, "Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
            there = client.patch(path, headers=headers, content=CONTENT[at : at + PIECE])
            assert int(there.headers["upload-offset"]) == at + PIECE
    return path, there.headers.get("x-file-id", "")


def by_list(server: Server, path: str) -> tuple[str, str]:
    """Send the chunks that are missing, and make the file of them."""
    client = server.client
    path = path or client.post("/api/uploads", json={"name": "a"}).headers["location"]
    chunks = [{"digest": hashlib.sha256(cut).hexdigest(), "size": len(cut)} for cut in CUTS]
    with suppress(httpx.HTTPError):
        missing = client.post(f"{path}/missing", json={"chunks": chunks}).json()["missing"]
        for chunk, cut in zip(chunks, CUTS, strict=True):
            if chunk["digest"] in missing:
                assert client.put(f"{path}/chunks/{chunk['digest']}", content=cut).status_code == 204
        return path, client.post(f"{path}/complete", json={"chunks": chunks}).json()["fileId"]
    return path, ""


@pytest.mark.parametrize(
    ("upload", "point"),
    [
        (by_tus, "part-begun:2"),
        # Its last byte is there, and the file is not yet.
        (by_tus, "part-committed:4"),
        (by_list, "commit-half-done:2"),
        (by_list, "commit-half-done:5"),
        (by_list, "committed"),
    ],
)
def test_a_session_goes_on_after_a_crash(
    start_server: StartServer, upload: Callable[[Server, str], tuple[str, str]], point: str
) -> None:
    """Seen to fail at the end of what is appended where a HEAD does not make the file."""
    server = start_server(env={KILL_VARIABLE: point})
    before = server.client.get("/ready").json()["status"]
    path, file_id = upload(server, "")
    assert (before, file_id) == ("ready", "")
    server.kill()
    server = start_server(gc_interval=0)
    if point == "committed":
        # It was made, and nobody was told.
        file_id = server.client.get(path).json()["fileId"]
    else:
        _, file_id = upload(server, path)
    read_back(server, file_id, CONTENT)
    assert check(server).findings == []
    assert server.client.delete(f"/api/files/{file_id}").status_code == 204
    collect(server, grace=0, upload_expiry=0)
    assert check(server).findings == []
    assert not list((server.data_dir / "nodes").glob("*/??/*"))
