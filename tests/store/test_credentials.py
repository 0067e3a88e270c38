"""The root key and the master key: where they come from, who can read them, and what is said of bad ones."""

from __future__ import annotations

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import ConfigError
from app.settings import Settings, load_settings
from app.store.credentials import RootKey, completed, master_key, new_access_key, new_secret, root_key
from tests.store.tools import MASTER

GIVEN: Any = {
    "root_access_key": "abc",
    "root_secret_key": SecretStr("12345678"),
    "master_key": SecretStr(MASTER),
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_keys_are_long_and_new() -> None:
    keys, secrets = [new_access_key() for _ in range(50)], [new_secret() for _ in range(50)]
    assert all(re.fullmatch("[A-Z0-9]{20}", key) for key in keys)
    assert all(re.fullmatch("[A-Za-z0-9]{40}", secret) for secret in secrets)
    assert len({*keys, *secrets}) == 100


def test_a_first_start_makes_the_master_key_and_no_root_key(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    settings, made = completed(Settings(data_dir=data))
    assert (made, root_key(settings)) == (None, None)
    assert [path.name for path in data.iterdir()] == ["master.key"]
    assert (mode(data), mode(data / "master.key")) == (0o700, 0o600)
    assert settings.master_key.get_secret_value() == (data / "master.key").read_text().strip()
    again, _ = completed(Settings(data_dir=data))
    assert again.master_key == settings.master_key
    assert master_key(Settings(data_dir=data)) == settings.master_key.get_secret_value()


def test_where_keys_are_asked_for_a_root_key_is_made_once(tmp_path: Path) -> None:
    settings, made = completed(Settings(data_dir=tmp_path, auth=True))
    assert made is not None
    assert root_key(settings) == made
    assert mode(tmp_path / "root.key") == 0o600
    stored = json.loads((tmp_path / "root.key").read_text())
    assert stored == {"accessKey": made.access_key, "secretKey": made.secret}
    for auth in (True, False):
        later, second = completed(Settings(data_dir=tmp_path, auth=auth))
        assert (second, root_key(later)) == (None, made)
    assert {path.name for path in tmp_path.iterdir()} == {"master.key", "root.key"}


def test_servers_that_start_together_make_one_of_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: completed(Settings(data_dir=tmp_path, auth=True)), range(8)))
    assert len([made for _, made in results if made]) == 1
    assert len({settings.master_key for settings, _ in results}) == 1
    assert len({root_key(settings) for settings, _ in results}) == 1


def test_the_settings_go_before_the_files(tmp_path: Path) -> None:
    completed(Settings(data_dir=tmp_path, auth=True))
    given = Settings(
        data_dir=tmp_path,
        auth=True,
        root_access_key="abc",
        root_secret_key=SecretStr("12345678"),
        master_key=SecretStr(MASTER),
    )
    settings, made = completed(given)
    assert (settings, made) == (given, None)
    assert root_key(settings) == RootKey("abc", "12345678")
    assert master_key(settings) == MASTER


def test_with_both_in_the_settings_nothing_is_written(tmp_path: Path) -> None:
    completed(
        Settings(
            data_dir=tmp_path,
            root_access_key="abc",
            root_secret_key=SecretStr("12345678"),
            master_key=SecretStr(MASTER),
        )
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"accessKey": 3}', '{"accessKey": "a b", "secretKey": "12345678"}', "\xff"]
)
def test_a_root_key_that_is_none_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "root.key").write_text(text)
    with pytest.raises(ConfigError, match=r"root\.key is no root key"):
        completed(Settings(data_dir=tmp_path, auth=True))
    assert (tmp_path / "root.key").read_text() == text


@pytest.mark.parametrize("text", ["", "c2hvcnQ=", MASTER[:-4], "é" * 44])
def test_a_master_key_that_is_none_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "master.key").write_text(text)
    with pytest.raises(ConfigError, match=r"master\.key"):
        completed(Settings(data_dir=tmp_path))
    assert (tmp_path / "master.key").read_text() == text


def test_a_command_never_makes_a_master_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no master key in .*--data-dir"):
        master_key(Settings(data_dir=tmp_path / "elsewhere"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Keys can't be kept in .*MINI_S3_MASTER_KEY"):
        completed(Settings(data_dir=tmp_path / "file"))


@pytest.mark.parametrize(
    "flags",
    [
        {"root_access_key": "abc"},
        {"root_secret_key": "12345678"},
        {"root_access_key": "ab", "root_secret_key": "12345678"},
        {"root_access_key": "a:b", "root_secret_key": "12345678"},
        {"root_access_key": "abc", "root_secret_key": "Sh0rt!!"},
        {"root_access_key": "abc", "root_secret_key": "with a space"},
        {"master_key": "c2VjcmV0IGJ1dCB0b28gc2hvcnQ="},
        {"s3_port": 3000},
        {"s3_port": -2},
        {"s3_domain": "-x.example"},
        {"region": "somewhere else"},
    ],
)
def test_settings_of_keys_that_are_wrong_are_named_but_not_repeated(flags: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(flags)
    assert any(f"--{name.replace('_', '-')}" in refused.value.message for name in [*flags, "root_secret_key"])
    for shown in (refused.value.message, repr(refused.value.__cause__), str(refused.value.__cause__)):
        for name in flags.keys() & {"root_secret_key", "master_key"}:
            assert flags[name] not in shown


def test_settings_show_no_secret_and_workers_are_told_it() -> None:
    settings = load_settings({"root_access_key": "abc", "root_secret_key": "S3cret-S3cret", "master_key": MASTER})
    for shown in (repr(settings), str(settings), repr(settings.model_dump()), repr(root_key(settings))):
        assert "S3cret" not in shown
        assert MASTER not in shown
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
