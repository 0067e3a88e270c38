"""URLs of nodes, the token that goes with them, and the digest of a body."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.http.digest import content_digest, parse_content_digest
from app.nodes.sites import site_of
from app.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("url", "location", "name"),
    [
        ("http://10.0.0.2:8001", "http://10.0.0.2:8001", "10.0.0.2-8001"),
        ("http://Node1:8001/", "http://node1:8001", "node1-8001"),
        ("https://node1", "https://node1:443", "node1-443"),
        ("HTTP://node1", "http://node1:80", "node1-80"),
        ("http://[::1]:8001", "http://[::1]:8001", "::1-8001"),
    ],
)
def test_a_node_server_has_one_location(url: str, location: str, name: str) -> None:
    site = site_of(url, "token")
    assert (site.location, site.name) == (location, name)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://:8001",
        "http://node1:99999",
        "http://node1:0",
        "http://node1:x",
        "http://node1:8001/path",
        "http://node1:8001?token=secret",
        "http://node1:8001#secret",
        "http://secret@node1:8001",
        "http://user:secret@node1:8001",
        "ftp://user:secret@node1",
    ],
)
def test_what_no_node_server_can_be_at_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(ConfigError, match=r"http://\S+:8001|host and port|http://host:port") as caught:
        site_of(url, "token")
    assert "secret" not in str(caught.value)


def test_a_node_server_without_a_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="MINI_S3_NODE_TOKEN"):
        site_of("http://node1:8001")


def test_a_token_is_kept_from_sight_but_told_to_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINI_S3_NODE_TOKEN", "from-the-environment")
    settings = load_settings({})
    assert "from-the-environment" not in f"{settings} {settings!r} {settings.model_dump()}"
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again.node_token.get_secret_value() == "from-the-environment"
    for wrong in ("two words", "line\nbreak", "é"):
        with pytest.raises(ConfigError, match=r"--node-token .* letters, digits") as caught:
            load_settings({"node_token": wrong})
        assert wrong not in str(caught.value)


def test_digests_of_bodies() -> None:
    digest = hashlib.sha256(b"x").digest()
    value = content_digest(digest)
    assert value == "sha-256=:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=:"
    for given in (value, f"md5=:AAAA:, {value}", f"{value},sha-512=:AAAA:"):
        assert parse_content_digest(given) == digest
    for garbled in (
        "",
        "sha-256",
        "sha-256=:AAAA:",
        value[:-1],
        f"x{value}",
        value.replace("=:", "=", 1),
        value.upper(),
    ):
        assert parse_content_digest(garbled) is None
