"""`mini-s3 sync`: what is on a server becomes what is in a local folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from app.cli.connection import FAILED, INTERRUPTED, Connect, jobs_option, quiet_option, run, speaks_to_server
from app.cli.put import WORDS, Report
from app.cli.text import lines_as_json_option, plain, size
from app.cli.transfers import Transfers
from app.client import (
    Client,
    MiniS3Error,
    NotFound,
    Outcome,
    Plan,
    Selection,
    StoredFile,
    Upload,
    Wanted,
    plan,
    prefix_of,
    usual_place,
)


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of the command."""

    delete: bool
    keep_old: bool
    exclude: tuple[str, ...]
    dry_run: bool
    jobs: int
    quiet: bool
    as_json: bool


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", "prefix", help="What the names of all files begin with [default: DIR's own name and a slash]")
@click.option("--delete", is_flag=True, help="Delete files below that prefix that are not in DIR")
@click.option("--keep-old", is_flag=True, help="Keep the files that newer ones take the place of")
@click.option("--exclude", multiple=True, help="Leave out what matches, as '*.tmp'; may be repeated")
@click.option("--dry-run", "-n", is_flag=True, help="Only tell what would be done")
@jobs_option
@quiet_option
@lines_as_json_option
@speaks_to_server
def sync(connect: Connect, folder: Path, prefix: str | None, **options: Any) -> None:
    """Make files on the server those of a folder.

    One way: what is not there yet is stored. A file is there if one with its name has its size and its content. Where
    one has changed it is stored, and the files that had its name before are deleted. Running it again after an
    interruption does what is left.

    Exit code 1 if something could not be done.
    """
    choices = Choices(**options)
    prefix = prefix_of(folder) if prefix is None else prefix
    if choices.delete and not prefix:
        raise click.UsageError("--delete without a prefix would delete what else the account has: say --to PREFIX.")
    with Transfers(None, *WORDS, quiet=choices.quiet) as transfers:
        work = _Sync(folder, prefix, choices, transfers)
        try:
            run(connect, work.run, jobs=choices.jobs, cache=usual_place(), waiting=transfers.waiting)
        except KeyboardInterrupt:
            transfers.fail(f"Interrupted. {work.report.sum_up()}. The same command does what is left.")
            sys.exit(INTERRUPTED)
    sys.exit(FAILED if work.report.failed else 0)


class _Sync:
    def __init__(self, folder: Path, prefix: str, choices: Choices, transfers: Transfers) -> None:
        self._folder = folder
        self._prefix = prefix
        self._choices = choices
        self._transfers = transfers
        self._stored: set[str] = set()
        self._deleted = 0
        self.report = Report(transfers, as_json=choices.as_json)

    async def run(self, client: Client) -> None:
        choices = self._choices
        made = await plan(client, self._folder, self._prefix, self._selection(), self._transfers.comparing())
        for path, error in made.failed:
            self.report.fail(path, error)
        if choices.dry_run:
            self._foretell(made)
            return
        self._transfers.expect(sum(one.size for one in made.upload))
        await client.put_all(map(self.report.follow, made.upload), self._done)
        waiting = {one.name for one in made.upload} - self._stored
        await self._delete(client, [file for name in made.replaced.keys() - waiting for file in made.replaced[name]])
        if choices.delete and self.report.failed:
            self._transfers.fail("Nothing that is not in the folder was deleted, for something else failed.")
        elif choices.delete:
            await self._delete(client, made.extra)
        self._transfers.note(f"{self.report.sum_up()}; {made.same:,} were there, {self._deleted:,} deleted")

    def _selection(self) -> Selection:
        return Selection(self._choices.exclude, self._choices.keep_old, self._skipped)

    def _skipped(self, path: Path) -> None:
        self._transfers.note(f"{path} is left out: it is no regular file.")

    def _done(self, outcome: Outcome) -> None:
        self.report.done(outcome)
        if isinstance(outcome.result, Upload):
            self._stored.add(outcome.wanted.name)

    async def _delete(self, client: Client, files: Sequence[StoredFile]) -> None:
        for file in files:
            try:
                await client.delete(file.id)
            except NotFound:
                continue
            except MiniS3Error as error:
                self.report.fail(Path(file.name), error)
                continue
            self._deleted += 1
            self._tell("deleted", file.name, file)

    def _foretell(self, made: Plan) -> None:
        for wanted in made.upload:
            self._tell("would store", wanted.name, wanted)
        replaced = [file for files in made.replaced.values() for file in files]
        for file in [*replaced, *(made.extra if self._choices.delete else [])]:
            self._tell("would delete", file.name, file)

    def _tell(self, what: str, name: str, file: StoredFile | Wanted) -> None:
        if self._choices.as_json:
            view = {"action": what, "name": name, "size": file.size}
            self._transfers.say(json.dumps(view), even_if_quiet=True)
        else:
            self._transfers.say(f"{what:24}  {size(file.size):>10}  {plain(name)}")
