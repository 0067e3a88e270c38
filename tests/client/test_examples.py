"""The examples in the README do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3.conftest import ROOT
from tests.support import Server

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHOWN = [
    r"[0-9a-f]{24} 2000000 bytes sent, 0 spared\nbackup\.tar 2000000 20\d\d-.*\n",
    r"b'hello'\nnot-found There is no file with this id\.\n",
    r"(?s)(?=.*\bbackup\.tar is stored\n)(?=.*folder is no regular file\.\n).*\n2000000 bytes were sent\n",
]


def test_there_are_so_many() -> None:
    assert len(EXAMPLES) == len(SHOWN)


@pytest.mark.parametrize(
    ("example", "shown"), list(zip(EXAMPLES, SHOWN, strict=False)), ids=["async", "blocking", "many"]
)
def test_an_example(store_server: Server, tmp_path: Path, example: str, shown: str) -> None:
    work = tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    content = os.urandom(2_000_000)
    (work / "backup.tar").write_bytes(content)
    program = example.replace("http://127.0.0.1:3000", store_server.url).replace('"KEY", "SECRET"', f"{ROOT}"[1:-1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=work,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(shown, done.stdout), done.stdout
    if (work / "restored.tar").exists():
        assert (work / "restored.tar").read_bytes() == content
