"""One worker: where settings become parts, parts become the API, and the API is served.

The supervisor starts it as `python -m app.server LISTEN REPORT`: two file descriptors, the listening
socket and a pipe on which the worker says that it is ready, or why it can't be. What it serves is in
the environment, as `Assignment`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar

from pydantic import BaseModel

from app import faults
from app.api.app import Parts, build_api
from app.api.limits import RateLimits
from app.background import in_background
from app.coord.counts import open_counts
from app.coord.locks import LocalLocks, Locks
from app.coord.redis_locks import open_redis_locks
from app.errors import ConfigError, MiniS3Error
from app.logs import set_up_logs
from app.metrics import forget_dead_workers
from app.models.catalog import Catalog
from app.models.chunks import Chunks
from app.models.files import Files
from app.models.keys import Keys
from app.models.leases import Lease
from app.models.ledger import Ledger
from app.models.mending import Mending
from app.models.pages import Pages
from app.models.runs import Runs
from app.models.suspects import Suspects
from app.models.tallies import Tallies
from app.models.tasks import Tasks
from app.parts import open_foundation
from app.serving import Server, configured, run
from app.settings import Settings
from app.store.access import Access
from app.store.credentials import master_key, root_key
from app.store.readiness import Readiness
from app.store.sealing import Sealer
from app.store.stats import Statistics
from app.store.store import Store
from app.streams.buffers import BufferPool
from app.streams.dedupe import Deduper, WritePolicy
from app.streams.egress import Egress
from app.streams.hasher import Hasher
from app.streams.ingest import MOST_BUFFERS, Stages
from app.streams.reader import ChunkReader
from app.streams.splitter import Splitter
from app.supervisor import OPEN, READY
from app.types import Redundancy
from app.upkeep.collector import Collector
from app.upkeep.schedule import TIMES, Schedule, Wishes
from app.upkeep.suspicion import Suspicion
from app.upkeep.tending import Tending


class Assignment(BaseModel):
    """What a worker is told: the settings, and where the databases are, embedded ones included."""

    VARIABLE: ClassVar[str] = "MINI_S3_ASSIGNMENT"

    settings: Settings
    mongo_url: str
    mongo_initiate: str
    redis_url: str
    local: bool
    """Whether only this machine reaches the server: then it may be open."""


@asynccontextmanager
async def open_parts(assignment: Assignment) -> AsyncIterator[Parts]:
    """Everything that the API needs, opened in order and closed in reverse. Raises ConfigError."""
    settings = assignment.settings
    async with AsyncExitStack() as stack:
        foundation = await stack.enter_async_context(
            open_foundation(settings, assignment.mongo_url, assignment.mongo_initiate)
        )
        database, cluster = foundation.database, foundation.cluster
        access = Access(Keys(database), Sealer(master_key(settings)), root_key(settings), may_be_open=assignment.local)
        await access.begin()
        await stack.enter_async_context(in_background(access.follow()))
        locks: Locks = LocalLocks()
        ping_redis = None
        if assignment.redis_url:
            locks = shared = await stack.enter_async_context(open_redis_locks(assignment.redis_url))
            ping_redis = shared.ping
        hasher = Hasher()
        stack.callback(hasher.close)
        chunks, pages, tallies = Chunks(database), Pages(database), Tallies(database)
        stages = Stages(
            BufferPool(settings.buffer_memory, MOST_BUFFERS),
            hasher,
            Deduper(
                chunks,
                Mending(database),
                cluster,
                locks,
                Splitter(hasher),
                WritePolicy(Redundancy.parse(settings.redundancy), settings.degraded_writes),
            ),
            chunks,
            ChunkReader(cluster, hasher),
            Ledger(database),
            settings.max_file_size,
        )
        runs = Runs(database)
        statistics = Statistics(tallies, cluster, runs, Tasks(database))
        await stack.enter_async_context(in_background(statistics.fold_for_ever()))
        suspicion = Suspicion(Suspects(database))
        await stack.enter_async_context(in_background(suspicion.write_for_ever()))
        schedule = Schedule(
            Lease(database, "collector"),
            runs,
            Collector(database, cluster, settings.grace, settings.upload_expiry),
            Tending(database, cluster, hasher, settings.upkeep_rate),
            Wishes(settings.gc_interval, settings.scrub_days),
            TIMES,
        )
        await stack.enter_async_context(in_background(schedule.run_for_ever()))
        limits = RateLimits(
            {"api": settings.rate_api, "upload": settings.rate_upload, "download": settings.rate_download},
            await stack.enter_async_context(open_counts(assignment.redis_url)),
        )
        egress = Egress(pages, chunks, cluster, hasher, suspicion.note)
        yield Parts(
            Store(stages, egress, Files(database), pages, Catalog(database)),
            statistics,
            Readiness(cluster, database.ping, ping_redis),
            limits,
            access,
        )


async def serve(assignment: Assignment, listener: socket.socket, report: int) -> None:
    """Serve until SIGTERM; running requests then get the time that the settings allow."""
    settings = assignment.settings
    async with open_parts(assignment) as parts:
        app = build_api(parts, cors_origins=settings.cors_origins, idle_timeout=settings.idle_timeout)
        news = OPEN if parts.access.is_open else READY
        server = Server(configured(app, settings), on_started=lambda: os.write(report, news))
        await server.serve(sockets=[listener])


def main() -> int:
    listener, report = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    assignment = Assignment.model_validate_json(os.environ.pop(Assignment.VARIABLE))
    set_up_logs(assignment.settings.log_level, assignment.settings.log_format, pid=os.getpid())
    forget_dead_workers()
    faults.arm()
    try:
        run(serve(assignment, listener, report))
    except (ConfigError, MiniS3Error) as error:
        os.write(report, error.message.encode()[:4000])
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
