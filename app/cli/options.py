"""Flags made from the settings, and what becomes of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from app.cli.text import FAILED_TO_RUN
from app.errors import MiniS3Error
from app.logs import set_up_logs
from app.settings import Settings, load_settings

Command = Callable[..., None]

WHICH_STORE = ("data_dir", "mongo_url", "mongo_database", "nodes", "node_token", "node_ca", "log_level", "log_format")
"""The settings that a command on an existing store takes."""


def settings_options(*names: str) -> Callable[[Command], Command]:
    """A flag for each of these settings, or for all. What is not given is left to the file, the
    environment, the default."""

    def decorate(command: Command) -> Command:
        for name, field in reversed(Settings.model_fields.items()):
            if name in names or not names:
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

    return decorate


@contextmanager
def configured(config: Path | None, flags: Mapping[str, Any], *, quiet: bool = False) -> Iterator[Settings]:
    """The settings, with logs set up (`quiet`: warnings only, unless asked otherwise). Our own errors
    inside end the command with exit code 2."""
    try:
        given = {name: value for name, value in flags.items() if value is not None}
        settings = load_settings(given, config)
        level = settings.log_level
        set_up_logs("error" if quiet and level == "info" else level, settings.log_format)
        yield settings
    except MiniS3Error as error:
        click.echo(f"mini-s3: {error.message}", err=True)
        sys.exit(FAILED_TO_RUN)
