"""The `mini-s3` command."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import click

from app.cli.options import configured, settings_options
from app.supervisor import supervise


class _Commands(click.Group):
    """Imports the commands that need more than the process that supervises a server only when they are
    asked for: that stays small."""

    LATE: ClassVar = {
        "check": "app.cli.upkeep",
        "gc": "app.cli.upkeep",
        "key": "app.cli.key",
        "node": "app.cli.node",
        "usage": "app.cli.upkeep",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.LATE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.LATE:
            command: click.Command = getattr(import_module(self.LATE[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mini-s3")
def main() -> None:
    """Mini-S3: a streaming, content-addressed, deduplicating object store."""


@main.command()
@settings_options()
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server, with embedded MongoDB and Redis unless others are named.

    Each setting may be given as a flag, in a TOML file, or in the environment, in this order of weight.
    """
    with configured(config, flags) as settings:
        asyncio.run(supervise(settings, click.echo))
