"""The commands for profiles."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from app.cli.profiles import USUAL_URL, Profiles, Server, usual_path
from app.cli.text import FAILED_TO_RUN, as_json_option, columns, say
from app.client.link import Account
from app.errors import ConfigError


@click.group()
def config() -> None:
    """Profiles: the servers that commands speak to, and the keys for them."""


@contextmanager
def _profiles() -> Iterator[Profiles]:
    try:
        yield Profiles(usual_path())
    except (ConfigError, OSError) as error:
        click.echo(f"mini-s3: {error}", err=True)
        sys.exit(FAILED_TO_RUN)


@config.command("set")
@click.argument("name")
@click.option("--url", default=USUAL_URL, show_default=True, help="Where the server is")
@click.option("--access-key", default="", help="The key; its secret is asked for, or read from standard input")
def set_profile(name: str, url: str, access_key: str) -> None:
    """Make a profile, or replace it. The first one is used where none is named."""
    with _profiles() as profiles:
        secret = _secret() if access_key else ""
        Account(url, access_key, secret)
        profiles.set(name, Server(url, access_key, secret))
        profiles.save()
        click.echo(f"{name} is in {profiles.path}")


def _secret() -> str:
    """Not from a flag, which others can see in the list of processes."""
    if sys.stdin.isatty():
        secret: str = click.prompt("Secret key", hide_input=True)
        return secret
    return sys.stdin.readline().strip()


@config.command("list")
@as_json_option
def list_profiles(as_json: bool) -> None:
    """List the profiles, without secrets."""
    with _profiles() as profiles:
        current = profiles.current
        views = [
            {"name": name, "url": server.url, "accessKey": server.access_key or None, "current": name == current}
            for name, server in profiles.servers.items()
        ]
        rows = [("", "PROFILE", "KEY", "URL")]
        rows += [
            ("*" if name == current else "", name, server.access_key or "-", server.url)
            for name, server in profiles.servers.items()
        ]
        say(as_json, {"profiles": views}, columns(rows, left=len(rows[0])))


@config.command()
@click.argument("name")
def use(name: str) -> None:
    """Use a profile where none is named."""
    with _profiles() as profiles:
        profiles.use(name)
        profiles.save()


@config.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a profile and its key."""
    with _profiles() as profiles:
        profiles.remove(name)
        profiles.save()
