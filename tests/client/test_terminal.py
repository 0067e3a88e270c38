"""The commands as people meet them: on a terminal, interrupted, through pipes, and while a server restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pexpect
import pytest

from bench.proxy import Proxy
from tests.client.tools import MIB, written
from tests.conftest import StartServer
from tests.s3.conftest import ROOT
from tests.support import PATIENCE, Server, eventually

COMMAND = [sys.executable, "-m", "app"]
PART = 16 * MIB
"""Bytes that are sent in one request, and kept when it is done."""


@pytest.fixture
def slow(store_server: Server) -> Iterator[Proxy]:
    """A way to the server that takes its time."""
    with closing(Proxy(urlsplit(store_server.url).port or 0)) as proxy:
        proxy.slow(0.05)
        yield proxy


def environment(home: Path, url: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MINI_S3_")}
    keys = {"MINI_S3_URL": url, "MINI_S3_ACCESS_KEY": ROOT[0], "MINI_S3_SECRET_KEY": ROOT[1]}
    return {**ours, **keys, "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home), "TERM": "xterm"}


def on_terminal(home: Path, url: str, *words: object) -> Any:
    command, *rest = [*COMMAND, *map(str, words)]
    return pexpect.spawn(
        command, rest, env=environment(home, url), timeout=PATIENCE, dimensions=(24, 140), encoding="utf-8"
    )


def ended(terminal: Any) -> str:
    """What was shown until the end."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    shown: str = terminal.before
    return shown


def received(server: Server, name: str) -> int:
    """Bytes that open uploads of this name have sent in whole parts."""
    sessions = server.client.get("/api/uploads", auth=ROOT).json()["uploads"]
    return sum(
        server.client.get(f"/api/uploads/{one['id']}", auth=ROOT).json().get("received", 0)
        for one in sessions
        if one["name"] == name
    )


def content_of(server: Server, file_id: str) -> bytes:
    return server.client.get(f"/api/files/{file_id}", auth=ROOT).content


def test_progress_on_a_terminal_and_ctrl_c(store_server: Server, slow: Proxy, prefix: str, tmp_path: Path) -> None:
    content = os.urandom(4 * PART)
    path = written(tmp_path / "large.bin", content)
    words = ("put", path, "--prefix", prefix, "--jobs", 1)
    terminal = on_terminal(tmp_path, slow.url, *words)
    terminal.expect(r"in all.* of 64\.0 MiB")
    terminal.expect(r"large\.bin.* of 64\.0 MiB +[\d.]+ [MK]iB/s .*\n.*sent [\d.]+ [MK]iB, deduplicated 0 B")
    eventually(lambda: received(store_server, prefix + "large.bin") >= PART)
    slow.cut()
    terminal.sendintr()
    terminal.expect("Interrupted. .*The same command goes on in the middle of large files")
    ended(terminal)
    assert (terminal.exitstatus, terminal.signalstatus) == (130, None)
    slow.restore()
    done = subprocess.run(
        [*COMMAND, *map(str, words), "--json"], env=environment(tmp_path, slow.url), capture_output=True, check=True
    )
    (view,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert view["sent"] <= 3 * PART
    assert content_of(store_server, view["id"]) == content


def test_a_download_that_is_interrupted(store_server: Server, slow: Proxy, prefix: str, tmp_path: Path) -> None:
    content = os.urandom(3 * PART)
    answer = store_server.client.post("/api/upload", files={"file": (prefix + "a", content)}, auth=ROOT)
    target = tmp_path / "got"
    words = ("get", answer.json()["fileId"], "-o", target, "--jobs", 1)
    terminal = on_terminal(tmp_path, slow.url, *words)
    part = tmp_path / "got.part"
    eventually(lambda: part.exists() and part.read_bytes()[:PART] == content[:PART])
    terminal.sendintr()
    terminal.expect("Interrupted. The same command goes on with what came.")
    ended(terminal)
    assert terminal.exitstatus == 130
    assert not target.exists()
    slow.restore()
    shown = ended(on_terminal(tmp_path, slow.url, *words))
    assert re.search(r"48\.0 MiB: received (32|16)\.0 MiB, there already (16|32)\.0 MiB", shown), shown
    assert target.read_bytes() == content


def test_in_a_pipe_there_are_plain_lines(store_server: Server, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    content = written(tmp_path / "tree" / "a", os.urandom(3 * MIB)).read_bytes()
    made = tmp_path / "x.tar"
    command = f"tar c -C {tmp_path} tree | tee {made} | {' '.join(COMMAND)} put - --name {prefix}x.tar --json"
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment(tmp_path, store_server.url), capture_output=True, check=True
    )
    view = json.loads(done.stdout)
    assert (view["contentType"], view["size"]) == ("application/x-tar", made.stat().st_size)
    assert content_of(store_server, view["id"]) == made.read_bytes()
    assert done.stderr.decode().startswith("Stored 1 file, 3.0 MiB: sent ")
    back = f"{' '.join(COMMAND)} get {view['id']} -o - | tar x -O tree/a"
    out = subprocess.run(
        ["/bin/sh", "-c", back], env=environment(tmp_path, store_server.url), capture_output=True, check=True
    )
    assert out.stdout == content
    enough = f"{' '.join(COMMAND)} get {view['id']} -o - | head -c 10"
    cut = subprocess.run(
        ["/bin/sh", "-c", enough], env=environment(tmp_path, store_server.url), capture_output=True, check=True
    )
    assert (cut.stdout, cut.stderr) == (made.read_bytes()[:10], b"")
    assert b"\x1b" not in done.stdout + done.stderr + out.stderr


def test_standard_input_that_never_ends_can_be_interrupted(store_server: Server, prefix: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "put", "-", "--name", prefix + "a"],
        env=environment(tmp_path, store_server.url),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(os.urandom(40 * MIB))
        process.stdin.flush()
        eventually(lambda: received(store_server, prefix + "a"))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == b"Interrupted. Nothing was stored.\n"


def test_a_server_that_is_killed_in_mid_transfer(start_server: StartServer, prefix: str, tmp_path: Path) -> None:
    """The command waits for the next one, and goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"root_access_key": ROOT[0], "root_secret_key": ROOT[1]}
    server = start_server(port=port, **keys)
    content = os.urandom(4 * PART)
    path = written(tmp_path / "large.bin", content)
    with closing(Proxy(port)) as proxy:
        proxy.slow(0.05)
        terminal = on_terminal(tmp_path, proxy.url, "put", path, "--jobs", 1, "--json")
        eventually(lambda: received(server, "large.bin") >= PART)
        server.kill()
        server = start_server(port=port, **keys)
        proxy.restore()
        shown = ended(terminal)
    assert terminal.exitstatus == 0, shown
    (found,) = re.findall(r'\{"path".*\}', shown)
    assert content_of(server, json.loads(found)["id"]) == content
    assert httpx.get(f"{server.url}/api/uploads", auth=ROOT, trust_env=False).json()["uploads"] == []
