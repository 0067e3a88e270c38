"""The command that runs a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from app.cli.options import configured, settings_options
from app.supervisor import supervise


@click.command()
@settings_options()
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server, with embedded MongoDB and Redis unless others are named.

    Each setting may be given as a flag, in a TOML file, or in the environment, in this order of weight.
    """
    with configured(config, flags) as settings:
        asyncio.run(supervise(settings, click.echo))
