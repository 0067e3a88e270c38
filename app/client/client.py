"""The client: the calls of the native API, and transfers of which only what is missing goes over the network."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self
from urllib.parse import quote

from app.client.downloads import Downloader
from app.client.errors import Ambiguous
from app.client.link import Account, Link, Request, Waiting
from app.client.manifests import manifest
from app.client.memory import Memory
from app.client.putting import Done, Putter, Wanted
from app.client.results import FileDetails, Span, Statistics, StoredFile, Upload
from app.client.watch import UNWATCHED, Watch
from app.errors import Forbidden, NotFound
from app.streams.hasher import Hasher
from app.types import ContentId

JOBS = 4
PATIENCE = 120.0

_PAGE = 1000
"""Files of one list."""
_FILE_ID = re.compile(r"[0-9a-f]{24}")


def _unheard(_error: Exception, _seconds: float) -> None: ...


class Client:
    """One account on one server, for the tasks of one event loop.

    Its calls raise MiniS3Error: what the server answered, or Unreachable. While the server is away they are tried
    again for `patience` seconds, if it was there before.
    """

    def __init__(
        self,
        url: str,
        keys: tuple[str, str] = ("", ""),
        *,
        jobs: int = JOBS,
        patience: float = PATIENCE,
        cache: Path | None = None,
        waiting: Waiting = _unheard,
    ) -> None:
        """`keys`: an access key and its secret; an open server asks for none. `jobs`: how many files, and bodies of
        requests, are on their way at the same time. `cache`: the file in which local files are remembered; without
        one, each upload reads all of its file. `waiting` hears of what will be tried again."""
        self._link = Link(Account(url, *keys), patience=patience, connections=2 * jobs, waiting=waiting)
        self._memory = Memory(cache) if cache else None
        self._hasher = Hasher()
        self._putter = Putter(self._link, self._hasher, self._memory, jobs)
        self._downloader = Downloader(self._link, self._hasher, jobs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._link.close()
        self._hasher.close()
        if self._memory:
            self._memory.close()

    async def put(
        self, path: str | os.PathLike[str], name: str = "", content_type: str = "", *, watch: Watch = UNWATCHED
    ) -> Upload:
        """Store a local file, under its own name if no other is given. Raises OSError too, FileChanged where it
        was written to meanwhile."""
        local = Path(path)
        return await self._putter.put(Wanted(local, name or local.name, content_type, watch))

    async def put_all(self, wanted: Iterable[Wanted], done: Done) -> None:
        """Store many local files, small ones together. `done` hears of each when it is over, in any order."""
        await self._putter.put_all(wanted, done)

    async def put_stream(
        self, pieces: AsyncIterable[bytes], name: str, content_type: str = "", *, watch: Watch = UNWATCHED
    ) -> Upload:
        """Store bytes as they come, of any number."""
        return await self._putter.put_stream(pieces, Wanted(Path(), name, content_type, watch))

    async def put_bytes(self, content: bytes, name: str, content_type: str = "") -> Upload:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield content

        return await self.put_stream(pieces(), name, content_type)

    async def get(
        self,
        file: StoredFile | str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        watch: Watch = UNWATCHED,
    ) -> StoredFile:
        """Write a file of the store, or the one with this id, to a local one; goes on with what an earlier call left
        in TARGET.part. Raises FileExists, and OSError."""
        found = await self._file(file)
        await self._downloader.to_file(found, Path(target), overwrite=overwrite, watch=watch)
        return found

    async def stream(self, file: StoredFile | str, *, watch: Watch = UNWATCHED) -> AsyncGenerator[memoryview, None]:
        """The bytes of a file, in their order, verified."""
        async with aclosing(self._downloader.stream(await self._file(file), watch)) as pieces:
            async for piece in pieces:
                yield piece

    async def get_bytes(self, file: StoredFile | str) -> bytes:
        return b"".join([piece async for piece in self.stream(file)])

    async def files(self, prefix: str = "") -> AsyncGenerator[StoredFile, None]:
        """The files whose names begin so, newest first."""
        after: str | None = ""
        while after is not None:
            query: dict[str, str | int] = {"limit": _PAGE, "name": prefix, "after": after}
            answer = await self._link.json(Request("GET", "/api/files", query))
            for view in answer["files"]:
                yield StoredFile.parse(view)
            after = answer["next"]

    async def info(self, file_id: str) -> FileDetails:
        return FileDetails.parse(await self._link.json(Request("GET", f"/api/files/{_id(file_id)}/info")))

    async def manifest(self, file: StoredFile | str) -> list[Span]:
        """The chunks of a file, in their order."""
        return await manifest(self._link, await self._file(file))

    async def find(self, name_or_id: str, *, newest: bool = False) -> StoredFile:
        """The file with this id, or the only one with this name; of several, the newest if that is wished.

        Raises NotFound and Ambiguous.
        """
        if _FILE_ID.fullmatch(name_or_id):
            with suppress(NotFound):  # It may be a name.
                return (await self.info(name_or_id)).file
        found = await self.named(name_or_id)
        if not found:
            raise NotFound(f"There is no file with the name or id {name_or_id!r}.")
        if len(found) > 1 and not newest:
            raise Ambiguous(name_or_id, found)
        return found[0]

    async def named(self, name: str) -> list[StoredFile]:
        """The files with this very name, newest first."""
        return [file async for file in self.files(name) if file.name == name]

    async def delete(self, file_id: str) -> None:
        await self._link.json(Request("DELETE", f"/api/files/{_id(file_id)}"))

    async def content_id(self, path: str | os.PathLike[str], *, watch: Watch = UNWATCHED) -> ContentId:
        """The content id of a local file, for which no server is asked. Raises OSError too, and FileChanged."""
        return await self._putter.content_id(Path(path), watch)

    async def statistics(self) -> Statistics:
        return Statistics.parse(await self._link.json(Request("GET", "/api/stats")))

    async def ping(self) -> float:
        """The seconds that the server took to say that it takes uploads. Raises Unavailable where it does not, and
        Unauthenticated where it does not know the key."""
        await self._link.json(Request("GET", "/health"))
        began = perf_counter()
        await self._link.json(Request("GET", "/ready"), repeat=False)
        seconds = perf_counter() - began
        with suppress(Forbidden):  # A key that may not list is a good one too.
            await self._link.json(Request("GET", "/api/files", {"limit": 1}))
        return seconds

    async def _file(self, file: StoredFile | str) -> StoredFile:
        return file if isinstance(file, StoredFile) else (await self.info(file)).file


def _id(file_id: str) -> str:
    return quote(file_id, safe="")
