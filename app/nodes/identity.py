"""Who a node is: the identity file at its site says so, and the registry says who is expected where.

An empty or swapped site under a known location is refused, not filled: it is a disk that was not
mounted, or the wrong one, and filling it would hide that.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Sequence

from pydantic import BaseModel, ValidationError

from app.errors import ConfigError
from app.models.nodes import NodeEntry
from app.nodes.base import Site
from app.types import NodeId

FORMAT = 1


class Identity(BaseModel):
    """What the identity file holds. `store` is the id of the store whose blobs these are."""

    format: int
    id: str
    uuid: str
    store: str


def known_at(site: Site, registry: Sequence[NodeEntry]) -> NodeEntry | None:
    """The node that is expected at this site."""
    return next((entry for entry in registry if site.is_at(entry.location)), None)


async def answers_as(site: Site, entry: NodeEntry) -> bool:
    """Whether this very node is at the site. Raises ConfigError where the site can't be asked, NodeError
    where it does not answer."""
    found = await site.identity()
    return found is not None and _read(site, found).uuid == entry.uuid


async def identify(
    site: Site, store: str, registry: Sequence[NodeEntry], *, make: bool = True, retired: Collection[NodeId] = ()
) -> NodeEntry:
    """The registry's entry for the node at this site; a new site becomes a node, if it may be made. It takes
    none of the `retired` ids.

    Raises ConfigError where it is not the node that is known there, belongs to another store, or
    can't be used; NodeError where it does not answer.
    """
    expected = known_at(site, registry)
    found = await site.identity()
    if found is None and expected:
        raise ConfigError(
            f"The node {site.location} is known as {expected.id} but is empty. Is its disk mounted, its bucket the "
            "right one? If its blobs are really lost, name another place instead."
        )
    if found is None and not make:
        raise ConfigError(f"There is no node at {site.location}. Is its disk mounted, its bucket the right one?")
    if found is None:
        new = Identity(
            format=FORMAT,
            id=_new_id(site.name, {*retired, *(entry.id for entry in registry)}),
            uuid=secrets.token_hex(16),
            store=store,
        )
        found = await site.claim(json.dumps(new.model_dump(), indent=2).encode() + b"\n")
    identity = _read(site, found)
    _check(site, identity, expected, store, registry)
    return NodeEntry(NodeId(identity.id), identity.uuid, site.location)


def _check(
    site: Site, identity: Identity, expected: NodeEntry | None, store: str, registry: Sequence[NodeEntry]
) -> None:
    if identity.format != FORMAT:
        raise ConfigError(f"The node {site.location} has format {identity.format}; this Mini-S3 knows format {FORMAT}.")
    if identity.store != store:
        raise ConfigError(
            f"The node {site.location} belongs to another store ({identity.store}, this one is {store}). "
            "Use the database that goes with it, or name an empty place."
        )
    known = expected or next((entry for entry in registry if entry.id == identity.id), None)
    if known and known.uuid != identity.uuid:
        raise ConfigError(
            f"The node {site.location} is {identity.id} ({identity.uuid}), but {known.id} ({known.uuid}) "
            "is expected there. Have two disks been swapped?"
        )


def _read(site: Site, found: bytes) -> Identity:
    try:
        return Identity.model_validate_json(found)
    except ValidationError as error:
        raise ConfigError(
            f"The identity file of the node {site.location} is garbled; restore it from a backup."
        ) from error


def _new_id(name: str, taken: set[NodeId]) -> str:
    base = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:32] or "node"
    number, candidate = 1, base
    while candidate in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate
