"""Which nodes are open: at the start, and as the registry changes while a server runs.

A server opens the nodes that it was given, and those that were added to the registry. It reads the
registry every few seconds, and whenever it meets a blob on a node that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.background import in_background
from app.errors import ConfigError, MiniS3Error, NodeError
from app.gathering import Gathered
from app.logs import get_logger
from app.models.nodes import NodeEntry, Nodes
from app.nodes.base import Site
from app.nodes.cluster import Cluster
from app.nodes.guarded import GuardedNode
from app.nodes.identity import identify, known_at
from app.nodes.placement import Placement
from app.nodes.sites import site_of
from app.types import NodeId

log = get_logger(__name__)

_KNOWN, _NEW = 5.0, 30.0
"""Seconds that a site gets at the start to say who it is, where that is known, and to become a node."""

_FOLLOW = 3.0
"""Seconds between two readings of the registry."""

_ROOM = 15.0
"""Seconds between two looks at how much room there is."""

_ASKERS = 1000
"""Those who may share one reading of the registry."""

OpenSite = Callable[[str], Site]


@dataclass(frozen=True, slots=True)
class Opener:
    """Makes nodes of sites. `store` is the id of the store, `site_of` gives the site at a URL."""

    store: str
    registry: Nodes
    site_of: OpenSite = site_of

    async def known(self, site: Site, entries: Sequence[NodeEntry], *, away: bool = True) -> GuardedNode:
        """The node that one of the entries expects there. If it may be `away` it is down while it does
        not answer, and comes into use when it does and is the one that is known. Raises ConfigError
        where it is another one, or none."""
        entry = known_at(site, entries)
        if entry is None:
            raise ConfigError(f"There is no node of this store at {site.location}.")
        try:
            async with asyncio.timeout(_KNOWN):
                await identify(site, self.store, entries, make=False)
        except (NodeError, TimeoutError) as error:
            if not away:
                raise _silent(site, error) from error
            log.warning("node does not answer yet", node=entry.id, location=site.location, error=_reason(error))
            return self._guarded(site, entry, answers=False)
        return self._guarded(site, entry)

    async def enrolled(self, site: Site, *, make: bool = True) -> NodeEntry:
        """Who is at a site where none may be known: a new node, or one that moved. It is not registered
        yet. Raises ConfigError where there is none, or no answer."""
        try:
            async with asyncio.timeout(_NEW):
                entries, retired = await self.registry.entries(), await self.registry.retired()
                return await identify(site, self.store, entries, make=make, retired=retired)
        except (NodeError, TimeoutError) as error:
            raise _silent(site, error) from error

    async def new(self, site: Site, *, make: bool = True) -> GuardedNode:
        """The node that is `enrolled`, registered."""
        entry = await self.enrolled(site, make=make)
        await self.registry.register(entry)
        return self._guarded(site, entry)

    def _guarded(self, site: Site, entry: NodeEntry, *, answers: bool = True) -> GuardedNode:
        async def verify() -> None:
            await identify(site, self.store, [entry], make=False)

        return GuardedNode(site.open(entry.id), verify=verify, answers=answers)


def _silent(site: Site, error: Exception) -> ConfigError:
    return ConfigError(
        f"The node {site.location} does not answer ({_reason(error)}). Start it, or name the nodes without it."
    )


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, NodeError) else "it takes too long to answer"


class Members:
    """Keeps a cluster in step with the registry. `given` are the sites that this process was told to use;
    with `opens` it opens nodes that are new there, or that could not be opened before."""

    def __init__(self, cluster: Cluster, opener: Opener, given: Sequence[Site], *, opens: bool) -> None:
        self._cluster = cluster
        self._opener = opener
        self._given = given
        self._opens = opens
        self._looks = Gathered(self._look_together, most=_ASKERS)
        self._under_way: set[asyncio.Task[None]] = set()
        self._opening: set[NodeId] = set()
        self._refused: dict[NodeId, str] = {}

    async def look(self) -> None:
        """Learn what the registry says now, beyond doubt. Raises DatabaseUnavailable."""
        await self._looks(True)

    async def refresh(self) -> None:
        """As `look`, in all likelihood."""
        await self._looks(False)

    async def follow_for_ever(self) -> None:
        """Learn of changes, and of the room that there is, every now and then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._look_at_room())

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW)
            try:
                await self.refresh()
            except MiniS3Error as error:
                log.info("registry of nodes not read", error=error.message)

    async def _look_at_room(self) -> None:
        while True:
            await self._cluster.look_at_room()
            await asyncio.sleep(_ROOM)

    async def _look_together(self, surely: Sequence[bool]) -> list[None]:
        registry = self._opener.registry
        entries = await (registry.look_surely() if any(surely) else registry.entries())
        for guard in self._cluster.know(entries):
            log.info("node removed", node=guard.id)
            self._in_background(guard.close())
        for entry in entries:
            if entry.id in self._cluster.absent and entry.id not in self._opening and self._is_wanted(entry):
                self._opening.add(entry.id)
                self._in_background(self._open(entry, entries))
        return [None] * len(surely)

    def _is_wanted(self, entry: NodeEntry) -> bool:
        return self._opens and (entry.added or any(site.is_at(entry.location) for site in self._given))

    async def _open(self, entry: NodeEntry, entries: Sequence[NodeEntry]) -> None:
        try:
            guard = await self._opener.known(self._opener.site_of(entry.location), entries)
        except MiniS3Error as error:
            if self._refused.get(entry.id) != error.message:
                log.warning("node not opened", node=entry.id, location=entry.location, error=error.message)
            self._refused[entry.id] = error.message
        else:
            self._refused.pop(entry.id, None)
            if entry.id in self._cluster.absent:
                self._cluster.join(guard, entry.use)
                log.info("node opened", node=entry.id, location=entry.location)
            else:  # It was removed meanwhile.
                await guard.close()
        finally:
            self._opening.discard(entry.id)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


