"""A gateway, or a collector, whose clock is an hour off, forwards or backwards.

Ages are measured by MongoDB's clock alone, so nothing is lost, and nothing is kept for ever.

The clock is shifted by time-machine, from a `sitecustomize` that is loaded before everything else into
all processes of one server or command. It replaces what the C functions behind `time.time`,
`datetime.now` and their like return, so that types stay what they are and imports by name see it too;
the monotonic clock goes right, and MongoDB and Redis are not touched. Debian's libfaketime was tried
before: with the monotonic clock left alone, its `clock_nanosleep` makes each `time.sleep` fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.faults.test_power_cut import await_run, last_run
from tests.faults.tools import FORM, MIB, metric, paused_body, read_back
from tests.support import Databases, Server, blob_names, eventually

HOUR = 3600
FORWARDS_AND_BACKWARDS = pytest.mark.parametrize("shift", [HOUR, -HOUR], ids=["ahead", "behind"])
GRACE = HOUR
"""Whoever were to measure by a clock that is so far ahead would find everything old enough."""


SITECUSTOMIZE = """
import datetime, time_machine
time_machine.travel(datetime.timedelta(seconds={shift}), tick=True).start()
"""

Clock = Callable[[int], AbstractContextManager[None]]
"""Processes that are started inside have a clock that is so many seconds ahead."""


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    @contextmanager
    def shifted(shift: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as environment:
            if shift:
                folder = tmp_path / f"clock{shift:+d}"
                folder.mkdir(exist_ok=True)
                (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(shift=shift))
                environment.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
                seen = subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"], text=True)
                assert is_about(datetime.fromtimestamp(float(seen), UTC), shift), "Is time-machine installed?"
            yield

    return shifted


def is_about(moment: datetime, shift: int = 0) -> bool:
    """Whether it is now, by a clock that is so many seconds ahead."""
    return abs(moment - datetime.now(UTC) - timedelta(seconds=shift)) < timedelta(seconds=HOUR / 2)


StartShifted = Callable[..., Server]


@pytest.fixture
def start_shifted(start_server: StartServer, clock: Clock) -> StartShifted:
    """Starts a server whose clock is so many seconds ahead; settings by name."""

    def start(shift: int, **settings: Any) -> Server:
        with clock(shift):
            server = start_server(**settings)
        assert is_about(parsedate_to_datetime(server.client.get("/health").headers["date"]), shift)
        return server

    return start


def start_beside(start_server: StartServer, server: Server, directory: Path) -> Server:
    """A second gateway on the same nodes, with the right time."""
    nodes = sorted((server.data_dir / "nodes").iterdir())
    return start_server(data_dir=directory, nodes=",".join(map(str, nodes)))


def listed(server: Server) -> list[str]:
    """The ids of all files, two at a time."""
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = server.client.get("/api/files", params={"limit": 2, **after}).json()
        found += [file["id"] for file in page["files"]]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


def digests(*contents: bytes) -> set[str]:
    pieces = (content[at : at + MIB] for content in contents for at in range(0, len(content), MIB))
    return {hashlib.sha256(piece).hexdigest() for piece in pieces}


def stored(server: Server) -> set[str]:
    """The digests of which there are blobs."""
    return {name.partition(".")[0] for name in blob_names(server)}


def upload_around(server: Server, before: bytes, act: Any, after: bytes) -> str:
    """Upload a file; when the first sixteen chunks of it are stored, `act`."""

    def stored_then_act() -> None:
        eventually(lambda: digests(before[: 16 * MIB]) <= stored(server))
        act()

    answer = server.client.post("/api/upload", content=paused_body(before, stored_then_act, after), headers=FORM)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["fileId"])


@FORWARDS_AND_BACKWARDS
def test_a_gateway_whose_clock_is_off_works_beside_one_whose_is_right(
    start_server: StartServer, start_shifted: StartShifted, tmp_path: Path, shift: int
) -> None:
    wrong = start_shifted(shift)
    right = start_beside(start_server, wrong, tmp_path / "right")
    contents: dict[str, bytes] = {}
    for first, second in [(wrong, right), (right, wrong)]:
        content = os.urandom(3 * MIB + 100)
        upload, again = first.upload(content), second.upload(content)
        assert (upload["chunks"]["new"], again["chunks"]["new"]) == (4, 0)
        contents |= {upload["fileId"]: content, again["fileId"]: content}
    assert listed(right) == listed(wrong) == list(contents)[::-1], "the newest first, by the database's clock"
    content = os.urandom(20 * MIB)
    with ThreadPoolExecutor(6) as threads:
        overlapping = list(threads.map(lambda server: server.upload(content), [wrong, right] * 3))
    contents |= {upload["fileId"]: content for upload in overlapping}
    for server in (wrong, right):
        found = listed(server)
        assert len(found) == len(contents)
        assert set(found) == contents.keys()
        for file_id, content in contents.items():
            read_back(server, file_id, content)
    for server, other, file_id in [(wrong, right, next(iter(contents))), (right, wrong, overlapping[0]["fileId"])]:
        del contents[file_id]
        assert server.client.delete(f"/api/files/{file_id}").status_code == 204
        assert other.client.get(f"/api/files/{file_id}").status_code == 404
    for file_id, content in contents.items():
        read_back(wrong, file_id, content)
    assert set(listed(right)) == contents.keys()
    assert metric(wrong, "mini_s3_damage_found") == 0


@FORWARDS_AND_BACKWARDS
def test_one_gateway_lists_the_newest_first(start_shifted: StartShifted, shift: int) -> None:
    server = start_shifted(shift)
    uploaded = [server.upload(bytes([number]))["fileId"] for number in range(5)]
    assert listed(server) == uploaded[::-1]


@FORWARDS_AND_BACKWARDS
def test_a_server_whose_clock_is_off_collects_nothing_too_early(
    start_shifted: StartShifted, databases: Databases, shift: int
) -> None:
    """Failed, with a clock that was ahead, when `Database.now` gave the gateway's time; with one that was
    behind, when `make_live`, and when `release`, stamped chunks with it."""
    with databases.fresh() as name, databases.client() as client:
        server = start_shifted(shift, mongo_database=name, grace=GRACE, gc_interval=1)
        kept, gone, big = os.urandom(2 * MIB), os.urandom(2 * MIB), os.urandom(24 * MIB)
        kept_id, gone_id = (server.upload(content)["fileId"] for content in (kept, gone))
        assert server.client.delete(f"/api/files/{gone_id}").status_code == 204

        def collector_runs() -> None:
            before = blob_names(server)
            # The run that ends first may have begun before all that was there.
            await_run(client[name])
            await_run(client[name])
            assert blob_names(server) >= before

        big_id = upload_around(server, big[: 20 * MIB], collector_runs, big[20 * MIB :])
        assert stored(server) == digests(kept, gone, big)
        for file_id, content in [(kept_id, kept), (big_id, big)]:
            read_back(server, file_id, content)


def collect(databases: Databases, server: Server, name: str, grace: int) -> Any:
    """What `mini-s3 gc` did, which runs with the clock that is set here."""
    store = ["--mongo-url", databases.mongo_url, "--mongo-database", name, "--data-dir", str(server.data_dir)]
    done = subprocess.run(
        [sys.executable, "-m", "app", "gc", *store, "--grace", str(grace), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("servers", "collectors"),
    [(0, HOUR), (0, -HOUR), (HOUR, 0), (-HOUR, 0)],
    ids=["collector-ahead", "collector-behind", "server-ahead", "server-behind"],
)
def test_the_collector_knows_how_old_things_are_whatever_the_clocks_say(
    start_shifted: StartShifted, clock: Clock, databases: Databases, servers: int, collectors: int
) -> None:
    """Failed when `Database.now` gave the caller's time: the collector that was ahead took what was too
    young, the one that was behind left what was old enough. Failed when `make_live` stamped chunks with
    its own time, behind as the server was, and when `release` did, ahead or behind as the collector was.
    """
    with databases.fresh() as name:
        server = start_shifted(servers, mongo_database=name, gc_interval=0)
        kept, gone, big = os.urandom(3 * MIB), os.urandom(3 * MIB + 1), os.urandom(24 * MIB)
        kept_id, gone_id = (server.upload(content)["fileId"] for content in (kept, gone))
        assert server.client.delete(f"/api/files/{gone_id}").status_code == 204

        def collect_nothing() -> None:
            before = blob_names(server)
            with clock(collectors):
                done = collect(databases, server, name, GRACE)
            assert (done["chunksRemoved"], done["unnamedBlobsRemoved"], done["uploadsEnded"]) == (0, 0, 0)
            assert blob_names(server) >= before

        big_id = upload_around(server, big[: 20 * MIB], collect_nothing, big[20 * MIB :])
        with clock(collectors):
            done = collect(databases, server, name, 0)
        assert (done["chunksRemoved"], done["unnamedBlobsRemoved"], done["chunksLeft"]) == (4, 0, 0)
        with databases.client() as client:
            assert is_about(last_run(client[name]))
        assert stored(server) == digests(kept, big)
        for file_id, content in [(kept_id, kept), (big_id, big)]:
            read_back(server, file_id, content)
        assert listed(server) == [big_id, kept_id]
