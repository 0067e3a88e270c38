"""The commands on files of a server that move none of their bytes."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import click

from app.cli.connection import FAILED, Connect, quiet_option, run, speaks_to_server, stored_names, told
from app.cli.text import as_json_option, lines_as_json_option, plain, say, size
from app.client import Client, MiniS3Error, StoredFile, usual_place

newest_option = click.option("--newest", is_flag=True, help="Of several files with the name, take the newest")


def file_view(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "size": file.size,
        "contentType": file.content_type,
        "contentId": file.content_id,
        "createdAt": file.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **({"bucket": file.bucket} if file.bucket else {}),
    }


@click.command()
@click.argument("prefix", default="")
@click.option("--long", "-l", "as_long", is_flag=True, help="With ids, sizes and times (UTC)")
@click.option("--limit", type=click.IntRange(1), help="The newest so many only")
@lines_as_json_option
@speaks_to_server
def ls(connect: Connect, prefix: str, as_long: bool, limit: int | None, as_json: bool) -> None:
    """List files, newest first: those whose names begin with PREFIX."""

    async def listed(client: Client) -> None:
        count = 0
        files: AsyncGenerator[StoredFile, None] = client.files(prefix)
        async for file in files:
            if as_json:
                click.echo(json.dumps(file_view(file)))
            elif as_long:
                click.echo(f"{file.id}  {size(file.size):>10}  {file.created_at:%Y-%m-%d %H:%M:%S}  {plain(file.name)}")
            else:
                click.echo(plain(file.name))
            count += 1
            if count == limit:
                await files.aclose()
                return

    run(connect, listed)


@click.command()
@click.argument("name_or_id", metavar="ID|NAME", shell_complete=stored_names)
@newest_option
@as_json_option
@speaks_to_server
def info(connect: Connect, name_or_id: str, newest: bool, as_json: bool) -> None:
    """Tell what is known of a file."""

    async def asked(client: Client) -> None:
        details = await client.info((await client.find(name_or_id, newest=newest)).id)
        file = details.file
        view = {**file_view(file), "chunks": details.chunks, "uniqueBytes": details.unique_bytes}
        lines = [
            f"Id            {file.id}",
            f"Name          {plain(file.name)}",
            f"Size          {size(file.size)} ({file.size:,} bytes) in {details.chunks:,} chunks",
            f"Only here     {size(details.unique_bytes)}: what deleting it gives back",
            f"Content type  {plain(file.content_type)}",
            f"Content id    {file.content_id}",
            f"Created       {file.created_at:%Y-%m-%d %H:%M:%S} UTC",
        ]
        say(as_json, view, lines)

    run(connect, asked)


@click.command()
@click.argument("names_or_ids", metavar="ID|NAME…", nargs=-1, required=True, shell_complete=stored_names)
@click.option("--all", "every", is_flag=True, help="All files with the name, where there are several")
@quiet_option
@lines_as_json_option
@speaks_to_server
def rm(connect: Connect, names_or_ids: tuple[str, ...], every: bool, quiet: bool, as_json: bool) -> None:
    """Delete files.

    Exit code 1 if one of them could not be.
    """

    async def deleted(client: Client) -> bool:
        failed = False
        for one in names_or_ids:
            try:
                for file in (every and await client.named(one)) or [await client.find(one)]:
                    await client.delete(file.id)
                    if as_json:
                        click.echo(json.dumps({"action": "deleted", **file_view(file)}))
                    elif not quiet:
                        click.echo(f"{file.id}  {plain(file.name)}  deleted")
            except MiniS3Error as error:
                failed = True
                click.echo(f"mini-s3: {one}: {told(error)}", err=True)
        return failed

    sys.exit(FAILED if run(connect, deleted) else 0)


@click.command("hash")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@lines_as_json_option
@speaks_to_server
def hash_files(connect: Connect, files: tuple[Path, ...], as_json: bool) -> None:
    """Compute the content ids of local files.

    They are printed as `sha256sum` prints its sums. No server is asked.
    """

    async def hashed(client: Client) -> None:
        for path in files:
            found = await client.content_id(path)
            click.echo(json.dumps({"path": str(path), "contentId": found}) if as_json else f"{found}  {path}")

    run(connect, hashed, cache=usual_place())


@click.command()
@as_json_option
@speaks_to_server
def ping(connect: Connect, as_json: bool) -> None:
    """See whether the server is ready and knows the key."""

    async def pinged(client: Client) -> None:
        seconds = await client.ping()
        say(as_json, {"seconds": seconds}, [f"The server is ready: {1000 * seconds:.1f} ms"])

    run(connect, pinged)
