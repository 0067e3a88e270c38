"""Plain reads and writes on mongomock-motor: what needs no transaction, in milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient

from app.models.database import Collection
from app.models.nodes import NodeEntry, Nodes
from app.models.pages import Pages
from app.types import ChunkRef, Digest, NodeId, Page

pytestmark = pytest.mark.anyio


@pytest.fixture
def database() -> Any:
    """As `Database`, as far as plain calls go."""
    client = AsyncMongoMockClient()

    class Mock:
        def __getitem__(self, name: str) -> Collection:
            return Collection(client["test"][name])

    return Mock()


async def test_the_registry_remembers_where_a_node_was_last(database: Any) -> None:
    nodes = Nodes(database)
    await nodes.register(NodeEntry(NodeId("b"), "2", "http://b:8001"))
    await nodes.register(NodeEntry(NodeId("a"), "1", "/a"))
    await nodes.register(NodeEntry(NodeId("b"), "2", "file:///moved"))
    assert await nodes.entries() == [
        NodeEntry(NodeId("a"), "1", "file:///a"),
        NodeEntry(NodeId("b"), "2", "file:///moved"),
    ]


async def test_a_page_is_read_only_as_what_its_id_says(database: Any) -> None:
    page = Page.of([ChunkRef(Digest(b"d" * 32), 5)])
    await database["pages"].insert_one({"_id": page.id, "packed": page.pack(), "refs": 3})
    pages = Pages(database)
    assert await pages.read(page.id) == page
    assert await pages.refs([page.id]) == {page.id: 3}
    await database["pages"].update_one({"_id": page.id}, {"$set": {"packed": b"x" * 36}})
    assert await pages.read(page.id) is None
