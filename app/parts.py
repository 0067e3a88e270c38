"""Where settings become the parts that servers and commands share: database, nodes, locks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.data_dir import running
from app.embedded.services import EmbeddedServices
from app.errors import ConfigError
from app.models.database import Database, open_database
from app.models.meta import prepare
from app.models.nodes import Nodes
from app.nodes.base import Site
from app.nodes.cluster import Cluster, open_cluster
from app.nodes.sites import site_of
from app.nodes.trust import trusting
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything else stands on."""

    database: Database
    cluster: Cluster


@asynccontextmanager
async def open_foundation(settings: Settings, mongo_url: str, initiate: str) -> AsyncIterator[Foundation]:
    """Open the database, and the nodes of its store. Raises ConfigError."""
    async with open_database(mongo_url, settings.mongo_database, initiate=initiate) as database:
        store_id = await prepare(database)
        async with open_cluster(_sites(settings, settings.node_urls), store_id, Nodes(database)) as cluster:
            yield Foundation(database, cluster)


def _sites(settings: Settings, urls: Sequence[str]) -> list[Site]:
    trust = trusting(Path(settings.node_ca)) if settings.node_ca else None
    return [site_of(url, settings.node_token.get_secret_value(), trust) for url in urls]


@asynccontextmanager
async def open_existing(settings: Settings) -> AsyncIterator[Foundation]:
    """The store that the settings name, for a command that works on it, beside a running server or
    without one: the database of a running server, else an outside one, else the data directory's own,
    which then is started for as long as the command runs.

    Its nodes are those that it knows, or those that the settings name. One that can't be used is
    absent. Raises ConfigError where there is no such store.
    """
    server = running(settings.data_dir)
    if settings.mongo_url or (server and server.mongo_url):
        url = settings.mongo_url or (server.mongo_url if server else "")
        async with _open_known(settings, url, "") as foundation:
            yield foundation
        return
    if not (settings.data_dir / "mongo").is_dir():
        raise ConfigError(
            f"There is no store in {settings.data_dir}. Name its folder with --data-dir (or MINI_S3_DATA_DIR), "
            "or its database with --mongo-url (or MINI_S3_MONGO_URL)."
        )
    async with (
        EmbeddedServices(settings, with_redis=False) as services,
        _open_known(settings, services.mongo_url, services.mongo_initiate) as foundation,
    ):
        yield foundation


@asynccontextmanager
async def _open_known(settings: Settings, url: str, initiate: str) -> AsyncIterator[Foundation]:
    async with open_database(url, settings.mongo_database, initiate=initiate, patience=5) as database:
        store_id = await prepare(database, create=False)
        registry = Nodes(database)
        nodes = settings.nodes or [entry.location for entry in await registry.entries()]
        async with open_cluster(_sites(settings, nodes), store_id, registry, only_known=True) as cluster:
            yield Foundation(database, cluster)
