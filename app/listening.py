"""Sockets that servers listen on."""

from __future__ import annotations

import ipaddress
import socket

from app.errors import ConfigError


def bind(host: str, port: int) -> socket.socket:
    """Raises ConfigError where the address can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"Mini-S3 can't listen on {host}:{port}: {error.strerror}. Choose another with --host and --port."
        ) from error
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Where it is reached."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    host: str = listener.getsockname()[0]
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
