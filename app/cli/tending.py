"""The commands that move what a store holds between its nodes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.api.views import task_view
from app.cli.options import WHICH_STORE, configured, settings_options
from app.cli.progress import progress_bar
from app.cli.reports import task_lines
from app.cli.text import as_json_option, say
from app.models.nodes import Nodes, Wish
from app.models.tasks import Task, Tasks
from app.parts import Foundation, open_existing
from app.settings import Settings
from app.streams.hasher import Hasher
from app.types import NodeId, Redundancy
from app.upkeep.chore import Chore
from app.upkeep.membership import unknown_node
from app.upkeep.rebalance import parameters_of
from app.upkeep.tending import Tending

LEFT = 1
"""Exit code where something could not be moved."""

_in_background = click.option("--background", is_flag=True, help="Leave it to a server, and do not wait")


@click.command()
@click.argument("node_id", metavar="NODE")
@settings_options(*WHICH_STORE, "placement", "upkeep_rate")
@_in_background
@as_json_option
def drain(node_id: str, background: bool, as_json: bool, config: Path | None, **flags: Any) -> None:
    """Move all that a node holds to others; it gets nothing new from now on.

    It may be broken off at any time: a server goes on with it, or this command, when it is run again.
    """
    with configured(config, flags, quiet=True) as settings:
        task = asyncio.run(_drain(settings, NodeId(node_id), background=background))
        done = f"{node_id} is empty. `mini-s3 node remove {node_id}` takes it out of the store."
        _tell(task, as_json, f"{node_id} gets nothing new. Servers empty it.", done)


async def _drain(settings: Settings, node: NodeId, *, background: bool) -> Task | None:
    async with open_existing(settings) as store:
        if not await Nodes(store.database).change(node, Wish(use="draining")):
            raise unknown_node(node)
        return None if background else await _finished(store, settings, Tending.drain)


@click.command()
@settings_options(*WHICH_STORE, "placement", "upkeep_rate")
@click.option("--redundancy", "wanted", help="Keep all chunks like this from now on: 1 to 9 copies, or ec:K+M")
@_in_background
@as_json_option
def rebalance(wanted: str | None, background: bool, as_json: bool, config: Path | None, **flags: Any) -> None:
    """Move blobs to where they would be placed now: to nodes that were added, from those that have too much.

    Only what must move does. It may be broken off at any time, and goes on there when it is run again.
    """
    try:
        redundancy = Redundancy.parse(wanted) if wanted else None
    except ValueError as error:
        raise click.UsageError(f"--redundancy {error}") from error
    with configured(config, flags, quiet=True) as settings:
        task = asyncio.run(_rebalance(settings, redundancy, background=background))
        _tell(task, as_json, "Servers do it. /api/stats tells how far they are.", "All is where it should be.")


async def _rebalance(settings: Settings, redundancy: Redundancy | None, *, background: bool) -> Task | None:
    async with open_existing(settings) as store:
        if background:
            await Tasks(store.database).ask("rebalance", parameters_of(redundancy))
            return None
        return await _finished(store, settings, lambda tending: tending.rebalance(redundancy))


async def _finished(store: Foundation, settings: Settings, chosen: Callable[[Tending], Chore]) -> Task:
    hasher = Hasher()
    try:
        tending = Tending(store.database, store.cluster, hasher, settings.upkeep_rate)
        with progress_bar() as progress:
            return await tending.finish(chosen(tending), progress)
    finally:
        hasher.close()


def _tell(task: Task | None, as_json: bool, begun: str, done: str) -> None:
    """What was done, or that others will; ends the command with 1 where something is left to do."""
    say(as_json, task_view(task) if task else {"background": True}, task_lines(task, done) if task else [begun])
    if task and task.done.waiting:
        sys.exit(LEFT)
