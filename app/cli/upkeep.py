"""The commands that keep a store healthy. Each works beside a running server, or without one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from app.api.views import collected_view
from app.cli.options import configured, settings_options
from app.cli.progress import progress_bar
from app.models.runs import Collected, Runs
from app.parts import open_existing
from app.settings import Settings
from app.upkeep.collector import Collector
from app.upkeep.pace import Pace

WHICH_STORE = ("data_dir", "mongo_url", "mongo_database", "nodes", "log_level", "log_format")


@click.command()
@settings_options(*WHICH_STORE, "grace", "upload_expiry")
@click.option("--dry-run", is_flag=True, help="Only tell what would be collected")
@click.option("--json", "as_json", is_flag=True, help="Tell it as JSON")
def gc(config: Path | None, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Collect now: give back the space of deleted files, end abandoned uploads, remove what crashes left.

    The server does this by itself (see --gc-interval of serve). It is safe at any time and stops nobody.
    """
    with configured(config, flags, quiet=True) as settings:
        done = asyncio.run(_collect(settings, dry_run=dry_run))
    if as_json:
        click.echo(json.dumps({"dryRun": dry_run, **collected_view(done)}, indent=2))
        return
    click.echo("Would collect:" if dry_run else "Collected:")
    for count, what in (
        (done.uploads, "abandoned uploads"),
        (done.pages, "pages of deleted files"),
        (done.chunks, "chunks"),
        (done.copies, "unfinished copies"),
        (done.unnamed, "unnamed blobs"),
    ):
        click.echo(f"  {count:>10,} {what}")
    click.echo(f"  {done.bytes:>10,} bytes, in {done.seconds:.1f} s")
    if done.left:
        click.echo(f"  {done.left:,} chunks are left: a node did not remove their blobs. The next run tries again.")


async def _collect(settings: Settings, *, dry_run: bool) -> Collected:
    async with open_existing(settings) as store:
        collector = Collector(store.database, store.cluster, settings.grace, settings.upload_expiry)
        with progress_bar() as progress:
            if dry_run:
                return await collector.foresee(progress)
            done = await collector.run(Pace(), progress, sweep=True)
        await Runs(store.database).record(done)
        return done
