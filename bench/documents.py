"""Documents by the thousand, of chunks whose blobs are nowhere: what measures the database needs no bytes.

A test compares them with what the code itself writes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from app.types import ChunkRef, ContentId, File, FileId, Page, PageRef, new_generation
from bench.http import MIB

BATCH = 10_000
"""Documents inserted in one call."""

_AT = datetime(2020, 1, 1, tzinfo=UTC)


def chunk_documents(count: int, refs: int = 0, redundancy: str = "1") -> Iterator[dict[str, Any]]:
    """Live chunks of 1 MiB with random digests, so many copies of each or the parts of `ec:4+2`, in turn on
    the three nodes of the embedded default, or on as many as it takes."""
    needed, _, spare = redundancy.removeprefix("ec:").partition("+")
    blobs = int(needed) + int(spare or 0)
    for number in range(count):
        nodes = [f"node{(number + each) % max(3, blobs) + 1}" for each in range(blobs)]
        named: list[dict[str, Any]] = [{"node": node, "gen": new_generation()} for node in nodes]
        if spare:
            named = [blob | {"shard": at, "sum": os.urandom(32)} for at, blob in enumerate(named)]
        yield {
            "_id": os.urandom(32),
            "size": MIB,
            "state": "live",
            "gen": named[0]["gen"],
            **({"code": [int(needed), int(spare)]} if spare else {"copies": blobs}),
            "blobs": named,
            "refs": refs,
            "at": _AT,
        }


def page_of(documents: Iterable[dict[str, Any]]) -> Page:
    """The page that lists these chunks."""
    return Page.of([ChunkRef(document["_id"], document["size"]) for document in documents])


def file_of(file_id: FileId, name: str, pages: Iterable[Page], created_at: datetime) -> File:
    refs = tuple(PageRef(page.id, page.size, len(page.chunks)) for page in pages)
    size, content = sum(ref.size for ref in refs), ContentId(secrets.token_hex(32))
    return File(file_id, name, size, "application/octet-stream", content, created_at, "local", refs)


def batches(documents: Iterable[dict[str, Any]], size: int = BATCH) -> Iterator[list[dict[str, Any]]]:
    """In lists of at most `size`."""
    source = iter(documents)
    while batch := list(islice(source, size)):
        yield batch
