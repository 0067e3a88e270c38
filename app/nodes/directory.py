"""A node that is a directory of this machine.

Blobs lie at `<ab>/<digest>.<generation>`, where `ab` is the digest's first byte; the 256 folders
are made when the node is initialised. Calls run in a few threads of the node's own, so that one
disk that hangs holds up no other.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from app.errors import BlobDamaged, BlobMissing, NodeError, NodeFull
from app.nodes.base import Node, Space
from app.nodes.durable import write_durably
from app.nodes.identity import IDENTITY
from app.types import Blob, NodeId

T = TypeVar("T")

_THREADS = 4
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryNode(Node):
    def __init__(self, node_id: NodeId, directory: Path) -> None:
        self.id = node_id
        self._directory = directory
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"node-{node_id}")

    def path(self, blob: Blob) -> Path:
        return self._directory / f"{blob.digest[0]:02x}" / blob.name

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await self._run(lambda: write_durably(self.path(blob), data))

    async def read(self, blob: Blob, size: int) -> bytes:
        return await self._run(lambda: _read_exactly(self.path(blob), size))

    async def unlink(self, blob: Blob) -> None:
        with suppress(BlobMissing):
            await self._run(self.path(blob).unlink)

    async def space(self) -> Space:
        usage = await self._run(lambda: shutil.disk_usage(self._directory))
        return Space(usage.free, usage.total)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._translated, call)

    def _translated(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except FileNotFoundError as error:
            # A disk that is gone is no proof that its blobs are.
            if not os.access(self._directory / IDENTITY, os.F_OK):
                raise NodeError(f"{self.id}: {self._directory} is not there. Is its disk mounted?") from error
            raise BlobMissing(f"{error.filename} is missing on {self.id}") from error
        except OSError as error:
            kind = NodeFull if error.errno in _FULL else NodeError
            raise kind(f"{self.id}: {error.strerror} ({error.filename or self._directory})") from error


def _read_exactly(path: Path, size: int) -> bytes:
    """Raises BlobDamaged where the file is longer or shorter than `size`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        actual = os.fstat(descriptor).st_size
        data = os.read(descriptor, size) if actual == size else b""
    finally:
        os.close(descriptor)
    if actual != size or len(data) != size:
        raise BlobDamaged(f"{path} has {actual} bytes instead of {size}")
    return data
