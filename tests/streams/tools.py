"""What tests of uploads share."""

from __future__ import annotations

import asyncio

from app.api.app import Parts
from app.streams.ingest import Ingest, Receipt

MIB = 1 << 20


async def put(parts: Parts, *contents: bytes, piece: int = 100_000) -> Receipt:
    async with parts.store.upload() as upload:
        for number, content in enumerate(contents):
            await write(upload, content, piece, str(number))
        return await upload.commit()


async def write(upload: Ingest, content: bytes, piece: int = 100_000, name: str = "a") -> None:
    await upload.begin_file(name, "x/y")
    for start in range(0, len(content), piece):
        await upload.write(content[start : start + piece])
    await upload.end_file()


async def turns(number: int) -> None:
    """Let everything that is ready run so many times."""
    for _ in range(number):
        await asyncio.sleep(0)
