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

from app.models.chunk import redundancy_change, written_blobs
from app.types import (
    ONE_COPY,
    Blob,
    ChunkRef,
    ContentId,
    Digest,
    File,
    FileId,
    NodeId,
    Page,
    PageRef,
    Redundancy,
    Shard,
    new_generation,
)
from bench.http import MIB

BATCH = 10_000
"""Documents inserted in one call."""

_AT = datetime(2020, 1, 1, tzinfo=UTC)


def nodes_for(redundancy: Redundancy = ONE_COPY) -> list[NodeId]:
    """Those of the embedded default, or as many as it takes."""
    return [NodeId(f"node{number + 1}") for number in range(max(3, redundancy.total))]


def chunk_documents(count: int, refs: int = 0, redundancy: Redundancy = ONE_COPY) -> Iterator[dict[str, Any]]:
    """Live chunks of 1 MiB with random digests, on these nodes in turn."""
    kept, _ = redundancy_change(redundancy)
    nodes = nodes_for(redundancy)
    for number in range(count):
        digest = Digest(os.urandom(32))
        blobs = [
            Blob(
                nodes[(number + each) % len(nodes)],
                digest,
                new_generation(),
                Shard(each, Digest(os.urandom(32))) if redundancy.coded else None,
            )
            for each in range(redundancy.total)
        ]
        yield {
            "_id": digest,
            "size": MIB,
            "state": "live",
            "gen": blobs[0].generation,
            "blobs": written_blobs(blobs),
            "refs": refs,
            "at": _AT,
            **kept,
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
