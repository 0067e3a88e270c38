"""Node servers over HTTPS: who is believed, and what is said about the others."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from app.cli.main import main
from app.errors import ConfigError, NodeError
from app.nodes.http_link import Link
from app.nodes.http_node import HttpNode
from app.nodes.http_site import HttpSite
from app.nodes.trust import trusting
from app.serving import tls_with
from app.types import Blob, Digest, NodeId, new_generation
from tests.certificates import Authority
from tests.e2e.helpers import process
from tests.node_servers import TOKEN, NodeServer, node_server
from tests.support import PATIENCE

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeServer]:
    with node_server(tmp_path_factory.mktemp("node") / "n", *authority.flags()) as running:
        yield running


async def refused_by_node(url: str, trust: ssl.SSLContext | None) -> str:
    """What is said of every call. It is no BlobMissing, and comes in time."""
    node = HttpNode(NodeId("n"), Link(url, TOKEN, trust))
    blob = Blob(NodeId("n"), Digest(bytes(32)), new_generation())
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(
            node.write(blob, bytes(1 << 20)), node.read(blob, 1), node.space(), return_exceptions=True
        )
    await node.close()
    assert all(isinstance(error, NodeError) and type(error).__name__ != "BlobMissing" for error in errors), errors
    for told in map(str, errors):
        assert url in told
        assert TOKEN not in told
    return str(errors[-1])


async def refused_by_site(url: str, trust: ssl.SSLContext | None) -> str:
    with pytest.raises(ConfigError) as caught:
        await HttpSite(url, TOKEN, trust).identity()
    return str(caught.value)


@asynccontextmanager
async def showing(certificate: Path, key: Path) -> AsyncIterator[str]:
    """A server with this certificate, which never hears a request."""
    heard = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=tls_with(certificate, key))
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
    assert heard == []


async def test_the_url_that_is_told_is_https(server: NodeServer, authority: Authority) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    await HttpSite(server.url, TOKEN, authority.trust()).identity()


async def test_the_token_is_needed_all_the_same(server: NodeServer, authority: Authority) -> None:
    with httpx.Client(base_url=server.url, verify=authority.trust(), trust_env=False) as client:
        assert client.get("/v1/identity").status_code == 401
    with pytest.raises(ConfigError, match="refuses the token"):
        await HttpSite(server.url, "another", authority.trust()).identity()


async def test_an_authority_that_nobody_trusts(server: NodeServer, stranger: Authority) -> None:
    for trust in (None, stranger.trust()):
        for told in (await refused_by_node(server.url, trust), await refused_by_site(server.url, trust)):
            assert "authority that nobody here trusts" in told
            assert "--node-ca" in told


async def test_the_authorities_of_the_system_are_trusted_too(
    server: NodeServer, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    await HttpSite(server.url, TOKEN, stranger.trust()).identity()


@pytest.mark.parametrize("host", ["10.0.0.1", "node1.example"])
async def test_a_certificate_of_another_host(authority: Authority, host: str) -> None:
    async with showing(*authority.files(host)) as url:
        for told in (await refused_by_node(url, authority.trust()), await refused_by_site(url, authority.trust())):
            assert "another host's" in told
            assert "127.0.0.1" in told


async def test_a_certificate_out_of_its_time_is_that_of_a_node_that_is_away(authority: Authority) -> None:
    """A gateway must start without it: it was right when the node was named."""
    old = authority.files(not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    early = authority.files(not_before=NOW + DAY, not_after=NOW + 2 * DAY)
    for files, told in ((old, "has expired. Renew it"), (early, "not valid yet. Are the clocks right")):
        async with showing(*files) as url:
            assert told in await refused_by_node(url, authority.trust())
            with pytest.raises(NodeError, match=told):
                await HttpSite(url, TOKEN, authority.trust()).identity()


async def test_http_where_https_is_served(server: NodeServer) -> None:
    plain = server.url.replace("https", "http")
    await refused_by_node(plain, None)
    with pytest.raises(NodeError, match="say https://"):
        await HttpSite(plain, TOKEN).identity()


async def test_https_where_http_is_served(tmp_path: Path, authority: Authority) -> None:
    with node_server(tmp_path / "n") as plain:
        url = plain.url.replace("http", "https")
        for told in (await refused_by_node(url, authority.trust()), await refused_by_site(url, authority.trust())):
            assert "no TLS 1.2 or newer is spoken there" in told
            assert "say http://" in told


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
async def test_old_versions_are_refused(server: NodeServer, authority: Authority, newest: ssl.TLSVersion) -> None:
    """By the server, too: here a client would take them."""
    client = authority.trust()
    client.minimum_version = ssl.TLSVersion.TLSv1
    client.maximum_version = newest
    client.set_ciphers("ALL:@SECLEVEL=0")
    call = asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]), ssl=client)
    if newest < ssl.TLSVersion.TLSv1_2:
        with pytest.raises(OSError):  # noqa: PT011 - told by an alert, or by hanging up
            await call
    else:
        _, writer = await call
        writer.close()
        await writer.wait_closed()


# Files that are not what they should be


def test_what_is_no_certificate_of_an_authority(tmp_path: Path) -> None:
    for content in (None, "", "hello"):
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=r"ca\.pem.*--node-ca"):
            trusting(path)


def test_what_a_server_can_not_show(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.files()
    _, other = authority.files()
    garbled = tmp_path / "garbled"
    garbled.write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked"
    locked.write_bytes(with_password(key))
    for files, told in (
        ((tmp_path / "none", key), r"none can't be read: No such file"),
        ((certificate, tmp_path / "none"), r"none can't be read: No such file"),
        ((certificate, tmp_path), r"can't be read: Is a directory"),
        ((certificate, other), r"does not belong to the certificate"),
        ((garbled, key), r"in PEM format"),
        ((certificate, certificate), r"in PEM format"),
        ((key, key), r"in PEM format"),
        ((certificate, locked), r"without a password"),
    ):
        with pytest.raises(ConfigError, match=told):
            tls_with(*files)


def with_password(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    opened = form.load_pem_private_key(key.read_bytes(), None)
    return opened.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.BestAvailableEncryption(b"secret")
    )


def test_a_certificate_and_its_key_go_together(tmp_path: Path, authority: Authority) -> None:
    certificate, key = map(str, authority.files())
    serve = ("node", "serve", "--dir", str(tmp_path / "n"), "--port", "0", "--token", TOKEN)
    for flags in (("--tls-cert", certificate), ("--tls-key", key)):
        refused = CliRunner().invoke(main, [*serve, *flags])
        assert refused.exit_code == 2
        assert "give --tls-cert and --tls-key" in refused.stderr
    ended = process(*serve, "--tls-cert", certificate, "--tls-key", str(tmp_path / "none"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("mini-s3: ")
    assert "none can't be read" in ended.stderr
