"""`mini-s3 get`: a file of a server, verified, to a local one or to standard output."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from pathlib import Path

import click

from app.cli.connection import INTERRUPTED, Connect, jobs_option, quiet_option, run, speaks_to_server, stored_names
from app.cli.files import file_view, newest_option
from app.cli.text import as_json_option, plain, size
from app.cli.transfers import Row, Transfers
from app.client import Client, StoredFile
from app.http.disposition import harmless

WORDS = "received", "there already"
STANDARD = Path("-")


@click.command()
@click.argument("name_or_id", metavar="ID|NAME", shell_complete=stored_names)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file, or the folder, to write to; - is standard output [default: the last part of its name]",
)
@click.option("--force", "-f", is_flag=True, help="Overwrite the file that is there")
@newest_option
@jobs_option
@quiet_option
@as_json_option
@speaks_to_server
def get(connect: Connect, name_or_id: str, output: Path | None, jobs: int, **flags: bool) -> None:
    """Fetch a file. Each byte is verified.

    It grows in FILE.part, and takes its place when it is whole. After an interruption the same command goes on there.
    """
    streamed = output == STANDARD
    quiet = flags["quiet"] or (streamed and sys.stdout.isatty())
    with Transfers(None, *WORDS, quiet=quiet) as transfers:

        async def fetched(client: Client) -> None:
            file = await client.find(name_or_id, newest=flags["newest"])
            transfers.expect(file.size)
            row = transfers.row(file.name, file.size)
            if streamed:
                await _stream(client, file, row)
                return
            target = target_of(file, output)
            await client.get(file, target, overwrite=flags["force"], watch=row)
            transfers.end(row)
            if flags["as_json"]:
                view = {"path": str(target), **file_view(file), "received": transfers.moved}
                transfers.say(json.dumps(view), even_if_quiet=True)
            else:
                took = f"{transfers.split}, in {transfers.seconds:.1f} s"
                transfers.say(f"{plain(str(target))}  {size(file.size)}: {took}")

        try:
            run(connect, fetched, jobs=jobs, waiting=transfers.waiting)
        except KeyboardInterrupt:
            transfers.fail("Interrupted." if streamed else "Interrupted. The same command goes on with what came.")
            sys.exit(INTERRUPTED)


async def _stream(client: Client, file: StoredFile, row: Row) -> None:
    async with aclosing(client.stream(file, watch=row)) as pieces:
        async for piece in pieces:
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def target_of(file: StoredFile, output: Path | None) -> Path:
    """Where the file goes: never out of the folder, whatever it is called."""
    name = harmless(file.name.rpartition("/")[2]) or file.id
    if output is None:
        return Path(name)
    return output / name if output.is_dir() else output
