"""What the tests of tus clients share: tuspy, tus-js-client, and what they uploaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import Server

HERE = Path(__file__).parent
PATIENCE = 150.0


def node() -> str:
    """The program, when what it needs is there."""
    program = shutil.which("node")
    if program is None:
        pytest.fail("node is missing. Install it with apt-get install nodejs npm.")
    if not (HERE / "node_modules" / "tus-js-client").is_dir():
        pytest.fail(f"tus-js-client is missing. Install it with npm ci --prefix {HERE}.")
    return program


def start_js(server: Server, paths: Sequence[Path], **options: Any) -> subprocess.Popen[str]:
    """Begin to upload files with tus-js-client, all at the same time."""
    asked = {"endpoint": f"{server.url}/api/tus", "paths": list(map(str, paths)), "options": options}
    return subprocess.Popen(
        [node(), str(HERE / "tus_upload.js"), json.dumps(asked)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
    )


def finished_js(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What became of each: its `path`, `url`, `fileId` and `interruptions`."""
    said, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, wrong
    uploads: list[dict[str, Any]] = json.loads(said)
    return uploads
