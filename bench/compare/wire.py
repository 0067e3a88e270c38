"""The same cheap client as bench.http, for objects: PUT from memory, GET into memory, POST of what comes between."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

from bench.http import HttpError

TIMEOUT = 300.0
"""Seconds without a byte moving."""


def put(address: str, path: str, size: int, pieces: Iterable[memoryview]) -> str:
    """Send one object in one request, `size` bytes in pieces; return its ETag. Raises HttpError, OSError."""
    with closing(HTTPConnection(address, timeout=TIMEOUT)) as connection:
        connection.putrequest("PUT", path)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for piece in pieces:
            connection.send(piece)
        response = connection.getresponse()
        _read(response, f"PUT {path}")
        return response.headers["ETag"] or ""


def post(address: str, path: str, body: bytes = b"") -> bytes:
    """The body of the answer. Raises HttpError, OSError."""
    with closing(HTTPConnection(address, timeout=TIMEOUT)) as connection:
        connection.request("POST", path, body)
        return _read(connection.getresponse(), f"POST {path}")


def get(address: str, path: str, into: bytearray) -> None:
    """Receive a body that fills `into`, without copying it. Raises HttpError, OSError."""
    with closing(HTTPConnection(address, timeout=TIMEOUT)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        length = response.headers["Content-Length"]
        if response.status != 200 or int(length or -1) != len(into):
            words = response.read(500).decode(errors="replace") if response.status != 200 else f"{length} bytes"
            raise HttpError(f"GET {path} was answered {response.status}: {words}")
        view, filled = memoryview(into), 0
        while filled < len(into):
            count = response.readinto(view[filled : filled + (1 << 20)])
            if count == 0:
                raise HttpError(f"{path} ended {len(into) - filled} bytes too early")
            filled += count


def _read(response: HTTPResponse, request: str) -> bytes:
    """Raises HttpError if it is a refusal."""
    body = response.read()
    if response.status != 200:
        raise HttpError(f"{request} was answered {response.status}: {body[:2000].decode(errors='replace')}")
    return body
