"""`mini-s3 put`: local files, folders, and what comes through a pipe, to a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from app.cli.connection import FAILED, INTERRUPTED, Connect, jobs_option, quiet_option, run, speaks_to_server, told
from app.cli.files import file_view
from app.cli.text import lines_as_json_option, plain, size
from app.cli.transfers import Row, Transfers
from app.client import Client, MiniS3Error, Outcome, Upload, Wanted, files_below, prefix_of, usual_place
from app.client.pipes import pieces_of

WORDS = "sent", "deduplicated"
RESUMES = "The same command goes on in the middle of large files: the server keeps what it has of them, for a day."


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of the command that concern all files."""

    recursive: bool
    prefix: str
    content_type: str
    no_cache: bool
    jobs: int
    quiet: bool
    as_json: bool

    @property
    def cache(self) -> Path | None:
        return None if self.no_cache else usual_place()


class Report:
    """What becomes of many files, as it becomes known."""

    def __init__(self, transfers: Transfers, *, as_json: bool) -> None:
        self._transfers = transfers
        self._as_json = as_json
        self.stored = self.failed = self.bytes = 0

    def follow(self, wanted: Wanted) -> Wanted:
        """The file, with its bar."""
        return replace(wanted, watch=self._transfers.row(wanted.name, wanted.size))

    def done(self, outcome: Outcome) -> None:
        row = outcome.wanted.watch
        assert isinstance(row, Row)  # noqa: S101 - from `follow`
        self._transfers.end(row)
        result = outcome.result
        if isinstance(result, Upload):
            self.stored += 1
            self.bytes += result.file.size
            self._transfers.say(self._line(outcome.wanted, result), even_if_quiet=self._as_json)
        else:
            self.fail(outcome.wanted.path, result)

    def fail(self, path: Path, error: MiniS3Error | OSError) -> None:
        self.failed += 1
        words = told(error)
        self._transfers.fail(f"mini-s3: {words if words.startswith(str(path)) else f'{path}: {words}'}")
        if self._as_json:
            code = error.code if isinstance(error, MiniS3Error) else "not-readable"
            view = {"path": str(path), "error": {"code": code, "message": told(error)}}
            self._transfers.say(json.dumps(view), even_if_quiet=True)

    def _line(self, wanted: Wanted, upload: Upload) -> str:
        if self._as_json:
            return json.dumps({"path": str(wanted.path), **upload_view(upload)})
        file = upload.file
        return f"{file.id}  {size(file.size):>10}  {size(upload.sent):>10} sent  {plain(file.name)}"

    def sum_up(self, verb: str = "Stored") -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        return (
            f"{verb} {self.stored:,} {'file' if self.stored == 1 else 'files'}, {size(self.bytes)}{failed}: "
            f"{self._transfers.split}, in {self._transfers.seconds:.1f} s"
        )


def upload_view(upload: Upload) -> dict[str, Any]:
    return {**file_view(upload.file), "how": upload.how, "sent": upload.sent, "deduplicated": upload.spared}


@click.command()
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--recursive", "-r", is_flag=True, help="Folders too, with all that is in them")
@click.option("--name", help="The name to store it under; needed for -, standard input")
@click.option("--prefix", default="", help="What all names begin with, as backups/")
@click.option("--content-type", default="", help="Instead of what the name's ending tells")
@click.option("--no-cache", is_flag=True, help="Read all of each file, and remember nothing of it")
@jobs_option
@quiet_option
@lines_as_json_option
@speaks_to_server
def put(connect: Connect, paths: tuple[Path, ...], name: str | None, **options: Any) -> None:
    """Store files. Only what the server does not have is sent.

    A file is called as it is; one in a folder FOLDER, taken with --recursive, FOLDER/PATH/FILE. Storing a name again
    makes another file. `-` is standard input: `tar c . | mini-s3 put - --name x.tar`.

    Exit code 1 if a file could not be stored.
    """
    if name is not None and len(paths) > 1:
        raise click.UsageError("--name is for one file.")
    if Path("-") in paths:
        if name is None or len(paths) > 1:
            raise click.UsageError("Standard input goes alone, and needs a --name.")
        sys.exit(_put_pipe(connect, name, Choices(**options)))
    sys.exit(_put_files(connect, paths, name, Choices(**options)))


def _put_files(connect: Connect, paths: tuple[Path, ...], name: str | None, choices: Choices) -> int:
    skipped: list[Path] = []
    wanted = list(_wanted(paths, name, choices, skipped))
    with Transfers(sum(one.size for one in wanted), *WORDS, quiet=choices.quiet) as transfers:
        report = Report(transfers, as_json=choices.as_json)
        for path in skipped:
            transfers.note(f"{path} is left out: it is no regular file.")
        try:
            work = partial(Client.put_all, wanted=map(report.follow, wanted), done=report.done)
            run(connect, work, jobs=choices.jobs, cache=choices.cache, waiting=transfers.waiting)
        except KeyboardInterrupt:
            transfers.fail(f"Interrupted. {report.sum_up()}. {RESUMES}")
            return INTERRUPTED
        transfers.note(report.sum_up())
    return FAILED if report.failed else 0


def _wanted(paths: tuple[Path, ...], name: str | None, choices: Choices, skipped: list[Path]) -> Iterator[Wanted]:
    """All files that are meant. Raises OSError where a folder can't be read."""
    for path in paths:
        if choices.recursive and path.is_dir():
            for file, below in files_below(path, skipped.append):
                yield Wanted(file, choices.prefix + prefix_of(path) + below, choices.content_type)
        else:
            yield Wanted(path, choices.prefix + (name or path.name), choices.content_type)


def _put_pipe(connect: Connect, name: str, choices: Choices) -> int:
    with Transfers(None, *WORDS, quiet=choices.quiet) as transfers:
        row = transfers.row(name, None)

        async def stored(client: Client) -> Upload:
            pieces = pieces_of(sys.stdin.fileno())
            return await client.put_stream(pieces, choices.prefix + name, choices.content_type, watch=row)

        report = Report(transfers, as_json=choices.as_json)
        try:
            upload = run(connect, stored, jobs=choices.jobs, waiting=transfers.waiting)
        except KeyboardInterrupt:
            transfers.fail("Interrupted. Nothing was stored.")
            return INTERRUPTED
        report.done(Outcome(Wanted(Path("-"), name, watch=row), upload))
        transfers.note(report.sum_up())
    return 0
