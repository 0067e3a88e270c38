"""A power cut loses nothing that was acknowledged: rules R1 and R6, by the system calls.

No test can cut the power. What it would leave is known all the same: what was synced before. So these
tests look at the order in which files are written and synced, and messages sent and answered.

Each test says which changes of the code were tried and failed it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from tests.conftest import StartServer
from tests.faults.strace import Call, Message, Trace, of_file, traced
from tests.faults.test_away import mongod_of
from tests.faults.tools import MIB, read_back
from tests.support import Databases, Server, eventually

WRITES = ("insert", "update", "delete", "findAndModify", "create", "createIndexes", "drop")
FILE_WRITES = ("write", "writev", "pwrite64")
SYNCS = ("fdatasync", "fsync")


@dataclass(frozen=True)
class Change:
    """One statement of an update of the chunks, and the message that it was sent in."""

    message: Message
    query: dict[str, Any]
    fields: dict[str, Any]

    @property
    def chunk(self) -> bytes:
        return bytes(self.query["_id"])


def chunk_changes(trace: Trace, state: str) -> list[Change]:
    """The statements that were to bring chunks into this state."""
    return [
        Change(message, statement["q"], statement["u"]["$set"])
        for message in trace.messages
        if message.body.get("update") == "chunks"
        for statement in message.body["updates"]
        if statement["u"].get("$set", {}).get("state") == state
    ]


def cut(content: bytes) -> dict[bytes, int]:
    """The chunks of a file, with their sizes."""
    pieces = [content[at : at + MIB] for at in range(0, len(content), MIB)]
    return {hashlib.sha256(piece).digest(): len(piece) for piece in pieces}


def only(done: str, calls: list[Call]) -> Call:
    assert len(calls) == 1, f"{done} {len(calls)} times"
    return calls[0]


def warmed_up(server: Server) -> int:
    """The worker of a server that has its threads and connections; its number."""
    server.upload(os.urandom(3 * MIB))
    (worker,) = server.worker_pids()
    return worker


def assert_written_in_order(trace: Trace, node: Path, naming: Change, size: int, live: Change) -> None:
    """A blob's way to the disk, of one thread, between two messages to the database."""
    path = node / f"{naming.chunk[0]:02x}" / f"{naming.chunk.hex()}.{naming.fields['gen']}"
    temporary = str(path.with_name(f".tmp-{path.name}"))
    opened = only("opened", of_file(trace.calls, ["openat", "open", "creat"], temporary))
    writes = of_file(trace.calls, FILE_WRITES, temporary)
    synced = only("synced under its temporary name", of_file(trace.calls, SYNCS, temporary))
    names = temporary.encode(), str(path).encode()
    renamed = only("renamed", [call for call in trace.calls if call.done and call.strings == names])
    assert trace.answer_to(naming.message).ended < opened.began, "written before it was named"
    assert sum(write.result or 0 for write in writes) == size
    assert all(write.end < synced.began for write in writes), "written after it was synced"
    assert synced.end < renamed.began, "renamed before it was synced"
    folder = [call for call in of_file(trace.calls, ["fsync"], str(path.parent)) if call.began > renamed.end]
    assert folder, "the directory was not synced after the renaming"
    assert min(call.end for call in folder) < live.message.began, "live before its directory was synced"


