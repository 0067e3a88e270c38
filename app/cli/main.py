"""The `mini-s3` command."""

from __future__ import annotations

from typing import ClassVar

import click

from app.starting import imported


class _Commands(click.Group):
    """Imports a command only when it is asked for: the process that supervises a server stays small, and those that
    speak to one begin soon."""

    OF_FILES: ClassVar = {
        "put": "app.cli.put:put",
        "get": "app.cli.get:get",
        "sync": "app.cli.sync:sync",
        "ls": "app.cli.files:ls",
        "info": "app.cli.files:info",
        "rm": "app.cli.files:rm",
        "du": "app.cli.du:du",
        "hash": "app.cli.files:hash_files",
        "ping": "app.cli.files:ping",
        "config": "app.cli.config:config",
    }
    OF_STORES: ClassVar = {
        "serve": "app.cli.serve:serve",
        "key": "app.cli.key:key",
        "node": "app.cli.node:node",
        "check": "app.cli.upkeep:check",
        "gc": "app.cli.upkeep:gc",
        "usage": "app.cli.upkeep:usage",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*self.OF_FILES, *self.OF_STORES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        place = (self.OF_FILES | self.OF_STORES).get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(imported(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = (("Files on a server", self.OF_FILES), ("Servers, and the store behind them", self.OF_STORES))
        for title, names in sections:
            commands = ((name, self.get_command(ctx, name)) for name in names)
            with formatter.section(title):
                formatter.write_dl([(name, found.get_short_help_str(90)) for name, found in commands if found])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mini-s3")
def main() -> None:
    """Mini-S3: a streaming, content-addressed, deduplicating object store."""
