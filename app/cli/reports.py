"""What the commands report, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.api.views import View
from app.cli.text import columns, size
from app.models.nodes import NodeEntry
from app.models.runs import Collected
from app.models.tallies import NodeTally
from app.models.tasks import Task
from app.nodes.cluster import NodeStatus
from app.nodes.health import Health
from app.upkeep.findings import HEALABLE, Finding, Report
from app.upkeep.usage import Group

_LISTED = 1000
"""Findings and files that are listed one by one; the rest is counted."""

_WORDS = {
    "file-size": "a file is not as long as its pages",
    "page-missing": "a page is missing",
    "page-damaged": "a page is damaged",
    "page-released": "a page was released although files hold it",
    "page-refs": "a page counts its holders wrongly",
    "chunk-missing": "a chunk has no document",
    "chunk-lost": "a chunk has no good blob left; an upload of a file that has it heals it",
    "chunk-copies": "a chunk has fewer copies or shards than it is to have",
    "chunk-dead": "a chunk is being removed although pages hold it",
    "chunk-size": "a chunk has another size than its page says",
    "chunk-refs": "a chunk counts its pages wrongly",
    "blob-missing": "a blob is missing",
    "blob-size": "a blob is too long or too short",
    "blob-wrong": "a blob holds wrong bytes",
    "blob-unreadable": "a blob can't be read",
    "node-absent": "a node does not answer; its blobs were not looked at",
    "unnamed-blob": "a blob that no document names",
    "totals": "the statistics differ from the sum of the documents",
}


def collected_lines(done: Collected, *, dry_run: bool) -> list[str]:
    counts = (
        (done.uploads, "abandoned uploads"),
        (done.pages, "pages of deleted files"),
        (done.chunks, "chunks"),
        (done.copies, "unfinished copies or shards"),
        (done.unnamed, "blobs that no document names"),
    )
    lines = [f"{count:>12,} {what}" for count, what in counts if count] or ["     nothing"]
    if done.left:
        lines.append(f"{done.left:>12,} chunks are left: a node did not remove their blobs. The next run tries again")
    head = "Would collect:" if dry_run else "Collected:"
    return [head, *lines, f"{size(done.bytes)} in {done.seconds:.1f} s"]


def check_lines(report: Report, *, repair: bool) -> list[str]:
    read = f", {size(report.bytes)} read" if report.bytes else ""
    lines = [
        f"Checked {report.files:,} files, {report.pages:,} pages, {report.chunks:,} chunks, "
        f"{report.blobs:,} blobs{read} in {report.seconds:.1f} s"
    ]
    if not report.findings:
        return [*lines, "All is well."]
    left = set(map(id, report.left))
    for finding in report.findings[:_LISTED]:
        state = "" if not repair else "  LEFT" if id(finding) in left else "  mended"
        lines.append(f"  {finding.kind}: {_WORDS[finding.kind]}{_where(finding)}{state}")
    if len(report.findings) > _LISTED:
        kinds = Counter(finding.kind for finding in report.findings)
        lines.append(f"  … in all: {', '.join(f'{count:,} {kind}' for kind, count in kinds.most_common())}")
    lines += [f"  touches {file.id} {file.name}" for file in report.touched[:_LISTED]]
    if len(report.touched) > _LISTED:
        lines.append(f"  … {len(report.touched):,} files in all")
    lines.append(f"{len(report.findings):,} findings, {len(report.mended):,} mended.")
    if repair and any(finding.kind in HEALABLE for finding in report.left):
        lines.append("Bytes are lost that no node has. Upload the files named above again: that heals them.")
    return lines


def check_view(report: Report) -> View:
    left = set(map(id, report.left))
    return {
        "clean": not report.left,
        "checked": {
            "files": report.files,
            "pages": report.pages,
            "chunks": report.chunks,
            "blobs": report.blobs,
            "bytesRead": report.bytes,
        },
        "findings": [
            {"kind": finding.kind, **_places(finding), "mended": id(finding) not in left} for finding in report.findings
        ],
        "files": [{"id": file.id, "name": file.name} for file in report.touched],
        "seconds": round(report.seconds, 3),
    }


def _places(finding: Finding) -> View:
    places = {
        "page": finding.page.hex() if finding.page else None,
        "chunk": finding.digest.hex() if finding.digest else None,
        "blob": finding.blob.name if finding.blob else None,
        "node": finding.blob.node if finding.blob else finding.node,
        "file": finding.file.id if finding.file else None,
        "size": finding.size or None,
        "drift": finding.drift or None,
    }
    return {name: value for name, value in places.items() if value is not None}


def _where(finding: Finding) -> str:
    return "".join(f"  {name} {value}" for name, value in _places(finding).items())


def task_lines(task: Task, done: str) -> list[str]:
    lines = [f"{task.done.blobs:,} blobs, {size(task.done.bytes)}, in {task.seconds:.1f} s"]
    lines += [f"{count:>12,} chunks are left: {reason}" for reason, count in sorted(task.done.waiting.items())]
    return [*lines, "Run it again later." if task.done.waiting else done]


def usage_lines(groups: Sequence[Group], total: Group) -> list[str]:
    rows = [("FILES", "LOGICAL", "UNIQUE", "SHARED", "PREFIX")]
    rows += [_row(group, group.prefix or "(no folder)") for group in groups]
    rows.append(_row(total, "in all"))
    return columns(rows, left=0)


def _row(group: Group, name: str) -> tuple[str, str, str, str, str]:
    return f"{group.files:,}", size(group.logical), size(group.unique), size(group.shared), name


def usage_view(groups: Sequence[Group], total: Group) -> View:
    def view(group: Group) -> View:
        return {
            "prefix": group.prefix,
            "files": group.files,
            "logicalBytes": group.logical,
            "uniqueBytes": group.unique,
            "sharedBytes": group.shared,
        }

    return {"groups": list(map(view, groups)), "total": view(total)}


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What is wanted of a node, how it is, and what it holds."""

    entry: NodeEntry
    status: NodeStatus
    held: NodeTally


def node_lines(rows: Sequence[NodeRow]) -> list[str]:
    cells = [("NODE", "STATE", "ZONE", "WEIGHT", "CHUNKS", "BYTES", "FREE", "ANSWER", "WHERE")]
    cells += [
        (
            row.entry.id,
            row.status.state,
            row.entry.zone or "-",
            f"{row.entry.weight:g}",
            f"{row.held.chunks:,}",
            size(row.held.bytes),
            size(row.status.free),
            _answer(row.status.health),
            row.entry.location,
        )
        for row in rows
    ]
    return columns(cells, left=3)


def _answer(health: Health | None) -> str:
    """How the node answered this command."""
    if health is None:
        return "none"
    return health.last_error or f"{1000 * (health.p50 or 0):.1f} ms"


def node_view(row: NodeRow) -> View:
    return {
        "id": row.entry.id,
        "state": row.status.state,
        "zone": row.entry.zone,
        "weight": row.entry.weight,
        "chunks": row.held.chunks,
        "bytes": row.held.bytes,
        "free": row.status.free,
        "seconds": row.status.health.p50 if row.status.health else None,
        "error": row.status.health.last_error if row.status.health else None,
        "breaker": row.status.health.breaker if row.status.health else None,
        "location": row.entry.location,
    }
