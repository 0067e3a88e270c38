"""The page that says which operations of the S3 API there are here."""

from __future__ import annotations

from collections.abc import Mapping

from app.s3.operations import OPERATIONS, Level, Operation

_TITLES: Mapping[Level, str] = {"service": "The service", "bucket": "Buckets", "object": "Objects"}

_HEAD = """\
# S3 compatibility

Every operation of the Amazon S3 API reference, and whether Mini-S3 has it. One that it has not is answered by
501 `NotImplemented`.
"""

_KEYS = """\
## Keys that XML can't carry

A key may have any character of Unicode. XML 1.0 can't carry some of them: control characters, U+FFFE and U+FFFF.
As Amazon S3 does, a listing writes these as character references (`&#x1;`), which strict XML parsers refuse. Ask for
`encoding-type=url` where keys may have them, as some SDKs do by themselves. DeleteObjects can't name such keys,
as there is no way to write them in its document; DeleteObject can.
"""


def page(supported: Mapping[str, str]) -> str:
    """The page in Markdown. `supported` are the operations that there are, each with a note on what it lacks, or ""."""
    if unknown := sorted(supported.keys() - OPERATIONS.keys()):
        raise ValueError(f"These are no operations of the S3 API: {', '.join(unknown)}.")
    return "\n".join([_HEAD, *(_section(level, supported) for level in _TITLES), _KEYS])


def _section(level: Level, supported: Mapping[str, str]) -> str:
    lines = [f"## {_TITLES[level]}", "", "| Operation | Here | Notes |", "| --- | --- | --- |"]
    lines += [_row(operation, supported) for operation in OPERATIONS.values() if operation.level == level]
    return "\n".join([*lines, ""])


def _row(operation: Operation, supported: Mapping[str, str]) -> str:
    lacks = supported.get(operation.name)
    here = "no" if lacks is None else "partly" if lacks else "yes"
    notes = " ".join(filter(None, [operation.note, lacks]))
    return f"| {operation.name} | {here} | {notes} |".replace("|  |", "| |")
