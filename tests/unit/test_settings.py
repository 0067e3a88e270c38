"""Settings from all their sources, and what is said about wrong ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.settings import load_settings


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MINI_S3_"):
            monkeypatch.delenv(name)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINI_S3_PORT", "1")
    monkeypatch.setenv("MINI_S3_WORKERS", "1")
    monkeypatch.setenv("MINI_S3_HOST", "env.example")
    file = tmp_path / "settings.toml"
    file.write_text('port = 2\nworkers = 2\nmax-file-size = "64MiB"\n')
    settings = load_settings({"port": "3"}, file)
    assert (settings.port, settings.workers, settings.host) == (3, 2, "env.example")
    assert settings.max_file_size == 64 << 20


def test_lists_are_written_with_commas_or_as_toml_has_them(tmp_path: Path) -> None:
    assert load_settings({"nodes": "/a, /b,"}).node_urls == ("/a", "/b")
    file = tmp_path / "settings.toml"
    file.write_text('nodes = ["/c"]')
    assert load_settings({}, file).node_urls == ("/c",)
    assert load_settings({"data_dir": "/d"}).node_urls == tuple(f"/d/nodes/node{n}" for n in (1, 2, 3))


@pytest.mark.parametrize("rate", ["600", "0/minute", "-1/minute", "600/fortnight", "many/minute", "1/minute;"])
def test_rates_must_be_rates(rate: str) -> None:
    with pytest.raises(ConfigError, match=r"--rate-api \(or MINI_S3_RATE_API\): .*600/minute"):
        load_settings({"rate_api": rate})


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings({"port": "x", "workers": 0, "unheard_of": 1})
    for name in ("--port", "--workers", "--unheard-of"):
        assert name in refused.value.message


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).port = 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 << 20), ("64 MiB", 64 << 20), ("64mib", 64 << 20), ("5MB", 5_000_000), ("4194304", 4 << 20)],
)
def test_sizes_are_written_as_people_do(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("MINI_S3_BUFFER_MEMORY", text)
    assert load_settings({}).buffer_memory == size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buffer_memory", "3MiB"),
        ("buffer_memory", "plenty"),
        ("max_file_size", "0"),
        ("max_file_size", "-1"),
        ("port", 65536),
        ("port", -1),
        ("workers", 65),
        ("mongo_database", "a.b"),
        ("mongo_database", ""),
        ("idle_timeout", 0),
        ("idle_timeout", "nan"),
        ("shutdown_timeout", -1),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings({name: value})
    headline, *lines = refused.value.message.splitlines()
    assert headline == "Some settings are wrong:"
    (line,) = lines
    assert line.startswith(f"  --{name.replace('_', '-')} (or MINI_S3_{name.upper()}): ")


def test_a_bad_value_of_the_environment_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINI_S3_PORT", "http")
    with pytest.raises(ConfigError, match="MINI_S3_PORT"):
        load_settings({})
    assert load_settings({"port": 80}).port == 80


@pytest.mark.parametrize("content", [None, b"port = ", b"\xff\xfe"])
def test_a_settings_file_that_can_not_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "settings.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.toml can't be read"):
        load_settings({}, file)


def test_a_misspelt_key_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("prot = 1")
    with pytest.raises(ConfigError, match="--prot"):
        load_settings({}, file)


def test_without_any_source_there_are_defaults() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.workers, settings.mongo_url) == ("127.0.0.1", 3000, 1, "")
