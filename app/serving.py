"""How ASGI applications are served: uvicorn, as gateways and node servers run it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from app.settings import Settings

KEEP_ALIVE = 5
"""Seconds that a connection may be idle between two requests."""


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals only ask the server to stop; uvicorn would raise them again once it has, and so
        end the process before its parts are closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def configured(app: ASGIApp, settings: Settings, *, keep_alive: int = KEEP_ALIVE) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        loop="uvloop",
        http="httptools",
        ws="none",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )


def run(work: Coroutine[None, None, None]) -> None:
    """Do the work in a loop of the kind that serves best."""
    factory = uvicorn.Config(lambda: None, loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)
