"""The Content-Disposition of a download (RFC 6266)."""

from __future__ import annotations

import re
from urllib.parse import quote

MAX_NAME = 255
"""Bytes in UTF-8: what common file systems take, and little enough for a header line."""

MAX_EXTENSION = 32
"""Bytes; what follows the last dot and is longer is no extension and may be cut."""

# Path separators, controls and line ends, and the signs that turn the direction of writing, with
# which `txt.exe` can be made to look like `exe.txt`. Joiners stay: scripts and emoji need them.
_HARMFUL = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# Some clients decode percent escapes in a plain name.
_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["%]')


def attachment(name: str) -> str:
    """The header's value: printable ASCII that lets the client save the file as `name`.

    What could lead out of a directory or deceive the eye becomes "_", and a name that is too long is
    shortened before its extension. Where a plain name can't express the result, a second parameter
    in UTF-8 does. Takes any string, lone surrogates too; no name gives plain `attachment`.
    """
    if not name:
        return "attachment"
    name = harmless(name)
    plain = _NOT_PLAIN.sub("_", name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"


def harmless(name: str) -> str:
    """The name as one that a file may have in a folder, if it is not empty."""
    name = _HARMFUL.sub("_", name.encode("utf-8", "replace").decode())
    return _shorten("_" if name in {".", ".."} else name)


def _shorten(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= MAX_NAME:
        return name
    _, dot, extension = encoded.rpartition(b".")
    suffix = dot + extension if len(extension) <= MAX_EXTENSION else b""
    return (encoded[: MAX_NAME - len(suffix)] + suffix).decode("utf-8", "ignore")
