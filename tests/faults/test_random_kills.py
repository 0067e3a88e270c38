"""Everything is killed at random moments, again and again, while clients upload and delete.

For 60 seconds; MINI_S3_TEST_KILL_SECONDS makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from app.embedded.data_dir import running
from tests.faults.crashing import Load, check_what_was_promised
from tests.faults.tools import GENEROUS
from tests.support import Server

SECONDS = float(os.environ.get("MINI_S3_TEST_KILL_SECONDS", "60"))


def kill_all(server: Server) -> None:
    """As when the machine dies: the supervisor, its workers and its databases."""
    state = running(server.data_dir)
    server.kill()
    for child in state.children.values() if state else ():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


@pytest.mark.timeout(SECONDS + 300)
def test_random_kills_lose_and_leak_nothing(tmp_path: Path) -> None:
    """Seen to fail as `test_crash_points` is."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    end = monotonic() + SECONDS
    load: Load | None = None
    kills = 0
    while monotonic() < end or kills < 5:
        server = Server(tmp_path, grace=0, gc_interval=0.5, **GENEROUS)
        load = load.on(server) if load else Load(server)
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(load.run, clients=8)
            with suppress(TimeoutError):
                working.result(dice.uniform(0.2, 4))
            kill_all(server)
        kills += 1
    assert load
    assert len(load.kept) + len(load.deleted) > kills
    server = Server(tmp_path, gc_interval=0, **GENEROUS)
    try:
        check_what_was_promised(load.on(server))
    finally:
        server.stop()
