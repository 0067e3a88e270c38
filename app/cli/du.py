"""`mini-s3 du`: how much the files on a server hold, by the folders in their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click

from app.cli.connection import Connect, run, speaks_to_server
from app.cli.text import as_json_option, columns, plain, say, size
from app.client import Client, StoredFile
from app.upkeep.usage import group_of


@dataclass(slots=True)
class _Group:
    files: int = 0
    bytes: int = 0
    distinct: int = 0
    _seen: set[str] = field(default_factory=set)

    def add(self, file: StoredFile) -> None:
        self.files += 1
        self.bytes += file.size
        if file.content_id not in self._seen:
            self._seen.add(file.content_id)
            self.distinct += file.size

    def view(self, prefix: str) -> dict[str, Any]:
        return {"prefix": prefix, "files": self.files, "bytes": self.bytes, "distinctBytes": self.distinct}

    def row(self, prefix: str) -> tuple[str, str, str, str]:
        return f"{self.files:,}", size(self.bytes), size(self.distinct), prefix


@click.command()
@click.argument("prefix", default="")
@click.option(
    "--depth", default=1, show_default=True, type=click.IntRange(0), help="Slashes behind the prefix that part groups"
)
@as_json_option
@speaks_to_server
def du(connect: Connect, prefix: str, depth: int, as_json: bool) -> None:
    """Sum up files by the folders in their names.

    Of those whose names begin with PREFIX: all bytes, and the bytes that remain if equal files count once. It goes by
    what lists tell; what folders really take, chunk by chunk, `mini-s3 usage` finds in the database.
    """
    groups: dict[str, _Group] = {}
    total = _Group()

    async def summed(client: Client) -> None:
        async for file in client.files(prefix):
            groups.setdefault(group_of(file.name, prefix, depth) or "", _Group()).add(file)
            total.add(file)

    run(connect, summed)
    found = sorted(groups.items(), key=lambda item: (-item[1].bytes, item[0]))
    rows = [("FILES", "BYTES", "DISTINCT", "PREFIX")]
    rows += [group.row(plain(name) or "(no folder)") for name, group in found]
    rows.append(total.row("in all"))
    view = {"groups": [group.view(name) for name, group in found], "total": total.view(prefix)}
    say(as_json, view, columns(rows, left=0))
