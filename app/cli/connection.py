"""What the commands share that speak to a server: its address and key, the client, and what becomes of errors."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

import click

from app.cli.profiles import Profiles, chosen, usual_path
from app.cli.text import FAILED_TO_RUN
from app.client import Client, ConfigError, FileExists, MiniS3Error, NotRegular, Unauthenticated

T = TypeVar("T")

FAILED = 1
"""Exit code where something that was asked for could not be done."""
INTERRUPTED = 130
"""As shells have it: 128 and the number of SIGINT."""

_COMPLETED = 200
"""Names that are offered to a shell."""

_HINTS: dict[type[MiniS3Error], str] = {
    Unauthenticated: "`mini-s3 config set` keeps a key, or set MINI_S3_ACCESS_KEY and MINI_S3_SECRET_KEY.",
    NotRegular: "A folder takes --recursive; pipe anything else into `mini-s3 put -`.",
    FileExists: "Name another one with -o, or overwrite it with --force.",
}

Command = Callable[..., None]
Connect = Callable[..., Client]
"""Makes the client of a command; takes what `Client` takes by name."""

jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="Transfers at the same time"
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Tell of errors only")


def _profiles(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """For a shell that completes words."""
    try:
        return [name for name in Profiles(usual_path()).servers if name.startswith(incomplete)]
    except ConfigError:
        return []


def stored_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of files on the server, for a shell that completes words: those of the newest."""

    async def found(client: Client) -> list[str]:
        names: list[str] = []
        async with aclosing(client.files(incomplete)) as files:
            async for file in files:
                names.append(file.name)
                if len(names) == _COMPLETED:
                    break
        return names

    try:
        server = chosen(ctx.params.get("url"), ctx.params.get("profile"), os.environ)
        return run(lambda **settings: Client(server.url, server.keys, **settings), found, patience=0)
    except (MiniS3Error, OSError):
        return []


def speaks_to_server(command: Command) -> Command:
    """Gives a command `connect`, and the options that say to which server. Errors end it with their exit code."""

    @click.option("--url", help="The server, as http://HOST:PORT [MINI_S3_URL]")
    @click.option(
        "--profile",
        shell_complete=_profiles,
        help="A profile of `mini-s3 config` [MINI_S3_PROFILE; default: the one in use]",
    )
    @wraps(command)
    def decorated(url: str | None, profile: str | None, **options: Any) -> None:
        def connect(**settings: Any) -> Client:
            server = chosen(url, profile, os.environ)
            return Client(server.url, server.keys, **settings)

        with_exit_codes(lambda: command(connect=connect, **options))

    return decorated


def with_exit_codes(work: Callable[[], None]) -> None:
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # Who reads has enough. What is left in the buffer must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (MiniS3Error, OSError) as error:
        click.echo(f"mini-s3: {told(error)}", err=True)
        sys.exit(FAILED_TO_RUN if isinstance(error, ConfigError) else FAILED)


def told(error: MiniS3Error | OSError) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
    return f"{error} {hint}".rstrip()


def run(connect: Connect, work: Callable[[Client], Awaitable[T]], **settings: Any) -> T:
    async def connected() -> T:
        async with connect(**settings) as client:
            return await work(client)

    return asyncio.run(connected())
