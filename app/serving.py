"""How ASGI applications are served: uvicorn, as gateways and node servers run it."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import uvicorn
from starlette.types import ASGIApp

from app.errors import ConfigError
from app.settings import Settings

T = TypeVar("T")

KEEP_ALIVE = 5
"""Seconds that a connection may be idle between two requests."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise signals again once it has stopped, and so end the process before its parts are closed."""
        yield


async def serve_together(
    faces: Sequence[tuple[uvicorn.Config, socket.socket]], on_started: Callable[[], object]
) -> None:
    """Serve each application on its listener until SIGTERM or SIGINT. `on_started` is called once all of them do."""
    waiting = len(faces)

    def started() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            on_started()

    servers = [_Server(config, started) for config, _ in faces]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as group:
        for server, (_, listener) in zip(servers, faces, strict=True):
            group.create_task(server.serve(sockets=[listener]))


def configured(
    app: ASGIApp, settings: Settings, *, keep_alive: int = KEEP_ALIVE, tls: ssl.SSLContext | None = None
) -> uvicorn.Config:
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
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


def tls_with(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a server that shows this certificate, with its chain, and has its key; both files are PEM.

    Raises ConfigError where they can't be read, or are not what they should be.
    """
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}. Check --tls-cert and --tls-key.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a password must not make OpenSSL ask at the terminal for it.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            told = f"The key {key} does not belong to the certificate {certificate}. Name two that do."
        else:
            told = (
                f"{certificate} and {key} are no certificate and key that can be used ({error.reason or error}). "
                "Both must be in PEM format, and the key without a password."
            )
        raise ConfigError(told) from error
    return context


def run(work: Coroutine[None, None, T]) -> T:
    """Do the work in a loop of the kind that serves best; what it returns."""
    factory = uvicorn.Config(lambda: None, loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
