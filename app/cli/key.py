"""The commands for access keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import click

from app.api.views import View, instant
from app.cli.options import WHICH_STORE, configured, settings_options
from app.cli.text import as_json_option, columns, say
from app.models.keys import KeyEntry, Keys, Permission, Scope
from app.parts import open_known_database
from app.settings import Settings
from app.store.access import LOCAL, PERMISSIONS
from app.store.credentials import master_key
from app.store.keyring import Keyring, NewKey, Wanted
from app.store.sealing import Sealer

T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,5})([smhdw])", re.ASCII)
_ONCE = "The secret is shown this once: keep it."


@click.group()
def key() -> None:
    """Access keys: who may call the servers of a store, and for what. Servers follow changes within 2 seconds."""


class _Span(click.ParamType[timedelta]):
    """A time as 90s, 30m, 12h, 30d or 4w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is no time: write 90s, 30m, 12h, 30d or 4w.", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class _Moment(click.ParamType["datetime | timedelta"]):
    """A time from now, or a date with or without a time, in UTC if it names no zone."""

    name = "time or date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        if _SPAN.fullmatch(str(value)):
            return _Span().convert(value, param, ctx)
        try:
            moment = datetime.fromisoformat(str(value))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time and no date: write 30d, 2027-01-31 or 2027-01-31T12:00Z.", param, ctx)


class _Permissions(click.ParamType["frozenset[Permission]"]):
    name = "permissions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[Permission]:
        if isinstance(value, frozenset):
            return value
        words = {word.strip() for word in str(value).split(",") if word.strip()}
        if unknown := words - PERMISSIONS:
            self.fail(f"{', '.join(sorted(unknown))}: a key allows read, write, list, delete and admin.", param, ctx)
        return frozenset(permission for permission in PERMISSIONS if permission in words)


@key.command()
@settings_options(*WHICH_STORE, "master_key")
@click.option("--owner", default=LOCAL, show_default=True, help="The account that it speaks for, and that owns files")
@click.option(
    "--allow",
    "permissions",
    type=_Permissions(),
    default="read,write,list,delete",
    show_default=True,
    help="What it allows: of these, and admin, which is about the whole store and the files of all accounts",
)
@click.option("--bucket", "buckets", multiple=True, help="Only in this bucket; may be repeated")
@click.option(
    "--prefix",
    "prefixes",
    multiple=True,
    help="Only keys that begin so, in each of the buckets; without one, files of the native API; may be repeated",
)
@click.option("--expires", type=_Moment(), help="When it ends: 30d from now, or on 2027-01-31 (UTC) [default: never]")
@as_json_option
def create(
    buckets: tuple[str, ...], prefixes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any
) -> None:
    """Make an access key, and show its secret this once."""
    scopes = tuple(Scope(*pair) for pair in product(buckets or ("",), prefixes or ("",))) if buckets or prefixes else ()
    wished = {name: options.pop(name) for name in ("owner", "permissions", "expires")}
    with configured(config, options, quiet=True) as settings:
        wanted, sealer = Wanted(scopes=scopes, **wished), Sealer(master_key(settings))
        new: NewKey = _with_keyring(settings, lambda ring: ring.create(wanted, sealer))
        lines = [f"Access key: {new.entry.id}", f"Secret key: {new.secret}", _ONCE]
        if new.is_first:
            lines.append("It is the first key of the store: from now on its servers ask every caller for one.")
        say(as_json, {**_view(new.entry), "secretKey": new.secret}, lines)


@key.command("list")
@settings_options(*WHICH_STORE)
@as_json_option
def list_keys(config: Path | None, as_json: bool, **flags: Any) -> None:
    """List the access keys of a store, without their secrets. The root key is not among them."""
    with configured(config, flags, quiet=True) as settings:
        entries = _with_keyring(settings, lambda ring: ring.entries())
        say(as_json, {"keys": list(map(_view, entries))}, _lines(entries))


def _change(name: str, work: Callable[[Keyring, str], Awaitable[None]], told: str, help_text: str) -> None:
    @key.command(name, help=help_text)
    @click.argument("access_key", metavar="KEY")
    @settings_options(*WHICH_STORE)
    @as_json_option
    def change(access_key: str, config: Path | None, as_json: bool, **flags: Any) -> None:
        with configured(config, flags, quiet=True) as settings:
            _with_keyring(settings, lambda ring: work(ring, access_key))
            say(as_json, {"accessKey": access_key, "done": name}, [f"{access_key} {told}"])


_change("disable", Keyring.disable, "is refused from now on.", "Refuse a key, until it is enabled again.")
_change("enable", Keyring.enable, "is accepted again.", "Accept a key again that was disabled.")
_change("delete", Keyring.delete, "is deleted.", "Delete a key. What its account owns stays.")


@key.command()
@click.argument("access_key", metavar="KEY")
@settings_options(*WHICH_STORE, "master_key")
@click.option("--grace", type=_Span(), default="0s", show_default=True, help="How long the old secret stays valid: 12h")
@as_json_option
def rotate(access_key: str, grace: timedelta, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Give a key another secret, and show it this once. Of the secrets before, only the last can stay valid."""
    with configured(config, flags, quiet=True) as settings:
        sealer = Sealer(master_key(settings))
        secret = _with_keyring(settings, lambda ring: ring.rotate(access_key, grace, sealer))
        say(as_json, {"accessKey": access_key, "secretKey": secret}, [f"Secret key: {secret}", _ONCE])


def _with_keyring(settings: Settings, work: Callable[[Keyring], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_known_database(settings) as (database, _):
            return await work(Keyring(Keys(database)))

    return asyncio.run(opened())


def _view(entry: KeyEntry) -> View:
    return {
        "accessKey": entry.id,
        "owner": entry.owner,
        "permissions": sorted(entry.permissions),
        "scopes": [{"bucket": scope.bucket, "prefix": scope.prefix} for scope in entry.scopes],
        "createdAt": instant(entry.created_at),
        "expiresAt": instant(entry.expires_at) if entry.expires_at else None,
        "disabled": entry.disabled,
        "oldSecretUntil": instant(entry.rotated.until) if entry.rotated else None,
    }


def _lines(entries: list[KeyEntry]) -> list[str]:
    rows = [("KEY", "OWNER", "STATE", "EXPIRES", "ALLOWS", "ONLY")]
    rows += [
        (
            entry.id,
            entry.owner,
            "disabled" if entry.disabled else "enabled",
            f"{entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "never",
            ",".join(sorted(entry.permissions)),
            ", ".join(f"{scope.bucket or '(native)'}/{scope.prefix}" for scope in entry.scopes) or "-",
        )
        for entry in entries
    ]
    return columns(rows, left=len(rows[0]))
