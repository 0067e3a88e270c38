"""A file that is whole and on the disk, or not there: rule R6 on a local file system."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from app.faults import passed

TEMPORARY = ".tmp-"
"""How names of unfinished files begin."""


def unfinished(path: Path) -> Path:
    """The temporary name under which `path` is written."""
    return path.with_name(TEMPORARY + path.name)


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Write a new file: temporary name, fdatasync, rename, sync of the directory.

    Raises OSError; then neither name exists, unless the process or the disk died.
    """
    temporary = left = unfinished(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        passed("blob-begun")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        left = path
        passed("blob-renamed")
        sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            left.unlink()
        raise


def make_directory(directory: Path) -> None:
    """Make a directory, and the parents that it lacks, durably. Raises OSError."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
