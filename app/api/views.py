"""The JSON shapes of the native API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from app.models.runs import Collected
from app.models.sessions import Gain, Part, UploadSession
from app.models.tasks import Task
from app.nodes.health import Health
from app.store.stats import Stats
from app.store.store import FileInfo, Listing, Manifest
from app.store.uploads import Made
from app.streams.ingest import Receipt
from app.types import File

View = dict[str, Any]


def instant(moment: datetime) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def file_view(file: File) -> View:
    place = {"bucket": file.entry.bucket, "key": file.entry.key} if file.entry and file.entry.bucket else {}
    return {
        "id": file.id,
        "name": file.name,
        "size": file.size,
        "contentType": file.content_type,
        "contentId": file.content_id,
        "createdAt": instant(file.created_at),
        **place,
    }


def receipt_view(receipt: Receipt) -> View:
    """Files that a form brought."""
    counts = receipt.counts
    saved = counts.received - counts.stored
    return _stored(receipt.files, counts.chunks, Gain(counts.received, counts.stored, counts.new), saved)


def made_view(made: Made) -> View:
    """The file that an upload session became: `received` is what came over the network, `saved` what of it needed no
    room of its own."""
    chunks = sum(page.chunks for page in made.file.pages)
    return _stored([made.file], chunks, made.gain, max(0, made.file.size - made.gain.stored))


def _stored(files: Sequence[File], chunks: int, gain: Gain, saved: int) -> View:
    views = list(map(file_view, files))
    new = min(chunks, gain.new)
    return {
        "success": True,
        "fileId": views[0]["id"],
        "file": views[0],
        "files": views,
        "chunks": {"total": chunks, "new": new, "linked": chunks - new},
        "bytes": {"received": gain.received, "stored": gain.stored, "saved": saved},
    }


def session_view(session: UploadSession, expires_at: datetime) -> View:
    return {
        "id": str(session.id),
        "name": session.entry.key,
        "contentType": session.content_type,
        "size": session.size,
        "createdAt": instant(session.created_at),
        "expiresAt": instant(expires_at),
        **({"fileId": session.done} if session.done else {}),
    }


def part_view(part: Part) -> View:
    return {"number": part.number, "size": part.size, "md5": part.sums.etag}


def listing_view(listing: Listing) -> View:
    return {
        "files": [file_view(file) for file in listing.files],
        "next": str(listing.next) if listing.next else None,
    }


def info_view(info: FileInfo) -> View:
    return {
        **file_view(info.file),
        "logicalBytes": info.file.size,
        "uniqueBytes": info.unique,
        "chunks": info.chunks,
    }


def manifest_view(manifest: Manifest) -> View:
    chunks = [
        {
            "index": placed.index,
            "offset": placed.offset,
            "digest": placed.ref.digest.hex(),
            "size": placed.ref.size,
            "nodes": list(placed.chunk.nodes) if placed.chunk else [],
            "redundancy": str(placed.chunk.redundancy) if placed.chunk else None,
        }
        for placed in manifest.chunks
    ]
    return {
        "fileId": manifest.file.id,
        "contentId": manifest.file.content_id,
        "chunks": chunks,
        "next": manifest.next,
    }


def stats_view(stats: Stats) -> View:
    nodes = [
        {
            "id": status.id,
            "state": status.state,
            "chunks": tally.chunks,
            "bytes": tally.bytes,
            "freeBytes": status.free,
            "health": health_view(status.health, stats.at) if status.health else None,
        }
        for status, tally in stats.nodes
    ]
    return {
        "files": stats.tally.files,
        "logicalBytes": stats.tally.logical,
        "chunks": stats.tally.chunks,
        "storedBytes": stats.tally.bytes,
        "dedupRatio": round(stats.dedup_ratio, 4),
        "nodes": nodes,
        "lastCollection": collected_view(stats.collected) if stats.collected else None,
        "upkeep": list(map(task_view, stats.tasks)),
        "at": instant(stats.at),
    }


def task_view(task: Task) -> View:
    left, eta = task.left, task.eta
    return {
        "kind": task.kind,
        "state": "stopped" if task.state == "running" and not task.held else task.state,
        "parameters": task.parameters,
        "done": task.done.chunks,
        "left": left,
        "bytes": task.done.bytes,
        "findings": task.done.findings,
        "blobs": task.done.blobs,
        "waiting": dict(task.done.waiting),
        "seconds": round(task.seconds, 3),
        "etaSeconds": None if eta is None else round(eta, 1),
        "startedAt": instant(task.started_at) if task.started_at else None,
    }


def health_view(health: Health, at: datetime) -> View:
    return {
        "breaker": health.breaker,
        "writeBreaker": health.writes,
        "since": instant(at - timedelta(seconds=health.seconds)),
        "calls": health.calls,
        "errors": health.errors,
        "timeouts": health.timeouts,
        "p50Seconds": health.p50,
        "p99Seconds": health.p99,
        "lastError": health.last_error,
    }


def collected_view(run: Collected) -> View:
    return {
        "uploadsEnded": run.uploads,
        "pagesReleased": run.pages,
        "chunksRemoved": run.chunks,
        "copiesDropped": run.copies,
        "unnamedBlobsRemoved": run.unnamed,
        "bytesFreed": run.bytes,
        "chunksLeft": run.left,
        "nodesSwept": run.swept,
        "seconds": round(run.seconds, 3),
        "at": instant(run.at) if run.at else None,
    }