@asynccontextmanager
async def open_cluster(
    sites: Sequence[Site],
    opener: Opener,
    *,
    only_known: bool = False,
    follow: bool = False,
    placement: Placement | None = None,
) -> AsyncIterator[Cluster]:
    """Open the node at every site as one of this store, new ones included, and those that were added.

    Those that the registry knows are opened at the same time, and may be away (see `Opener.known`).
    Raises ConfigError where a site is not what the registry knows (see `identity`), or where there is
    no answer from a new one. With `only_known` nothing is made or raised: what is no node of this
    store counts as absent, and so does what is away. With `follow` the registry is followed.
    """
    cluster = Cluster(placement=placement)
    members = Members(cluster, opener, sites, opens=not only_known)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        stack.push_async_callback(members.close)
        await _open_all(cluster, sites, opener, only_known=only_known)
        await members.refresh()
        if cluster.absent:
            log.warning("nodes absent", nodes=cluster.absent)
        cluster.follow(members.look)
        if follow:
            await stack.enter_async_context(in_background(members.follow_for_ever()))
        yield cluster


async def _open_all(cluster: Cluster, sites: Sequence[Site], opener: Opener, *, only_known: bool) -> None:
    """All that can be opened is in the cluster afterwards, whatever is raised."""
    problems: list[BaseException] = []
    for site, outcome in await _outcomes(sites, opener, only_known=only_known):
        if isinstance(outcome, GuardedNode) and outcome.id not in cluster.node_ids:
            cluster.join(outcome, "active")
        elif isinstance(outcome, GuardedNode):
            await outcome.close()
            problems.append(ConfigError(f"The node {site.location} is named twice."))
        elif isinstance(outcome, MiniS3Error) and (only_known or site not in sites):
            log.warning("node not opened", location=site.location, error=outcome.message)
        else:
            problems.append(outcome)
    if problems:
        raise problems[0]


async def _outcomes(
    sites: Sequence[Site], opener: Opener, *, only_known: bool
) -> list[tuple[Site, GuardedNode | BaseException]]:
    entries = await opener.registry.entries()
    known = [site for site in sites if known_at(site, entries)]
    known += _added(sites, opener, entries)
    opening = (opener.known(site, entries, away=not only_known) for site in known)
    outcomes = list(zip(known, await asyncio.gather(*opening, return_exceptions=True), strict=True))
    # One after the other: each takes a name that none has yet.
    for site in sites:
        if site not in known:
            try:
                outcomes.append((site, await opener.new(site, make=not only_known)))
            except MiniS3Error as error:
                outcomes.append((site, error))
    return outcomes


def _added(sites: Sequence[Site], opener: Opener, entries: Sequence[NodeEntry]) -> list[Site]:
    """The sites of nodes that were added, and are none of these."""
    added: list[Site] = []
    for entry in entries:
        if entry.added and not any(site.is_at(entry.location) for site in sites):
            try:
                added.append(opener.site_of(entry.location))
            except ConfigError as error:
                log.warning("node not opened", node=entry.id, location=entry.location, error=error.message)
    return added
