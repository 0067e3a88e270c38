"""Which kind of site a URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import ConfigError
from app.nodes.base import Site
from app.nodes.directory_site import DirectorySite
from app.nodes.http_site import HttpSite


def site_of(url: str, token: str = "") -> Site:
    """The site that a URL names; a bare path is a directory's. Node servers are asked with the token.

    Raises ConfigError.
    """
    parts = urlsplit(url)
    if not parts.scheme:
        return DirectorySite(Path(url))
    if parts.scheme == "file":
        if parts.netloc:
            raise ConfigError(f"{url}: the path of a file URL begins with a third slash, as in file:///mnt/disk1.")
        return DirectorySite(Path(unquote(parts.path)))
    if parts.scheme in ("http", "https"):
        return HttpSite(url, token)
    shown = url.rpartition("@")[2]  # What stands before may be a secret.
    raise ConfigError(
        f"{shown}: no node can be there. Name a directory, as a path or as file:///path, "
        "or a node server, as http://host:port."
    )
