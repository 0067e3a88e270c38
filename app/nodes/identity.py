"""Who a node directory is: `node.json` in it says so, and the registry says who is expected where.

An empty or swapped directory under a known name is refused, not filled: it is a disk that was not
mounted, or the wrong one, and filling it would hide that.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from app.errors import ConfigError
from app.models.nodes import NodeEntry
from app.nodes.durable import TEMPORARY, make_directory, sync_directory, write_durably
from app.types import NodeId

FORMAT = 1
IDENTITY = "node.json"
FANOUT = tuple(f"{byte:02x}" for byte in range(256))
_HARMLESS = {"lost+found", TEMPORARY + IDENTITY, *FANOUT}


class Identity(BaseModel):
    """What `node.json` holds. `store` is the id of the store whose blobs these are."""

    format: int
    id: str
    uuid: str
    store: str


def identify(directory: Path, store: str, registry: Sequence[NodeEntry]) -> NodeEntry:
    """The registry's entry for this directory; a new directory is initialised. Blocks on the disk.

    Raises ConfigError where the directory is not the one that is known under its name, belongs to
    another store, or can't be used.
    """
    location = str(directory.resolve())
    expected = next((entry for entry in registry if entry.location == location), None)
    try:
        identity = _read(directory)
        if identity is None and expected is None:
            identity = _initialise(directory, store, {entry.id for entry in registry})
    except OSError as error:
        raise ConfigError(f"The node directory {directory} can't be used: {error.strerror}.") from error
    if identity is None:
        raise ConfigError(
            f"The node directory {directory} is known as {expected.id if expected else ''} but is empty. "
            "Is its disk mounted? If its blobs are really lost, name another directory in its place."
        )
    _check(directory, identity, expected, store, registry)
    return NodeEntry(NodeId(identity.id), identity.uuid, location)


def _check(
    directory: Path, identity: Identity, expected: NodeEntry | None, store: str, registry: Sequence[NodeEntry]
) -> None:
    if identity.format != FORMAT:
        raise ConfigError(
            f"The node directory {directory} has format {identity.format}; this Mini-S3 knows format {FORMAT}."
        )
    if identity.store != store:
        raise ConfigError(
            f"The node directory {directory} belongs to another store ({identity.store}, this one is {store}). "
            "Use the database that goes with it, or name an empty directory."
        )
    known = expected or next((entry for entry in registry if entry.id == identity.id), None)
    if known and known.uuid != identity.uuid:
        raise ConfigError(
            f"The node directory {directory} is {identity.id} ({identity.uuid}), but {known.id} ({known.uuid}) "
            "is expected there. Have two disks been swapped?"
        )


def _read(directory: Path) -> Identity | None:
    try:
        return Identity.model_validate_json((directory / IDENTITY).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigError(
            f"The identity file {directory / IDENTITY} is garbled; restore it from a backup of the disk."
        ) from error


def _initialise(directory: Path, store: str, taken: set[NodeId]) -> Identity:
    make_directory(directory)
    foreign = _foreign(directory)
    if foreign:
        raise ConfigError(
            f"The node directory {directory} is neither a node nor empty (it holds {foreign}). Name an empty one."
        )
    for name in FANOUT:
        (directory / name).mkdir(exist_ok=True)
    sync_directory(directory)
    identity = Identity(format=FORMAT, id=_new_id(directory.name, taken), uuid=secrets.token_hex(16), store=store)
    # Written last: a directory with an identity is complete.
    write_durably(directory / IDENTITY, json.dumps(identity.model_dump(), indent=2).encode() + b"\n")
    sync_directory(directory.parent)
    return identity


def _foreign(directory: Path) -> str | None:
    """Something in the directory that an initialisation does not leave there, even one broken off."""
    strange = {entry.name for entry in directory.iterdir()} - _HARMLESS
    blobs = (str(blob.relative_to(directory)) for name in FANOUT for blob in (directory / name).glob("*"))
    return min(strange) if strange else next(blobs, None)


def _new_id(name: str, taken: set[NodeId]) -> str:
    base = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:32] or "node"
    number, candidate = 1, base
    while candidate in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate
