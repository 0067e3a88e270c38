"""The `mini-s3` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.errors import ConfigError
from app.logs import set_up_logs
from app.settings import Settings, load_settings
from app.supervisor import supervise

FAILED_TO_RUN = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mini-s3")
def main() -> None:
    """Mini-S3: a streaming, content-addressed, deduplicating object store."""


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """A flag for every setting. What is not given is left to the file, the environment, the default."""
    for name, field in reversed(Settings.model_fields.items()):
        default = field.get_default()
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        text = f"{field.description} [MINI_S3_{name.upper()}{f'; default {shown}' if shown else ''}]"
        command = click.option(f"--{name.replace('_', '-')}", name, default=None, help=text)(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="MINI_S3_CONFIG",
        help="A TOML file of settings; it goes before the environment [MINI_S3_CONFIG]",
    )(command)


@main.command()
@settings_options
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server, with embedded MongoDB and Redis unless others are named.

    Each setting may be given as a flag, in a TOML file, or in the environment, in this order of weight.
    """
    try:
        settings = load_settings({name: value for name, value in flags.items() if value is not None}, config)
        set_up_logs(settings.log_level, settings.log_format)
        asyncio.run(supervise(settings, click.echo))
    except ConfigError as error:
        click.echo(f"mini-s3: {error.message}", err=True)
        sys.exit(FAILED_TO_RUN)


if __name__ == "__main__":
    main()
