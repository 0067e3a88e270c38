"""The commands for storage nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import click

from app.cli.options import configured, settings_options
from app.node_server import serve_node
from app.serving import run


@click.group()
def node() -> None:
    """Storage nodes: serve one to other machines."""


@node.command()
@click.option("--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where the blobs lie")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option("--port", default=8001, show_default=True, help="Port to listen on; 0 takes a free one")
@click.option("--token", help="What callers must know; others can see it in the list of processes [MINI_S3_NODE_TOKEN]")
@click.option("--token-file", type=click.File("rb"), help="A file that holds the token, and nothing else")
@settings_options("shutdown_timeout", "log_level", "log_format")
def serve(directory: Path, token: str | None, token_file: BinaryIO | None, config: Path | None, **flags: Any) -> None:
    """Serve a directory as a node to gateways on other machines, which name it as http://HOST:PORT.

    It takes neither MongoDB nor Redis. Whoever knows the token may read, write and delete every blob,
    and it passes in clear: serve in a network that you trust, or behind something that speaks TLS.
    """
    if token_file is not None:
        if token is not None:
            raise click.UsageError("Give the token once: with --token or with --token-file.")
        token = token_file.read().decode(errors="replace").strip()
    with configured(config, {**flags, "node_token": token}) as settings:
        run(serve_node(directory, settings, click.echo))
