"""The client for programs without an event loop: the same calls, which wait. Each is made from its original here, so
that there is one description of it."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from app.client.client import JOBS, PATIENCE, Client

P = ParamSpec("P")
T = TypeVar("T")


def _waiting(
    call: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    @functools.wraps(call)
    def waiting(self: BlockingClient, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._client, *args, **kwargs))

    return cast("Callable[Concatenate[BlockingClient, P], T]", waiting)


def _iterating(
    call: Callable[Concatenate[Client, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[BlockingClient, P], Iterator[T]]:
    @functools.wraps(call)
    def iterating(self: BlockingClient, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = call(self._client, *args, **kwargs)

        async def following() -> T:
            return await anext(items, _END)

        try:
            while (item := self._run(following())) is not _END:
                yield item
        finally:
            self._run(items.aclose())

    return cast("Callable[Concatenate[BlockingClient, P], Iterator[T]]", iterating)


_END: Any = object()


class BlockingClient:
    """As `Client`, whose event loop runs in a thread. To be used by one thread at a time, and closed."""

    def __init__(
        self,
        url: str,
        keys: tuple[str, str] = ("", ""),
        *,
        jobs: int = JOBS,
        patience: float = PATIENCE,
        cache: Path | None = None,
    ) -> None:
        self._client = Client(url, keys, jobs=jobs, patience=patience, cache=cache)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mini-s3-client", daemon=True)
        self._thread.start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Where the waiting was broken off, the work is too.
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    put = _waiting(Client.put)
    put_all = _waiting(Client.put_all)
    put_bytes = _waiting(Client.put_bytes)
    get = _waiting(Client.get)
    get_bytes = _waiting(Client.get_bytes)
    stream = _iterating(Client.stream)
    files = _iterating(Client.files)
    info = _waiting(Client.info)
    manifest = _waiting(Client.manifest)
    find = _waiting(Client.find)
    named = _waiting(Client.named)
    delete = _waiting(Client.delete)
    content_id = _waiting(Client.content_id)
    statistics = _waiting(Client.statistics)
    ping = _waiting(Client.ping)
