"""Chunk documents by the thousand, of chunks whose blobs are nowhere: what measures the database needs no bytes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from bench.http import MIB

NODES = ("node1", "node2", "node3")
"""Those of the embedded default."""


def chunk_documents(count: int, refs: int = 0) -> Iterator[dict[str, Any]]:
    """Live chunks of 1 MiB with random digests, on these nodes."""
    for number in range(count):
        generation = secrets.token_hex(8)
        yield {
            "_id": os.urandom(32),
            "size": MIB,
            "state": "live",
            "gen": generation,
            "blobs": [{"node": NODES[number % 3], "gen": generation}],
            "refs": refs,
            "at": datetime(2020, 1, 1, tzinfo=UTC),
        }
