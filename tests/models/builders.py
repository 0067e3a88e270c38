"""What the tests of the models build documents from, and how they count them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from app.models.chunk import Chunk, Naming
from app.models.chunks import Chunks
from app.models.database import Database, Document, Session
from app.models.files import new_file_id
from app.models.ledger import Hold, Ledger
from app.models.nodes import NodeEntry, Nodes
from app.models.objects import ANYHOW, Condition
from app.models.tallies import NodeTally, Tallies, Tally
from app.types import (
    UNLOCKED,
    Blob,
    ChunkRef,
    ContentId,
    Digest,
    Entry,
    File,
    Lock,
    NodeId,
    Page,
    PageRef,
    new_generation,
)

NODES = [NodeId("node1"), NodeId("node2")]


def digest_of(number: int) -> Digest:
    return Digest(hashlib.sha256(str(number).encode()).digest())


def naming(number: int, instead_of: Chunk | None = None) -> Naming:
    generation = new_generation()
    return Naming(10 + number, (Blob(NODES[number % 2], digest_of(number), generation),), generation, instead_of)


async def make_live(database: Database, *numbers: int) -> None:
    for node in NODES:
        await Nodes(database).register(NodeEntry(node, node, "file:///" + node))
    namings = [naming(number) for number in numbers]
    won = await Chunks(database).name(namings)
    assert await Chunks(database).make_live([one for one in namings if one.digest in won]) == won


def page_of(*numbers: int) -> Page:
    return Page.of([ChunkRef(digest_of(number), 10 + number) for number in numbers])


def file_of(*pages: Page, name: str = "f") -> File:
    refs = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
    now = datetime.now(UTC).replace(microsecond=0)
    size = sum(page.size for page in pages)
    return File(new_file_id(), name, size, "x/y", ContentId("0" * 64), now, "local", refs)


def object_of(bucket: str, key: str, *pages: Page, etag: str = "e", lock: Lock = UNLOCKED) -> File:
    return replace(file_of(*pages, name=key), entry=Entry(bucket, key, etag, lock=lock))


async def put_object(
    database: Database,
    bucket: str,
    key: str,
    *numbers: int,
    etag: str = "e",
    condition: Condition = ANYHOW,
    lock: Lock = UNLOCKED,
) -> File:
    """Commit an object of one page of these chunks, which are live, or of none."""
    pages = [page_of(*numbers)] if numbers else []
    wanted = object_of(bucket, key, *pages, etag=etag, lock=lock)
    (file,) = await Ledger(database).commit_files(Hold(), [wanted], pages, condition)
    return file


async def recount(database: Database) -> None:
    """Compare every sum with what the raw documents say, both as they are at one moment: others may be at work."""
    names = ("files", "uploads", "upload_parts", "pages", "chunks")

    async def read(session: Session) -> tuple[list[list[Document]], Tally]:
        documents = [await database[name].find({}, session=session) for name in names]
        return documents, await Tallies(database).read(session)

    (versions, uploads, parts, listed, chunks), tally = await database.transaction(read)
    files = [version for version in versions if not version.get("marker")]
    pages = {page["_id"]: page for page in listed}
    holders: Counter[Any] = Counter()
    for file in files:
        holders.update({page["id"] for page in file["pages"]})
    for upload in uploads:
        holders.update(upload["pages"])
    for part in parts:
        holders.update({page["id"] for page in part["pages"]})
    assert set(holders) <= set(pages)
    assert {page_id: page["refs"] for page_id, page in pages.items()} == {
        page_id: holders[page_id] for page_id in pages
    }
    counted: Counter[Any] = Counter()
    for page_id, page in pages.items():
        if page.get("released"):
            assert not page["refs"]
            continue
        counted.update({chunk.digest for chunk in Page.unpack(page_id, page["packed"]).chunks})
    assert {chunk["_id"]: chunk["refs"] for chunk in chunks} == {
        chunk["_id"]: counted[chunk["_id"]] for chunk in chunks
    }
    expected = Tally(files=len(files), logical=sum(file["size"] for file in files))
    for chunk in chunks:
        if chunk["refs"]:
            Chunk.read(chunk).count(expected)
    tally.nodes = {node: held for node, held in tally.nodes.items() if held != NodeTally()}
    assert tally == expected
