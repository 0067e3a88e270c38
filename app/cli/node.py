"""The commands for storage nodes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.cli.options import WHICH_STORE, configured, settings_options
from app.cli.reports import node_lines
from app.cli.tending import drain, rebalance
from app.errors import ConfigError
from app.models.nodes import Nodes
from app.models.tallies import NodeTally, Tallies
from app.node_server import serve_node
from app.nodes.cluster import NodeStatus
from app.parts import open_existing
from app.serving import run
from app.settings import Settings
from app.types import NodeId


@click.group()
def node() -> None:
    """Storage nodes: list them, take one out of the store, serve one to other machines."""


node.add_command(drain)
node.add_command(rebalance)


@node.command()
@click.option("--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where the blobs lie")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option("--port", default=8001, show_default=True, help="Port to listen on; 0 takes a free one")
@click.option("--token", help="What callers must know; others can see it in the list of processes [MINI_S3_NODE_TOKEN]")
@click.option("--token-file", type=click.File("rb"), help="A file that holds the token, and nothing else")
@settings_options("shutdown_timeout", "log_level", "log_format")
def serve(directory: Path, token: str | None, token_file: BinaryIO | None, config: Path | None, **flags: Any) -> None:
    """Serve a directory as a node to gateways on other machines, which name it as http://HOST:PORT.

    It takes neither MongoDB nor Redis. Whoever knows the token may read, write and delete every blob,
    and it passes in clear: serve in a network that you trust, or behind something that speaks TLS.
    """
    if token_file is not None:
        if token is not None:
            raise click.UsageError("Give the token once: with --token or with --token-file.")
        token = token_file.read().decode(errors="replace").strip()
    with configured(config, {**flags, "node_token": token}) as settings:
        run(serve_node(directory, settings, click.echo))


@node.command("list")
@settings_options(*WHICH_STORE)
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON")
def list_nodes(config: Path | None, as_json: bool, **flags: Any) -> None:
    """List the nodes of a store, how each is, and how many chunks of files it holds."""
    with configured(config, flags, quiet=True) as settings:
        rows = asyncio.run(_rows(settings))
        if as_json:
            click.echo(json.dumps({"nodes": [_view(*row) for row in rows]}, indent=2))
        else:
            click.echo("\n".join(node_lines(rows)))


Row = tuple[NodeStatus, NodeTally, str]
"""How a node is, what it holds, and where it was last seen."""


async def _rows(settings: Settings) -> list[Row]:
    async with open_existing(settings) as store:
        tally = await Tallies(store.database).read()
        places = {entry.id: entry.location for entry in await Nodes(store.database).entries()}
        statuses = sorted(await store.cluster.statuses(), key=lambda status: status.id)
        return [(status, tally.nodes.get(status.id, NodeTally()), places[status.id]) for status in statuses]


def _view(status: NodeStatus, held: NodeTally, location: str) -> dict[str, Any]:
    return {
        "id": status.id,
        "state": status.state,
        "chunks": held.chunks,
        "bytes": held.bytes,
        "free": status.free,
        "location": location,
    }


@node.command()
@click.argument("node_id", metavar="NODE")
@settings_options(*WHICH_STORE)
@click.option("--lost", is_flag=True, help="Although it holds chunks of files: they count as missing from now on")
def remove(node_id: str, lost: bool, config: Path | None, **flags: Any) -> None:
    """Forget a node that the servers are not given any more.

    What a node held that is gone for good is made again from other copies by `mini-s3 check --repair`.
    """
    with configured(config, flags, quiet=True) as settings:
        asyncio.run(_remove(settings, NodeId(node_id), lost=lost))
        click.echo(f"{node_id} is no node of this store any more.")


async def _remove(settings: Settings, node_id: NodeId, *, lost: bool) -> None:
    async with open_existing(settings) as store:
        held = (await Tallies(store.database).read()).nodes.get(node_id, NodeTally()).chunks
        if held and not lost:
            raise ConfigError(
                f"{node_id} holds {held:,} chunks of files. If it is gone for good, say --lost, and run "
                "`mini-s3 check --repair` afterwards: it makes them again where there are other copies."
            )
        if not await Nodes(store.database).remove(node_id):
            raise ConfigError(f"The store knows no node {node_id}. `mini-s3 node list` names those that it knows.")
