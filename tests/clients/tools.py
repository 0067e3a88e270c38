"""What the tests of stock clients share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.s3.conftest import ROOT
from tests.support import Server, eventually

MIB = 1 << 20
PATIENCE = 120.0


@dataclass(frozen=True)
class Stock:
    """Clients of a bucket. They know the server, the region and the keys from their environment, have an empty home,
    and find nothing that belongs to the user."""

    server: Server
    bucket: str
    home: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        access, secret = ROOT
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "NO_PROXY": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.server.s3_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.server.s3_url,
            "RESTIC_REPOSITORY": f"s3:{self.server.s3_url}/{self.bucket}/restic",
            "RESTIC_PASSWORD": "of the tests",
        }

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    def start(self, *command: object) -> subprocess.Popen[str]:
        """Start a client; its standard error goes with its output."""
        process = subprocess.Popen(
            list(map(str, command)),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """No client outlives its test."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def run(self, *command: object) -> str:
        """Run a client, which must succeed; what it said."""
        code, said = finished(self.start(*command))
        assert code == 0, f"{' '.join(map(str, command))}\n{said}"
        return said

    def aws(self, *words: object) -> str:
        return self.run(sys.executable, "-m", "awscli", *words)

    def program(self, name: str) -> str:
        found = shutil.which(name, path=self.environment["PATH"])
        if found is None:
            pytest.fail(f"{name} is missing. Install it with apt-get install {name}.")
        return found


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what was said."""
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def kill_worker(server: Server) -> None:
    """What serves dies as by a crash; another process takes its place, at the same address."""
    before = eventually(server.worker_pids)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(server.worker_pids()) - set(before))


def keys_in(client: Any, bucket: str, prefix: str = "") -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [one["Key"] for page in pages for one in page.get("Contents", ())]
