"""A network that can be hurt: a TCP proxy in a thread of its own, for measurements and tests.

What is cut off is held, not thrown away, as a network does for which both ends send again: it arrives when the
way is open again, unless an end gave up meanwhile. Connections are taken all the time.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_PIECE = 64 << 10
_UNDER_WAY = 16
"""Pieces held in each direction of a connection; then the sender has to wait."""


class _Way:
    """One direction."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.open = asyncio.Event()
        self.open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the sender is done, or an end is gone."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
        taking = asyncio.create_task(self._take(reader, queue))
        try:
            with suppress(OSError):
                await self._deliver(queue, writer)
        finally:
            taking.cancel()
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(_PIECE)
            except OSError:
                data = b""
            await queue.put((asyncio.get_running_loop().time() + self.delay, data))

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self.open.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


class Proxy:
    """Stands between callers and a server of this machine."""

    def __init__(self, port: int) -> None:
        """`port` is that of the server."""
        self._port = port
        self._sent, self._answered = _Way(), _Way()
        self._carried: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, *, sent: bool = True, answered: bool = True) -> None:
        """From now on what callers sent does not arrive, nor what they are answered."""
        for way, concerned in ((self._sent, sent), (self._answered, answered)):
            if concerned:
                self._loop.call_soon_threadsafe(way.open.clear)

    def slow(self, seconds: float) -> None:
        """Each way lasts so long."""
        self._sent.delay = self._answered.delay = seconds

    def restore(self) -> None:
        self.slow(0)
        for way in (self._sent, self._answered):
            self._loop.call_soon_threadsafe(way.open.set)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carried.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(
                self._sent.carry(reader, there_writer),
                self._answered.carry(there_reader, writer),
            )
        except (OSError, asyncio.CancelledError):
            writer.close()
        finally:
            self._carried.discard(task)

    async def _end(self) -> None:
        self._server.close()
        carried = list(self._carried)
        for task in carried:
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)
