"""One worker: where settings become parts, parts become the API, and the API is served.

The supervisor starts it as `python -m app.worker REPORT LISTEN [LISTEN]`: file descriptors, a pipe on which the
worker says that it is ready, or why it can't be, and the listening sockets, the second one that of the S3 API.
What it serves is in the environment, as `Assignment`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from pydantic import BaseModel
from starlette.types import ASGIApp

from app import faults
from app.api.app import Parts, build_api
from app.api.limits import RateLimits
from app.background import in_background
from app.coord.counts import open_counts
from app.coord.locks import LocalLocks, Locks
from app.coord.redis_locks import open_redis_locks
from app.errors import ConfigError, MiniS3Error
from app.logs import get_logger, set_up_logs
from app.metrics import forget_dead_workers
from app.models.buckets import Buckets
from app.models.catalog import Catalog
from app.models.chunks import Chunks
from app.models.database import Database
from app.models.files import Files
from app.models.holdings import Holdings
from app.models.keys import Keys
from app.models.leases import Lease
from app.models.ledger import Ledger
from app.models.mending import Mending
from app.models.objects import Objects
from app.models.pages import Pages
from app.models.rounds import Rounds
from app.models.runs import Runs
from app.models.sessions import UploadSessions
from app.models.suspects import Suspects
from app.models.tallies import Tallies
from app.models.tasks import Tasks
from app.parts import Foundation, open_foundation
from app.serving import configured, run, serve_together
from app.settings import Settings
from app.store.access import LOCAL, Access
from app.store.buckets import BucketStore, Naming
from app.store.credentials import master_key, root_key
from app.store.merging import Merging
from app.store.negotiation import Negotiation
from app.store.objects import ObjectStore
from app.store.readiness import Readiness
from app.store.sealing import Sealer
from app.store.sessions import SessionStore
from app.store.stats import Statistics
from app.store.store import Store
from app.store.uploads import Engine, UploadStore
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
from app.upkeep.expirer import Expirer
from app.upkeep.schedule import TIMES, Schedule, Wishes, Workers
from app.upkeep.suspicion import Suspicion
from app.upkeep.tending import Tending

log = get_logger(__name__)


class Assignment(BaseModel):
    """What a worker is told: the settings, and where the databases are, embedded ones included."""

    VARIABLE: ClassVar[str] = "MINI_S3_ASSIGNMENT"

    settings: Settings
    mongo_url: str
    mongo_initiate: str
    redis_url: str
    local: bool
    """Whether only this machine reaches the server: then it may be open."""


@dataclass(frozen=True, slots=True)
class S3Stores:
    """What the S3 API is a face of."""

    buckets: BucketStore
    objects: ObjectStore
    sessions: SessionStore


@dataclass(frozen=True, slots=True)
class Faces:
    """What each of the APIs is a face of."""

    api: Parts
    s3: S3Stores


@asynccontextmanager
async def open_parts(assignment: Assignment) -> AsyncIterator[Faces]:
    """Everything that the APIs need, opened in order and closed in reverse. Raises ConfigError."""
    settings = assignment.settings
    async with AsyncExitStack() as stack:
        foundation = await stack.enter_async_context(
            open_foundation(settings, assignment.mongo_url, assignment.mongo_initiate)
        )
        database, cluster = foundation.database, foundation.cluster
        access = Access(Keys(database), Sealer(master_key(settings)), root_key(settings), may_be_open=assignment.local)
        await access.begin()
        await stack.enter_async_context(in_background(access.follow()))
        locks = (
            await stack.enter_async_context(open_redis_locks(assignment.redis_url)) if assignment.redis_url else None
        )
        stages = _open_stages(settings, foundation, locks or LocalLocks(), stack)
        pages, catalog, runs = Pages(database), Catalog(database), Runs(database)
        statistics = Statistics(Tallies(database), cluster, runs, Tasks(database), Rounds(database))
        await stack.enter_async_context(in_background(statistics.fold_for_ever()))
        suspicion = Suspicion(Suspects(database))
        await stack.enter_async_context(in_background(suspicion.write_for_ever()))
        schedule = _schedule(settings, foundation, stages.hasher, runs)
        await stack.enter_async_context(in_background(schedule.run_for_ever()))
        limits = RateLimits(
            {"api": settings.rate_api, "upload": settings.rate_upload, "download": settings.rate_download},
            await stack.enter_async_context(open_counts(assignment.redis_url)),
        )
        egress = Egress(pages, stages.chunks, cluster, stages.hasher, suspicion.note)
        store = Store(stages, egress, Files(database), pages, catalog)
        sessions = SessionStore(stages, UploadSessions(database), pages, catalog)
        uploads = UploadStore(_engine(settings, database, stages, sessions), store)
        readiness = Readiness(cluster, database.ping, locks.ping if locks else None)
        buckets = BucketStore(Buckets(database), Naming(settings.uploads_bucket, LOCAL))
        yield Faces(
            Parts(store, statistics, readiness, limits, access, uploads),
            S3Stores(buckets, ObjectStore(stages, egress, Objects(database), catalog), sessions),
        )


def _open_stages(settings: Settings, foundation: Foundation, locks: Locks, stack: AsyncExitStack) -> Stages:
    database, cluster = foundation.database, foundation.cluster
    hasher = Hasher()
    stack.callback(hasher.close)
    log.info("sha-256 chosen", **hasher.kernel.facts)
    chunks = Chunks(database)
    policy = WritePolicy(Redundancy.parse(settings.redundancy), settings.degraded_writes)
    return Stages(
        BufferPool(settings.buffer_memory, MOST_BUFFERS),
        hasher,
        Deduper(chunks, Mending(database), cluster, locks, Splitter(hasher), policy),
        chunks,
        ChunkReader(cluster, hasher),
        Ledger(database),
        settings.max_file_size,
    )


def _schedule(settings: Settings, foundation: Foundation, hasher: Hasher, runs: Runs) -> Schedule:
    database, cluster = foundation.database, foundation.cluster
    return Schedule(
        Lease(database, "collector"),
        runs,
        Workers(
            Collector(database, cluster, settings.grace, settings.upload_expiry),
            Tending(database, cluster, hasher, settings.upkeep_rate),
            Expirer(database),
        ),
        Wishes(settings.gc_interval, settings.scrub_days),
        TIMES,
    )


def _engine(settings: Settings, database: Database, stages: Stages, sessions: SessionStore) -> Engine:
    models, pages = UploadSessions(database), Pages(database)
    return Engine(
        stages,
        models,
        sessions,
        Negotiation(stages, models, pages, Holdings(database)),
        Merging(stages.ledger, models, pages),
        Files(database),
        timedelta(seconds=settings.upload_expiry),
    )


def _build_s3(parts: Faces, settings: Settings) -> ASGIApp:
    # A seventh of all that a worker would import, most of it a library of checksums.
    from app.s3.app import S3Settings, build_s3  # noqa: PLC0415
    from app.s3.authorize import Authorizer  # noqa: PLC0415
    from app.s3.parts import S3Parts  # noqa: PLC0415

    s3 = parts.s3
    return build_s3(
        S3Parts(s3.buckets, s3.objects, s3.sessions, Authorizer(s3.objects), parts.api.access),
        S3Settings(settings.s3_domain, settings.region, settings.idle_timeout),
    )


async def serve(assignment: Assignment, listeners: Sequence[socket.socket], report: int) -> None:
    """Serve until SIGTERM; running requests then get the time that the settings allow. The listeners are that of
    the native API and, where there is one, that of the S3 API."""
    settings = assignment.settings
    async with open_parts(assignment) as parts:
        apps = [build_api(parts.api, cors_origins=settings.cors_origins, idle_timeout=settings.idle_timeout)]
        if len(listeners) > 1:
            apps.append(_build_s3(parts, settings))
        faces = [(configured(app, settings), listener) for app, listener in zip(apps, listeners, strict=True)]
        news = OPEN if parts.api.access.is_open else READY
        await serve_together(faces, on_started=lambda: os.write(report, news))


def main() -> int:
    report, *listeners = map(int, sys.argv[1:])
    assignment = Assignment.model_validate_json(os.environ.pop(Assignment.VARIABLE))
    set_up_logs(assignment.settings.log_level, assignment.settings.log_format, pid=os.getpid())
    forget_dead_workers()
    faults.arm()
    try:
        run(serve(assignment, [socket.socket(fileno=listener) for listener in listeners], report))
    except (ConfigError, MiniS3Error) as error:
        os.write(report, error.message.encode()[:4000])
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
