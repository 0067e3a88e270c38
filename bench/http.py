"""A client that costs little: whole files over HTTP in pieces of 1 MiB, and nothing kept of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

MIB = 1 << 20

_BOUNDARY = "mini-s3-bench-5a1c6e0d2f7b4938"
_OCTETS = "application/octet-stream"


class HttpError(Exception):
    """An answer that was not the expected one, or none."""


class Client:
    """Each call has a connection of its own, so threads may share a client. Proxies are not asked."""

    def __init__(self, url: str, timeout: float = 300) -> None:
        """`timeout`: seconds without a byte moving."""
        self._address = urlsplit(url).netloc
        self._timeout = timeout

    def read_json(self, path: str) -> Any:
        """Raises HttpError, OSError."""
        with closing(self._connect()) as connection:
            connection.request("GET", path)
            return _answer(connection, 200)

    def upload(self, name: str, size: int, pieces: Iterable[bytearray]) -> Any:
        """Send one file as a form and return the answer. `pieces` hold `size` bytes in all.

        A piece may be changed again as soon as the next one is asked for. Raises HttpError, OSError.
        """
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {_OCTETS}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        with closing(self._connect()) as connection:
            connection.putrequest("POST", "/api/upload")
            connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
            connection.putheader("Content-Length", str(len(head) + size + len(tail)))
            connection.endheaders()
            try:
                connection.send(head)
                for piece in pieces:
                    connection.send(piece)
                connection.send(tail)
            except (BrokenPipeError, ConnectionResetError) as error:
                # A server that refuses a body answers first and hangs up then: the answer says why.
                try:
                    return _answer(connection, 201)
                except (OSError, HTTPException):
                    raise error from None
            return _answer(connection, 201)

    def download(self, path: str) -> Iterator[bytearray]:
        """The body in blocks of 1 MiB, only the last one shorter.

        A block is overwritten when the next one is asked for. Raises HttpError (a body that ends too
        early included), OSError.
        """
        with closing(self._connect()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response)
            missing = int(response.headers["Content-Length"])
            block = bytearray(MIB)
            while missing:
                count = _fill(response, memoryview(block)[: min(missing, MIB)])
                missing -= count
                if count < MIB and missing:
                    raise HttpError(f"{path} ended {missing} bytes too early")
                yield block if count == MIB else block[:count]

    def _connect(self) -> HTTPConnection:
        return HTTPConnection(self._address, timeout=self._timeout)


def _fill(response: HTTPResponse, block: memoryview) -> int:
    """Read until `block` is full or the body ends; return how many bytes came."""
    filled = 0
    while filled < len(block):
        count = response.readinto(block[filled:])
        if count == 0:
            break
        filled += count
    return filled


def _answer(connection: HTTPConnection, expected: int) -> Any:
    response = connection.getresponse()
    if response.status != expected:
        raise _refusal(response)
    return json.loads(response.read())


def _refusal(response: HTTPResponse) -> HttpError:
    words = response.read(2000).decode(errors="replace")
    return HttpError(f"the server answered {response.status} {response.reason}: {words}")
