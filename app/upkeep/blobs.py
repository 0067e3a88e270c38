"""Do the nodes hold what the documents name, and nothing else?

Chunks and blobs are compared folder by folder, so that a listing serves all questions and memory
is bounded. The order of readings rules false alarms out: documents, then nodes, then those documents
again that did not fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from app.errors import NodeError
from app.models.chunk import Chunk
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.mending import Mending
from app.nodes.base import FOLDERS, Stored
from app.nodes.cluster import Cluster
from app.streams.hasher import Hasher
from app.streams.reader import ChunkReader, Verdict
from app.types import Blob, NodeId
from app.upkeep.findings import Finding, Kind, Report
from app.upkeep.pace import Progress

_BATCH = 16
"""Blobs read and hashed together."""

_KINDS: Mapping[Verdict, Kind] = {
    "missing": "blob-missing",
    "size": "blob-size",
    "wrong": "blob-wrong",
    "unreachable": "blob-unreadable",
}

_SECOND_LOOK = 1.0
"""Seconds that a live server gets to remove by itself what it has just named no more."""


class BlobAudit:
    """All calls raise DatabaseUnavailable."""

    def __init__(self, database: Database, cluster: Cluster, hasher: Hasher) -> None:
        self._chunks = Chunks(database)
        self._mending = Mending(database)
        self._cluster = cluster
        self._reader = ChunkReader(cluster, hasher, kept=_BATCH)
        self._absent: set[NodeId] = set()

    async def run(self, report: Report, progress: Progress, *, read_data: bool) -> None:
        """Add to the report what is wrong; with `read_data`, read every byte."""
        self._absent = set(self._cluster.absent)
        progress.stage("blobs, every byte" if read_data else "blobs", await self._chunks.count())
        unnamed: list[Blob] = []
        begun = monotonic()
        for first_byte in range(FOLDERS):
            unnamed += await self._folder(first_byte, report, progress, read_data=read_data)
        report.findings += [Finding("node-absent", node=node) for node in sorted(self._absent)]
        if unnamed:
            await asyncio.sleep(max(0.0, begun + _SECOND_LOOK - monotonic()))
            await self._look_again(unnamed, report)

    async def _folder(self, first_byte: int, report: Report, progress: Progress, *, read_data: bool) -> list[Blob]:
        """Audit one folder; return the blobs in it that no document names."""
        chunks = {chunk.digest: chunk async for some in self._chunks.stream(first_byte, first_byte) for chunk in some}
        stored = {found.blob: found for found in await self._list(first_byte)}
        await self._miss_new_nodes(chunks.values())
        suspects: list[Finding] = []
        sound: list[tuple[Blob, int]] = []
        for chunk in chunks.values():
            for blob in chunk.blobs if chunk.state == "live" else ():
                finding = self._judge(chunk, blob, stored.get(blob))
                if finding:
                    suspects.append(finding)
                elif blob in stored:
                    sound.append((blob, chunk.blob_size))
        if read_data:
            suspects += await self._read_all(sound, report, progress)
        unnamed = [blob for blob in stored if not _named(chunks.get(blob.digest), blob)]
        report.blobs += len(stored)
        if not read_data:
            progress.advance(len(chunks))
        return await self._confirm(suspects, unnamed, report)

    async def _miss_new_nodes(self, chunks: Iterable[Chunk]) -> None:
        """Blobs on a node that was added since we opened ours could not be looked at; those on one that
        was removed are missing."""
        named = {blob.node for chunk in chunks for blob in chunk.blobs}
        if unknown := named - set(self._cluster.node_ids) - self._absent:
            await self._cluster.look_again()
            self._absent |= {node for node in unknown if not self._cluster.is_removed(node)}

    def _judge(self, chunk: Chunk, blob: Blob, found: Stored | None) -> Finding | None:
        if blob.node in self._absent:
            return None
        if found is None or not found.finished:
            return Finding("blob-missing", digest=chunk.digest, blob=blob, size=chunk.blob_size)
        if found.size != chunk.blob_size:
            return Finding("blob-size", digest=chunk.digest, blob=blob, size=chunk.blob_size)
        return None

    async def _confirm(self, suspects: Sequence[Finding], unnamed: Sequence[Blob], report: Report) -> list[Blob]:
        """Report the suspects that stand a second reading of their documents; so for the unnamed ones."""
        digests = {finding.blob.digest for finding in suspects if finding.blob} | {blob.digest for blob in unnamed}
        if not digests:
            return []
        now = await self._mending.look_surely(digests)
        for finding in suspects:
            chunk = now.get(finding.blob.digest) if finding.blob else None
            if chunk and chunk.state == "live" and finding.blob in chunk.blobs:
                report.findings.append(finding)
        return [blob for blob in unnamed if not _named(now.get(blob.digest), blob)]

    async def _look_again(self, unnamed: Iterable[Blob], report: Report) -> None:
        """Report those that are still there: a live server removes what it names no more within moments."""
        unnamed = set(unnamed)
        for first_byte in sorted({blob.digest[0] for blob in unnamed}):
            for found in await self._list(first_byte):
                if found.blob in unnamed:
                    finding = Finding("unnamed-blob", blob=found.blob, size=found.size)
                    report.findings.append(finding)

    # Nodes

    async def _list(self, first_byte: int) -> list[Stored]:
        """What the nodes hold; those that do not answer are absent from now on."""
        nodes = [node for node in self._cluster.node_ids if node not in self._absent]
        listings = await asyncio.gather(
            *(self._cluster.list_blobs(node, first_byte) for node in nodes), return_exceptions=True
        )
        found: list[Stored] = []
        for node, listing in zip(nodes, listings, strict=True):
            if isinstance(listing, NodeError):
                self._absent.add(node)
            elif isinstance(listing, BaseException):
                raise listing
            else:
                found += listing
        return found

    async def _read_all(self, blobs: Sequence[tuple[Blob, int]], report: Report, progress: Progress) -> list[Finding]:
        suspects: list[Finding] = []
        for at in range(0, len(blobs), _BATCH):
            batch = blobs[at : at + _BATCH]
            for (blob, size), (verdict, _) in zip(batch, await self._reader.judge(batch), strict=True):
                if kind := _KINDS.get(verdict):
                    suspects.append(Finding(kind, digest=blob.digest, blob=blob, size=size))
                report.bytes += size
            progress.advance(len(batch))
        return suspects


def _named(chunk: Chunk | None, blob: Blob) -> bool:
    return chunk is not None and blob in chunk.named
