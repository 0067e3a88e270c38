from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigError
from app.settings import load_settings


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
    assert load_settings({"nodes": "/a, /b,"}).node_dirs == (Path("/a"), Path("/b"))
    file = tmp_path / "settings.toml"
    file.write_text('nodes = ["/c"]')
    assert load_settings({}, file).node_dirs == (Path("/c"),)
    assert load_settings({"data_dir": "/d"}).node_dirs == tuple(Path(f"/d/nodes/node{n}") for n in (1, 2, 3))


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
        load_settings({}).port = 1  # type: ignore[misc]
