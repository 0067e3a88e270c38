"""The `mini-s3` command."""

from __future__ import annotations

from typing import ClassVar

import click

from app.starting import imported


class _Commands(click.Group):
    """Imports a command only when it is asked for: the process that supervises a server stays small."""

    PLACES: ClassVar = {
        "check": "app.cli.upkeep:check",
        "gc": "app.cli.upkeep:gc",
        "key": "app.cli.key:key",
        "node": "app.cli.node:node",
        "serve": "app.cli.serve:serve",
        "usage": "app.cli.upkeep:usage",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        place = self.PLACES.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(imported(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mini-s3")
def main() -> None:
    """Mini-S3: a streaming, content-addressed, deduplicating object store."""
