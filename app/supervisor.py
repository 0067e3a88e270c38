"""The process that `mini-s3 serve` is: it binds the port, starts the embedded databases and the
workers, starts again what dies, and ends everything in order.

It has one thread and few imports; all work on requests is done by the workers (`app.server`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from tempfile import TemporaryDirectory

from app.embedded.child import Child, Program
from app.embedded.services import EmbeddedServices
from app.listening import bind, is_local, url_of
from app.settings import Settings
from app.store.credentials import completed

_GRACE = 5.0
"""Seconds that a worker gets to close its parts beyond those that its requests get."""

READY, OPEN = b"R", b"O"
"""What a worker reports when it serves: those who have keys, or everybody. Anything else is the reason why it does
not."""

_OPEN_MEANS = "There are no access keys: everybody on this machine may do everything. With --auth yes it asks for one."


async def supervise(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the server until SIGTERM or SIGINT. Raises ConfigError where it can't start."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        listeners = [stack.enter_context(bind(settings.host, settings.port))]
        if settings.s3_port >= 0:
            listeners.append(stack.enter_context(bind(settings.host, settings.s3_port)))
        services = EmbeddedServices(settings)
        starting = asyncio.ensure_future(_start(settings, services, listeners, stack, say))
        asked_to_stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait([starting, asked_to_stop], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return
        is_open = starting.result()
        say(f"Mini-S3 is listening on {url_of(listeners[0])}")
        for listener in listeners[1:]:
            say(f"Its S3 API is listening on {url_of(listener)}")
        if is_open:
            say(_OPEN_MEANS)
        await asked_to_stop


async def _start(
    settings: Settings,
    services: EmbeddedServices,
    listeners: Sequence[socket.socket],
    stack: AsyncExitStack,
    say: Callable[[str], None],
) -> bool:
    """Start the databases, then the workers; `stack` ends them the other way round. True if everybody may do
    everything there."""
    await stack.enter_async_context(services)
    settings, made = completed(settings)
    if made:
        say(f"Root access key: {made.access_key}\nRoot secret key: {made.secret}")
        say(f"They are shown this once, and kept in {settings.data_dir / 'root.key'}")
    metrics = stack.enter_context(TemporaryDirectory(prefix="mini-s3-metrics-", dir=services.runtime_dir))
    reports = [_Report() for _ in range(settings.workers)]
    workers = [
        Child(_worker(number, settings, services, listeners, metrics, report), on_spawn=services.record)
        for number, report in enumerate(reports, 1)
    ]

    async def stop_all() -> None:
        for listener in listeners:
            listener.close()
        await asyncio.gather(*(worker.stop() for worker in workers))

    stack.push_async_callback(stop_all)
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.start())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return any(report.listen() == OPEN for report in reports)


class _Report:
    """What a worker says of itself: that it serves, or why it does not."""

    def __init__(self) -> None:
        self._heard, self.descriptor = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._news = b""

    def listen(self) -> bytes:
        with suppress(BlockingIOError):
            self._news = os.read(self._heard, 4096) or self._news
        return self._news

    def ready(self) -> bool:
        return self.listen() in (READY, OPEN)

    def explain(self, _code: int | None, _words: str) -> str:
        return self.listen().decode(errors="replace")


def _worker(
    number: int,
    settings: Settings,
    services: EmbeddedServices,
    listeners: Sequence[socket.socket],
    metrics: str,
    report: _Report,
) -> Program:
    descriptors = [report.descriptor, *(listener.fileno() for listener in listeners)]
    assignment = {
        "settings": settings.model_dump(mode="json"),
        "mongo_url": services.mongo_url,
        "mongo_initiate": services.mongo_initiate,
        "redis_url": services.redis_url,
        "local": all(map(is_local, listeners)),
    }
    return Program(
        name=f"worker {number}",
        command=(sys.executable, "-m", "app.worker", *map(str, descriptors)),
        ready=report.ready,
        stop_patience=settings.shutdown_timeout + _GRACE,
        if_we_die=signal.SIGKILL,
        env={"MINI_S3_ASSIGNMENT": json.dumps(assignment), "PROMETHEUS_MULTIPROC_DIR": metrics},
        pass_fds=tuple(descriptors),
        explain=report.explain,
    )
