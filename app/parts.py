"""Where settings become the parts that servers and commands share: database, nodes, locks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.data_dir import running
from app.embedded.services import EmbeddedServices
from app.errors import ConfigError
from app.models.database import Database, open_database
from app.models.meta import prepare
from app.models.nodes import Nodes
from app.nodes.cluster import Cluster
from app.nodes.members import Opener, open_cluster
from app.nodes.placement import WAYS
from app.nodes.sites import site_of
from app.nodes.trust import trusting
from app.settings import Settings
from app.types import Redundancy


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything else stands on."""

    database: Database
    cluster: Cluster


@asynccontextmanager
async def open_foundation(settings: Settings, mongo_url: str, initiate: str) -> AsyncIterator[Foundation]:
    """Open the database, and the nodes of its store, as they change. Raises ConfigError."""
    async with open_database(mongo_url, settings.mongo_database, initiate=initiate) as database:
        opener = node_opener(settings, database, await prepare(database))
        sites = list(map(opener.site_of, settings.node_urls))
        placement = WAYS[settings.placement]()
        async with open_cluster(sites, opener, follow=True, placement=placement) as cluster:
            _see_that_nodes_suffice(settings, cluster)
            yield Foundation(database, cluster)


def _see_that_nodes_suffice(settings: Settings, cluster: Cluster) -> None:
    known, wanted = len(cluster.node_ids) + len(cluster.absent), Redundancy.parse(settings.redundancy).total
    if known < wanted and not settings.degraded_writes:
        raise ConfigError(
            f"Redundancy {settings.redundancy} puts each chunk on {wanted} nodes, and the store knows {known}. "
            "Name more with --nodes, or say --degraded-writes yes to store less of each chunk until there are more."
        )


def node_opener(settings: Settings, database: Database, store: str) -> Opener:
    """What makes nodes of URLs, for the store of that id."""
    trust = trusting(Path(settings.node_ca)) if settings.node_ca else None
    return Opener(store, Nodes(database), lambda url: site_of(url, settings.node_token.get_secret_value(), trust))


@asynccontextmanager
async def open_existing(settings: Settings) -> AsyncIterator[Foundation]:
    """The store that the settings name, for a command that works on it (see `open_known_database`).

    Its nodes are those that it knows, or those that the settings name and those that were added. One
    that can't be used is absent. Raises ConfigError where there is no such store.
    """
    async with open_known_database(settings) as (database, store_id):
        opener = node_opener(settings, database, store_id)
        nodes = settings.nodes or [entry.location for entry in await opener.registry.entries()]
        sites = list(map(opener.site_of, nodes))
        placement = WAYS[settings.placement]()
        async with open_cluster(sites, opener, only_known=True, placement=placement) as cluster:
            yield Foundation(database, cluster)


@asynccontextmanager
async def open_known_database(settings: Settings) -> AsyncIterator[tuple[Database, str]]:
    """The database of a store, and the store's id, for a command that runs beside a server or without
    one: that of a running server, else an outside one, else the data directory's own, which then is
    started for as long as the command runs. Raises ConfigError where there is no such store."""
    server = running(settings.data_dir)
    if settings.mongo_url or (server and server.mongo_url):
        url = settings.mongo_url or (server.mongo_url if server else "")
        async with _prepared(settings, url, "") as known:
            yield known
        return
    if not (settings.data_dir / "mongo").is_dir():
        raise ConfigError(
            f"There is no store in {settings.data_dir}. Name its folder with --data-dir (or MINI_S3_DATA_DIR), "
            "or its database with --mongo-url (or MINI_S3_MONGO_URL)."
        )
    async with (
        EmbeddedServices(settings, with_redis=False) as services,
        _prepared(settings, services.mongo_url, services.mongo_initiate) as known,
    ):
        yield known


@asynccontextmanager
async def _prepared(settings: Settings, url: str, initiate: str) -> AsyncIterator[tuple[Database, str]]:
    async with open_database(url, settings.mongo_database, initiate=initiate, patience=5) as database:
        yield database, await prepare(database, create=False)
