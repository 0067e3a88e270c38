"""The least that any server can do: `python -m bench.compare.trivial PORT` answers every request with "ok".

What the load generator reaches against it is the generator's own ceiling.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Trivial(asyncio.Protocol):
    """Reads a request with a Content-Length, answers, and keeps the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind
        self._got = bytearray()

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        _, _, after = self._got[:end].partition(b"Content-Length: ")
        length = int(after.split(b"\r", 1)[0] or 0)
        if len(self._got) >= end + 4 + length:
            self._got.clear()
            self._transport.write(_ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
