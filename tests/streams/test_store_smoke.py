from __future__ import annotations

import os

import pytest

from tests.conftest import OpenStore

pytestmark = pytest.mark.anyio


async def test_put_get(open_store: OpenStore) -> None:
    content = os.urandom(3_000_000)
    async with open_store() as parts:
        async with parts.store.upload() as ingest:
            await ingest.begin_file("a", "text/plain")
            await ingest.write(content)
            await ingest.end_file()
            receipt = await ingest.commit()
        file = receipt.files[0]
        got = b"".join([bytes(p) async for p in parts.store.read(file, 0, file.size)])
        assert got == content
