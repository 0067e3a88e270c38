"""Work beside a block of code."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from app import background
from app.background import in_background
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio


async def test_it_has_ended_when_the_block_is_left() -> None:
    seen = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("ended")

    with capture_logs() as logged:
        async with in_background(work()):
            await asyncio.sleep(0)
            assert seen == ["begun"]
        assert seen == ["begun", "ended"]
    assert logged == []


async def test_its_failure_is_logged_at_once_and_raised_in_the_end() -> None:
    async def work() -> None:
        raise OSError("broken")

    with capture_logs() as logged, pytest.raises(OSError, match="broken"):
        async with in_background(work()):
            while not logged:
                await asyncio.sleep(0)
    assert [line["event"] for line in logged] == ["background work ended"]


async def test_a_cancellation_that_was_lost_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_AGAIN", 0.01)
    lost = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append("cancellation")
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE), in_background(work()):
        await asyncio.sleep(0)
    assert lost == ["cancellation"]
