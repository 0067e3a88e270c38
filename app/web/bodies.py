"""Bodies of requests as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import UploadStalled


async def body_pieces(receive: Receive, idle_timeout: float) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises UploadStalled when nothing comes for too long, ClientDisconnect."""
    more = True
    while more:
        try:
            async with asyncio.timeout(idle_timeout):
                message = await receive()
        except TimeoutError:
            raise UploadStalled(f"Nothing of the body came for {idle_timeout:g} s. Send it again.") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)
