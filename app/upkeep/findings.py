"""What a check may find, in types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.models.tallies import Tally
from app.types import Blob, Digest, File, NodeId, PageId

Kind = Literal[
    "file-size",  # a file is not as long as its pages
    "page-missing",  # a file holds a page that there is not
    "page-damaged",  # a page does not hold what its id, or its file, says
    "page-released",  # a page that a file holds was released
    "page-refs",  # a page's count of files and uploads is wrong
    "chunk-missing",  # a page holds a chunk that has no document
    "chunk-lost",  # a page holds a chunk that what is left of it can't give back
    "chunk-copies",  # a chunk has fewer blobs than it is to have
    "chunk-dead",  # a page holds a chunk that is being removed
    "chunk-size",  # a chunk has another size than its page says
    "chunk-refs",  # a chunk's count of pages is wrong
    "blob-missing",  # a chunk names a blob that is not on its node
    "blob-size",  # a blob is longer or shorter than it must be
    "blob-wrong",  # a blob holds other bytes than it should
    "blob-unreadable",  # a node fails to read a blob
    "node-absent",  # a node does not answer: its blobs could not be looked at
    "unnamed-blob",  # a node holds a blob that no document names
    "totals",  # the statistics are not the sum of the documents
]

OF_BLOBS = ("blob-missing", "blob-size", "blob-wrong", "blob-unreadable")
HEALABLE = ("chunk-missing", "chunk-lost", "chunk-dead", "blob-missing", "blob-size", "blob-wrong")
"""Kinds that an upload of the same bytes heals, once a repair has called their chunks lost."""

UNREADABLE = ("page-missing", "page-damaged", "page-released", "chunk-missing", "chunk-lost", "chunk-dead", *OF_BLOBS)
"""Kinds for which bytes of files may be missing: nothing may be deleted while there is one of these."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. Of the places, those that it is about are given; `drift` is what must be
    added to a count, `size` the bytes concerned, `expected` the references of a chunk without document."""

    kind: Kind
    page: PageId | None = None
    digest: Digest | None = None
    blob: Blob | None = None
    node: NodeId | None = None
    file: File | None = None
    size: int = 0
    drift: int = 0
    expected: int = 0
    totals: Tally | None = None


@dataclass(slots=True)
class Report:
    """What was looked at, what was found, which files that touches, and which findings are mended."""

    files: int = 0
    pages: int = 0
    chunks: int = 0
    blobs: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    touched: list[File] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def left(self) -> list[Finding]:
        mended = set(map(id, self.mended))
        return [finding for finding in self.findings if id(finding) not in mended]
