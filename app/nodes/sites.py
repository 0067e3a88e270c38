"""Which kind of site a URL names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from ssl import SSLContext
from urllib.parse import unquote, urlsplit

from app.errors import ConfigError
from app.nodes.base import Site
from app.nodes.directory_site import DirectorySite
from app.nodes.http_site import HttpSite


def site_of(url: str, token: str = "", trust: SSLContext | None = None) -> Site:
    """The site that a URL names; a bare path is a directory's. Node servers are asked with the token, and
    those with https trusted as `trust` does (without it, as the system does).

    Raises ConfigError.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("The URL of a node is garbled: its brackets do not match.") from None
    if not parts.scheme:
        return DirectorySite(Path(url))
    if parts.scheme == "file":
        if parts.netloc:
            raise ConfigError(f"{url}: the path of a file URL begins with a third slash, as in file:///mnt/disk1.")
        return DirectorySite(Path(unquote(parts.path)))
    if parts.scheme in ("http", "https"):
        return HttpSite(url, token, trust)
    if parts.scheme == "s3":
        return _bucket(url)
    shown = url.rpartition("@")[2]  # What stands before may be a secret.
    raise ConfigError(
        f"{shown}: no node can be there. Name a directory, as a path or as file:///path, "
        "a node server, as http://host:port or https://host:port, or a bucket, as s3://bucket."
    )


def _bucket(url: str) -> Site:
    if find_spec("obstore") is None:
        raise ConfigError("A node in a bucket needs the extra s3. Install it: pip install 'mini-s3[s3]'")
    from app.nodes.s3_site import S3Site  # noqa: PLC0415 - it costs 5 MiB, and most stores have no bucket

    return S3Site(url)
