"""Directories as sites of nodes: who is there, and how an empty one is made ready."""

from __future__ import annotations

import fcntl
import os
from asyncio import get_running_loop
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConfigError
from app.nodes.base import FOLDERS, Site
from app.nodes.directory import IDENTITY, DirectoryNode
from app.nodes.durable import TEMPORARY, make_directory, sync_directory, write_durably
from app.types import NodeId

FANOUT = tuple(f"{byte:02x}" for byte in range(FOLDERS))
_HARMLESS = {"lost+found", TEMPORARY + IDENTITY, *FANOUT}


class DirectorySite(Site):
    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self.location = self._directory.as_uri()
        # One that hangs takes no thread from others.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="site")

    @property
    def name(self) -> str:
        return self._directory.name

    async def identity(self) -> bytes | None:
        return await get_running_loop().run_in_executor(self._thread, self._read)

    async def claim(self, identity: bytes) -> bytes:
        return await get_running_loop().run_in_executor(self._thread, self._claim, identity)

    def open(self, node_id: NodeId) -> DirectoryNode:
        return DirectoryNode(node_id, self._directory)

    def _read(self) -> bytes | None:
        with self._usable():
            try:
                return (self._directory / IDENTITY).read_bytes()
            except FileNotFoundError:
                return None

    def _claim(self, identity: bytes) -> bytes:
        with self._usable():
            make_directory(self._directory)
            with self._alone():
                return self._read() or self._initialise(identity)

    def _initialise(self, identity: bytes) -> bytes:
        foreign = self._foreign()
        if foreign:
            raise ConfigError(
                f"The node directory {self._directory} is neither a node nor empty (it holds {foreign}). "
                "Name an empty one."
            )
        for name in FANOUT:
            (self._directory / name).mkdir(exist_ok=True)
        sync_directory(self._directory)
        # Written last: a directory with an identity is complete.
        write_durably(self._directory / IDENTITY, identity)
        sync_directory(self._directory.parent)
        return identity

    def _foreign(self) -> str | None:
        """Something in the directory that an initialisation does not leave there, even one broken off."""
        strange = {entry.name for entry in self._directory.iterdir()} - _HARMLESS
        blobs = (
            str(blob.relative_to(self._directory)) for name in FANOUT for blob in (self._directory / name).glob("*")
        )
        return min(strange) if strange else next(blobs, None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep two workers from initialising one directory at once."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"The node directory {self._directory} can't be used: {error.strerror}.") from error