def test_a_blob_is_written_when_it_is_named_and_live_when_it_is_durable(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Failed when, in `write_durably`, the fdatasync was dropped, or done after the rename; when the
    directory's sync was dropped, or done before the rename; when the blob was written under its own name
    at once, or renamed by a timer, after it was live. Failed when, in `Deduper._write`, the blobs were
    written before, or while, they were named; when `make_live` came before, or ran beside, their writing.
    """
    server = start_server()
    content = os.urandom(2 * MIB + 7)
    with traced(warmed_up(server), tmp_path) as trace:
        file_id = server.upload(content)["fileId"]
    read_back(server, file_id, content)
    namings = {change.chunk: change for change in chunk_changes(trace, "pending")}
    lives = {(change.chunk, change.query["gen"]): change for change in chunk_changes(trace, "live")}
    sizes = cut(content)
    assert namings.keys() == sizes.keys()
    assert len(lives) == len(sizes)
    for digest, naming in namings.items():
        (blob,) = naming.fields["blobs"]
        assert blob["gen"] == naming.fields["gen"]
        node = server.data_dir / "nodes" / blob["node"]
        assert_written_in_order(trace, node, naming, sizes[digest], lives[digest, blob["gen"]])


def test_an_upload_is_acknowledged_when_its_commit_is(start_server: StartServer, tmp_path: Path) -> None:
    """Failed when `Ledger.commit_files` did not wait for its transaction."""
    server = start_server()
    with traced(warmed_up(server), tmp_path) as trace:
        file_id = server.upload(os.urandom(MIB))["fileId"]
        # The commit is seen even if it comes too late.
        eventually(lambda: server.client.get(f"/api/files/{file_id}/info").status_code == 200)
    answer = trace.answer_to(commit_of(trace, file_id))
    assert answer.body["ok"] == 1
    assert "writeConcernError" not in answer.body
    created = [call for call in trace.calls if b"".join(call.strings).startswith(b"HTTP/1.1 201 ")]
    assert answer.ended < only("acknowledged", created).began, "acknowledged before the commit was"


def test_all_that_is_written_asks_for_a_journaled_majority(
    start_server: StartServer, databases: Databases, tmp_path: Path
) -> None:
    """Failed when the write concern of the database, and when that of transactions, was `j: false`, had
    no `j`, or was `w: 1` (then, for transactions, because a read did not see what was acknowledged)."""
    server = start_server(grace=0, gc_interval=1)
    content = os.urandom(2 * MIB + 7)
    with databases.client() as client:
        # The first run lists all nodes, which takes long while each call is written down.
        eventually(lambda: last_run(client[database_of(server)]))
    with traced(warmed_up(server), tmp_path) as trace, databases.client() as client:
        first, second = (server.upload(content)["fileId"] for _ in range(2))
        read_back(server, second, content)
        for file_id in (first, second):
            assert server.client.delete(f"/api/files/{file_id}").status_code == 204
        database = client[database_of(server)]
        eventually(lambda: not database["chunks"].count_documents({"_id": {"$in": list(cut(content))}}))
        await_run(database)
    requests = [message for message in trace.messages if message.sent]
    seen = set()
    for request in requests:
        command = next(iter(request.body))
        if command == "commitTransaction" or (command in WRITES and request.body.get("autocommit") is not False):
            concern = request.body.get("writeConcern", {})
            assert (concern.get("w"), concern.get("j")) == ("majority", True), request.body
            seen.add((command, request.body[command]))
    # Writers, the collector, and the transactions of both: none of it happened unseen.
    assert seen >= {("update", "chunks"), ("delete", "chunks"), ("update", "upkeep"), ("commitTransaction", 1)}
    inserted = {document["_id"] for request in requests for document in inserts(request, "files")}
    assert inserted == {ObjectId(first), ObjectId(second)}


def test_mongodb_syncs_its_journal_before_it_answers(start_server: StartServer, tmp_path: Path) -> None:
    """Failed when all writes were `w: 1, j: false`, and when transactions were `w: 1`. With `w: majority,
    j: false` it did not: a replica set calls a majority only what is journaled, unless told otherwise."""
    server = start_server(mongo_url="", redis_url="")
    warmed_up(server)
    with traced(mongod_of(server), tmp_path) as trace:
        file_ids = [server.upload(os.urandom(1000))["fileId"] for _ in range(10)]
    for request in [*(commit_of(trace, file_id) for file_id in file_ids), *made_live(trace)]:
        answer = trace.answer_to(request)
        assert answer.body["ok"] == 1
        within = [call for call in trace.calls if request.ended < call.began and (call.ended or 0) < answer.began]
        journal = [call for call in within if call.done and "/journal/WiredTigerLog." in call.path]
        written = min((call.end for call in journal if call.name in FILE_WRITES), default=answer.began)
        assert any(call.name in SYNCS and call.began > written for call in journal), request


def made_live(trace: Trace) -> Iterator[Message]:
    for change in chunk_changes(trace, "live"):
        assert trace.answer_to(change.message).body["nModified"] == 1
        yield change.message


def inserts(message: Message, collection: str) -> list[dict[str, Any]]:
    return message.body["documents"] if message.body.get("insert") == collection else []


def commit_of(trace: Trace, file_id: str) -> Message:
    """The message that commits the transaction in which the file is inserted; the last one, if it took several."""
    insert = [
        message
        for message in trace.messages
        if any(document["_id"] == ObjectId(file_id) for document in inserts(message, "files"))
    ][-1]
    return [
        message
        for message in trace.messages
        if "commitTransaction" in message.body
        and all(message.body[name] == insert.body[name] for name in ("lsid", "txnNumber"))
    ][-1]


def last_run(database: Database[dict[str, Any]]) -> Any:
    """When the collector ran last."""
    document = database["upkeep"].find_one({"_id": "collector"})
    last = document and document.get("last")
    return last and last["at"]


def await_run(database: Database[dict[str, Any]]) -> None:
    """Wait until a run of the collector has ended."""
    before = last_run(database)
    eventually(lambda: last_run(database) != before)


def database_of(server: Server) -> str:
    """The database that a server of `start_server` was given."""
    arguments = Path(f"/proc/{server.process.pid}/cmdline").read_text().split("\0")
    return arguments[arguments.index("--mongo-database") + 1]
