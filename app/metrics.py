"""What Prometheus is told. The one module that knows prometheus-client.

Each worker writes its figures to files in a directory that all workers share (the client's
multi-process mode, chosen by PROMETHEUS_MULTIPROC_DIR before this module is imported), so that a
scrape of any worker gives the sum of all.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = [
    "CONTENT_TYPE_PLAIN_0_0_4",
    "exposition",
    "forget_dead_workers",
    "note_call",
    "note_expired",
    "note_mended",
    "note_request",
    "note_upkeep",
]

REQUESTS = Counter("mini_s3_requests", "Answers sent", ["method", "route", "status"])
LATENCY = Histogram(
    "mini_s3_request_seconds",
    "Time from a request's head to the end of its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
BYTES_IN = Counter("mini_s3_received_bytes", "Body bytes received")
BYTES_OUT = Counter("mini_s3_sent_bytes", "Body bytes sent")
CHUNKS_NEW = Counter("mini_s3_chunks_new", "Chunks written to nodes")
CHUNKS_LINKED = Counter("mini_s3_chunks_linked", "Chunks of uploads that the store had already")
BYTES_STORED = Counter("mini_s3_stored_bytes", "Bytes of chunks written to nodes")
BYTES_SAVED = Counter("mini_s3_saved_bytes", "Bytes of uploads that deduplication did not write")
NODE_ERRORS = Counter("mini_s3_node_errors", "Calls on storage nodes that failed", ["node", "call"])
NODE_TIMEOUTS = Counter("mini_s3_node_timeouts", "Calls on storage nodes that got no answer in time", ["node", "call"])
NODE_SECONDS = Histogram(
    "mini_s3_node_seconds",
    "Time that calls on storage nodes took, further tries included",
    ["node", "call"],
    buckets=(0.0005, 0.002, 0.01, 0.05, 0.25, 1, 5, 30, 120),
)
NODE_STATE = Gauge(
    "mini_s3_node_state",
    "0 active, 1 readonly, 2 draining, 3 removing, 4 full, 5 down, 6 absent, -1 removed; the worst that a worker sees",
    ["node"],
    multiprocess_mode="livemax",
)
NODE_BREAKER = Gauge(
    "mini_s3_node_breaker",
    "0 closed, 1 half-open, 2 open; the worst that a worker has",
    ["node", "calls"],
    multiprocess_mode="livemax",
)
DAMAGE = Counter("mini_s3_damage_found", "Chunks that could not be read back as they were stored", ["kind"])
BUFFERS = Gauge("mini_s3_buffers_bytes", "Buffer memory that uploads hold", multiprocess_mode="livesum")
UPKEEP_DONE = Gauge(
    "mini_s3_upkeep_done", "Chunks seen to in the last round", ["kind"], multiprocess_mode="livemostrecent"
)
UPKEEP_LEFT = Gauge(
    "mini_s3_upkeep_left", "Chunks still to be seen to in the last round", ["kind"], multiprocess_mode="livemostrecent"
)
UPKEEP_BYTES = Counter("mini_s3_upkeep_bytes", "Bytes of blobs read by scrub, and written by others", ["kind"])
UPKEEP_BLOBS = Counter("mini_s3_upkeep_blobs", "Blobs moved, or made anew", ["kind"])
EXPIRED = Counter(
    "mini_s3_lifecycle_expired",
    "What lifecycle rules removed or hid: current versions hidden, versions and delete markers removed, uploads ended",
    ["what"],
)
LOCK_FALLBACKS = Counter("mini_s3_lock_fallbacks", "Times that locks went on without Redis")


def note_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answer. All three that name it must be of few values: each combination is kept for ever."""
    answers, latency = _children(method, route, status)
    answers.inc()
    latency.observe(seconds)


def note_call(node: str, call: str, seconds: float) -> None:
    """Count one call on a storage node."""
    _node_latency(node, call).observe(seconds)


def note_mended(kind: str, read_or_written: int, blobs: int) -> None:
    """Count what was done by work in the background."""
    UPKEEP_BYTES.labels(kind).inc(read_or_written)
    UPKEEP_BLOBS.labels(kind).inc(blobs)


def note_expired(what: str, number: int) -> None:
    """Count what lifecycle rules let expire."""
    EXPIRED.labels(what).inc(number)


def note_upkeep(kind: str, done: int, left: int) -> None:
    """Tell how far it is."""
    UPKEEP_DONE.labels(kind).set(done)
    UPKEEP_LEFT.labels(kind).set(left)


@cache
def _node_latency(node: str, call: str) -> Histogram:
    return NODE_SECONDS.labels(node, call)


@cache
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    # `labels` makes strings of its arguments, builds a key and takes a lock.
    return REQUESTS.labels(method, route, status), LATENCY.labels(method, route)


def exposition() -> bytes:
    """The text that a scrape gets, over all workers."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()


def forget_dead_workers() -> None:
    """Drop the gauges of workers that are gone; their counters stay."""
    for path in Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", os.devnull)).glob("gauge_live*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
