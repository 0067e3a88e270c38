"""A node that is a directory of this machine.

Blobs lie at `<ab>/<digest>.<generation>`, where `ab` is the digest's first byte; the 256 folders
are made when the node is initialised. Bad blobs are put aside into `quarantine`. Calls run in a few
threads of the node's own, so that one disk that hangs holds up no other.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

from app.errors import BlobMissing, NodeError, NodeFull
from app.nodes.base import Node, Space, Stored
from app.nodes.durable import TEMPORARY, make_directory, sync_directory, unfinished, write_durably
from app.nodes.reading import Reader
from app.types import Blob, NodeId

T = TypeVar("T")

IDENTITY = "node.json"
"""The file that says which node a directory is. Where it is gone, the disk is."""
QUARANTINE = "quarantine"

_THREADS = 4
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryNode(Node):
    def __init__(self, node_id: NodeId, directory: Path) -> None:
        self.id = node_id
        self._directory = directory
        self._reader = Reader()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"node-{node_id}")

    def path(self, blob: Blob) -> Path:
        return self._directory / f"{blob.digest[0]:02x}" / blob.name

    async def write(self, blob: Blob, data: bytes | memoryview) -> None:
        await self._run(lambda: write_durably(self.path(blob), data))

    async def read_into(self, blob: Blob, buffer: memoryview) -> None:
        await self._run(lambda: self._reader.fill(self.path(blob), buffer))

    async def unlink(self, blobs: Sequence[Blob]) -> None:
        await self._run(lambda: self._unlink(blobs))

    def _unlink(self, blobs: Sequence[Blob]) -> None:
        absent = None
        for blob in blobs:
            path = self.path(blob)
            for name in (path, unfinished(path)):
                try:
                    os.unlink(name)  # noqa: PTH108 - a million of them at a time
                except FileNotFoundError as error:
                    absent = error
        if absent:
            with suppress(BlobMissing):
                self._explain(absent)

    async def list_blobs(self, first_byte: int) -> list[Stored]:
        folder = self._directory / f"{first_byte:02x}"
        return await self._run(lambda: list(_listed(self.id, folder)))

    async def quarantine(self, blob: Blob) -> None:
        folder = self._directory / QUARANTINE

        def put_aside() -> None:
            self.path(blob).stat()  # Nothing is made where there is nothing to put aside, or no disk.
            make_directory(folder)
            self.path(blob).rename(folder / blob.name)
            sync_directory(folder)

        with suppress(BlobMissing):
            await self._run(put_aside)

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
            self._explain(error)
        except OSError as error:
            kind = NodeFull if error.errno in _FULL else NodeError
            raise kind(f"{self.id}: {error.strerror} ({error.filename or self._directory})") from error

    def _explain(self, error: FileNotFoundError) -> NoReturn:
        # A disk that is gone is no proof that its blobs are.
        if not os.access(self._directory / IDENTITY, os.F_OK):
            raise NodeError(f"{self.id}: {self._directory} is not there. Is its disk mounted?") from error
        raise BlobMissing(f"{error.filename} is missing on {self.id}") from error


def _listed(node: NodeId, folder: Path) -> Iterator[Stored]:
    with os.scandir(folder) as entries:
        for entry in entries:
            blob = Blob.parse(node, entry.name.removeprefix(TEMPORARY))
            if blob:
                with suppress(FileNotFoundError):
                    yield Stored(blob, entry.stat(follow_symlinks=False).st_size, blob.name == entry.name)
