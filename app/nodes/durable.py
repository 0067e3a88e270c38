"""A file that is whole and on the disk, or not there: rule R6 on a local file system."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from app.faults import passed

TEMPORARY = ".tmp-"
"""How names of unfinished files begin."""

DIRECT = getattr(os, "O_DIRECT", 0)
"""The flag for reading and writing past the kernel's cache; 0 where the system knows none."""

ALIGNED = 4096
"""Bytes of which sizes and addresses must be multiples to be read or written so."""


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
            _write_all(descriptor, data)
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


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write past the page cache where file system and data allow it: what is written once, and synced
    at once, would only be copied there, and push out what is read often."""
    direct = len(data) % ALIGNED == 0 and _set_direct(descriptor, on=True)
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            if not direct or error.errno != errno.EINVAL:
                raise
            direct = _set_direct(descriptor, on=False)


def _set_direct(descriptor: int, *, on: bool) -> bool:
    """Whether the file is written past the page cache now. Some file systems can't do that."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~DIRECT
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | (DIRECT if on else 0))
        return on and bool(DIRECT)
    return False


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
