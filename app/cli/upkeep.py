"""The commands that keep a store healthy. Each works beside a running server, or without one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from app.api.views import collected_view
from app.cli.options import WHICH_STORE, configured, settings_options
from app.cli.progress import progress_bar
from app.cli.reports import check_lines, check_view, collected_lines, usage_lines, usage_view
from app.cli.text import as_json_option, say
from app.models.runs import Collected, Runs
from app.parts import open_existing
from app.settings import Settings
from app.upkeep.check import open_checker
from app.upkeep.collector import Collector
from app.upkeep.findings import Report
from app.upkeep.pace import Pace
from app.upkeep.usage import Group, Usage

DAMAGE = 1


@click.command()
@settings_options(*WHICH_STORE, "grace", "upload_expiry")
@click.option("--dry-run", is_flag=True, help="Only tell what would be collected")
@as_json_option
def gc(config: Path | None, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Collect now: give back the space of deleted files, end abandoned uploads, remove what crashes left.

    The server does this by itself (see --gc-interval of serve). It is safe at any time and stops nobody.
    """
    with configured(config, flags, quiet=True) as settings:
        done = asyncio.run(_collect(settings, dry_run=dry_run))
        say(as_json, {"dryRun": dry_run, **collected_view(done)}, collected_lines(done, dry_run=dry_run))


async def _collect(settings: Settings, *, dry_run: bool) -> Collected:
    async with open_existing(settings) as store:
        collector = Collector(store.database, store.cluster, settings.grace, settings.upload_expiry)
        with progress_bar() as progress:
            if dry_run:
                return await collector.foresee(progress)
            done = await collector.run(Pace(), progress, sweep=True)
        runs = Runs(store.database)
        await runs.record(done)
        return await runs.last() or done


@click.command()
@settings_options(*WHICH_STORE)
@click.option("--read-data", is_flag=True, help="Read every stored byte and compare its digest")
@click.option("--repair", is_flag=True, help="Mend what can be mended; put bad blobs aside")
@click.option("--force", is_flag=True, help="With --repair: delete what nobody needs even while bytes are missing")
@as_json_option
def check(config: Path | None, read_data: bool, repair: bool, force: bool, as_json: bool, **flags: Any) -> None:
    """See that everything is there that files need, and nothing else.

    Exit code 0: all is well, or was mended. 1: there is damage. 2: the check could not run.
    """
    with configured(config, flags, quiet=True) as settings:
        report = asyncio.run(_check(settings, read_data=read_data, repair=repair, force=force))
        say(as_json, check_view(report), check_lines(report, repair=repair))
    sys.exit(DAMAGE if report.left else 0)


async def _check(settings: Settings, *, read_data: bool, repair: bool, force: bool) -> Report:
    async with open_existing(settings) as store, open_checker(store.database, store.cluster) as checker:
        with progress_bar() as progress:
            return await checker.run(progress, read_data=read_data, repair=repair, force=force)


@click.command()
@settings_options(*WHICH_STORE)
@click.option("--prefix", default="", help="Only files whose names begin so")
@click.option("--depth", default=1, type=click.IntRange(0), help="Slashes behind the prefix that part groups")
@as_json_option
def usage(config: Path | None, prefix: str, depth: int, as_json: bool, **flags: Any) -> None:
    """List how many bytes each group of names holds: in all, alone, and together with others.

    Deleting a whole group gives back its unique bytes.
    """
    with configured(config, flags, quiet=True) as settings:
        groups, total = asyncio.run(_use(settings, prefix, depth))
        say(as_json, usage_view(groups, total), usage_lines(groups, total))


async def _use(settings: Settings, prefix: str, depth: int) -> tuple[list[Group], Group]:
    async with open_existing(settings) as store:
        with progress_bar() as progress:
            return await Usage(store.database).run(prefix, depth, progress)
