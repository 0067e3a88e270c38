"""A storage node for gateways on other machines: one directory, served over HTTP. It needs no database."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from app.api.node import build_node_api
from app.errors import ConfigError
from app.listening import bind, url_of
from app.nodes.directory_site import DirectorySite
from app.nodes.wire import KEPT
from app.serving import configured, serve_together
from app.settings import Settings
from app.types import NodeId


async def serve_node(
    directory: Path, settings: Settings, say: Callable[[str], None], tls: ssl.SSLContext | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; running requests then get the time that the settings allow.
    With `tls` it is HTTPS.

    Raises ConfigError where it can't start.
    """
    token = settings.node_token.get_secret_value()
    if not token:
        raise ConfigError(
            "A node server needs a token, without which nobody may call it. Make one up, for example with "
            "`openssl rand -hex 32`, and give it here and to the gateways: as MINI_S3_NODE_TOKEN, or in a file "
            "with --token-file."
        )
    site = DirectorySite(directory)
    await site.identity()
    node = site.open(NodeId(site.name))
    with closing(bind(settings.host, settings.port)) as listener:
        app = build_node_api(site, node, token)
        started = f"A node of Mini-S3 is listening on {url_of(listener, 'https' if tls else 'http')}"
        config = configured(app, settings, keep_alive=KEPT, tls=tls)
        try:
            await serve_together([(config, listener)], on_started=lambda: say(started))
        finally:
            await node.close()
