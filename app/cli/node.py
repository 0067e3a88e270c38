"""The commands for storage nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from app.cli.options import WHICH_STORE, configured, settings_options
from app.cli.reports import NodeRow, node_lines, node_view
from app.cli.tending import drain, rebalance
from app.cli.text import as_json_option, say
from app.models.nodes import Nodes, Use, Wish
from app.models.tallies import NodeTally, Tallies
from app.node_server import serve_node
from app.parts import node_opener, open_existing, open_known_database
from app.serving import run, tls_with
from app.settings import Settings
from app.types import NodeId
from app.upkeep.membership import Membership

T = TypeVar("T")


@click.group()
def node() -> None:
    """Storage nodes: list them, take them into the store and out of it, serve one to other machines."""


node.add_command(drain)
node.add_command(rebalance)


@node.command()
@click.option("--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where the blobs lie")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option("--port", default=8001, show_default=True, help="Port to listen on; 0 takes a free one")
@click.option("--token", help="What callers must know; others can see it in the list of processes [MINI_S3_NODE_TOKEN]")
@click.option("--token-file", type=click.File("rb"), help="A file that holds the token, and nothing else")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate for HTTPS, and its chain: a PEM file")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The key that belongs to it: a PEM file, no password")
@settings_options("shutdown_timeout", "log_level", "log_format")
def serve(
    directory: Path,
    token: str | None,
    token_file: BinaryIO | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    config: Path | None,
    **flags: Any,
) -> None:
    """Serve a directory as a node to gateways on other machines, which name it as http://HOST:PORT, or
    with a certificate as https://HOST:PORT.

    It takes neither MongoDB nor Redis. Whoever knows the token may read, write and delete every blob,
    and without a certificate it passes in clear: then serve only in a network that you trust.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("A certificate and its key go together: give --tls-cert and --tls-key, or neither.")
    if token_file is not None:
        if token is not None:
            raise click.UsageError("Give the token once: with --token or with --token-file.")
        token = token_file.read().decode(errors="replace").strip()
    with configured(config, {**flags, "node_token": token}) as settings:
        tls = tls_with(tls_cert, tls_key) if tls_cert and tls_key else None
        run(serve_node(directory, settings, click.echo, tls))


@node.command("list")
@settings_options(*WHICH_STORE)
@as_json_option
def list_nodes(config: Path | None, as_json: bool, **flags: Any) -> None:
    """List the nodes of a store, how each is, and how many chunks of files it holds."""
    with configured(config, flags, quiet=True) as settings:
        rows = asyncio.run(_rows(settings))
        say(as_json, {"nodes": list(map(node_view, rows))}, node_lines(rows))


async def _rows(settings: Settings) -> list[NodeRow]:
    async with open_existing(settings) as store:
        tally = await Tallies(store.database).read()
        statuses = {status.id: status for status in await store.cluster.statuses()}
        return [
            NodeRow(entry, statuses[entry.id], tally.nodes.get(entry.id, NodeTally()))
            for entry in await Nodes(store.database).entries()
            if entry.id in statuses
        ]


def weight_and_zone(command: Callable[..., None]) -> Callable[..., None]:
    weight = click.option("--weight", type=float, help="How much it gets, compared with others [default 1]")
    zone = click.option("--zone", help="What it shares with others: copies go to different zones")
    return weight(zone(command))


@node.command()
@click.argument("url")
@settings_options(*WHICH_STORE)
@weight_and_zone
def add(url: str, weight: float | None, zone: str | None, config: Path | None, **flags: Any) -> None:
    """Take a node into a store: a directory, a node server, or a bucket. Servers that run open it within seconds.

    A directory must be at the same path on every machine that runs a server.
    """

    async def work(members: Membership) -> str:
        return (await members.add(url, Wish(weight, zone))).id

    with configured(config, flags, quiet=True) as settings:
        click.echo(_with_members(settings, work))


@node.command("set")
@click.argument("node_id", metavar="NODE")
@settings_options(*WHICH_STORE)
@weight_and_zone
@click.option("--state", type=click.Choice(["active", "readonly", "draining"]), help="Only active ones get new chunks")
def set_node(
    node_id: str, weight: float | None, zone: str | None, state: Use | None, config: Path | None, **flags: Any
) -> None:
    """Say how much a node gets, which zone it is in, and whether it gets anything new."""
    with configured(config, flags, quiet=True) as settings:
        wish = Wish(weight, zone, state)
        if wish == Wish():
            raise click.UsageError("Say what is to change: --weight, --zone or --state.")
        _with_members(settings, lambda members: members.change(NodeId(node_id), wish))


@node.command()
@click.argument("node_id", metavar="NODE")
@settings_options(*WHICH_STORE)
@click.option("--lost", is_flag=True, help="It is gone for good: the chunks on it count as missing from now on")
def remove(node_id: str, lost: bool, config: Path | None, **flags: Any) -> None:
    """Take a node out of a store that holds nothing any more, or is lost. Do not name it with --nodes any more.

    What a node held that is lost is made again from other copies by `mini-s3 check --repair`.
    """

    async def work(members: Membership) -> None:
        await (members.forget if lost else members.remove)(NodeId(node_id))

    with configured(config, flags, quiet=True) as settings:
        _with_members(settings, work)
        click.echo(f"{node_id} is no node of this store any more.")


def _with_members(settings: Settings, work: Callable[[Membership], Coroutine[None, None, T]]) -> T:
    async def opened() -> T:
        async with open_known_database(settings) as (database, store_id):
            return await work(Membership(database, node_opener(settings, database, store_id)))

    return asyncio.run(opened())
