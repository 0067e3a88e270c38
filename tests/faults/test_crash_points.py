"""The server dies at each named point of the code in turn; nothing that was promised is lost.

At those that no server passes by itself within moments, of movers and of uploads that expire, actors
crash in `tests/interleavings`. Nodes are removed by a command: `tests/upkeep/test_membership.py`. Objects
expire after days: `tests/upkeep/test_expiring.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.faults import KILL_VARIABLE, POINTS, Point
from tests.conftest import StartServer
from tests.faults.crashing import Load, check_what_was_promised
from tests.faults.tools import transactions_end_after
from tests.support import Databases

OF_MOVERS = ("copy-named", "copied", "switched", "copy-dropped")
OF_COMMANDS = ("removal-begun", "removal-checked")
OF_COLLECTORS = ("page-half-released", "page-released", "unreferenced-seen", "claimed", "blobs-unlinked", "removed")
"""A collector gets to them sooner where less is going on. How it gets along with writers, interleavings show."""
OF_SESSIONS = ("part-begun", "part-committed")
"""See `test_session_crashes`."""
NEEDS_LITTER = ("unnamed-seen",)
"""Points of a sweep, which a server makes when it starts: it finds what an earlier crash left."""
OF_EXPIRY = ("upload-ended", "due-found", "expired")
PASSED = [point for point in POINTS if point not in (*OF_MOVERS, *OF_COMMANDS, *OF_SESSIONS, *OF_EXPIRY)]


@pytest.fixture(autouse=True)
def short_transactions(databases: Databases) -> Iterator[None]:
    with databases.client() as client, transactions_end_after(client, 2):
        yield


@pytest.mark.parametrize("point", PASSED)
def test_a_crash_at_any_point_loses_and_leaks_nothing(
    start_server: StartServer, databases: Databases, point: Point
) -> None:
    """Seen to fail without the picking-up of dead chunks (at `claimed`), and when an upload is answered
    before its commit (at `commit-half-done`)."""
    if point in NEEDS_LITTER:
        server = crash(start_server, "blob-renamed").server
        # The next collector would wait for half a minute until the lease of the dead one has run out.
        with databases.client() as client:
            client[server.mongo_database]["upkeep"].delete_one({"_id": "collector"})
    load = crash(start_server, point)
    server = start_server(gc_interval=0)
    check_what_was_promised(load.on(server))


def crash(start_server: StartServer, point: Point) -> Load:
    """A server under load that is killed at `point`, with all that belongs to it."""
    # The identities of the three nodes are written as blobs are.
    times = 4 if point in ("blob-begun", "blob-renamed") else 1
    server = start_server(grace=0, gc_interval=0.1, env={KILL_VARIABLE: f"{point}:{times}"})
    load = Load(server)
    load.run(clients=1 if point in OF_COLLECTORS else 3)
    server.kill()
    return load
