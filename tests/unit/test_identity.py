"""Node directories say who they are, and none is taken for another."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from app.errors import ConfigError
from app.models.nodes import NodeEntry
from app.nodes import durable
from app.nodes.directory_site import FANOUT, DirectorySite
from app.nodes.identity import identify as identify_site


def identify(path: Path, store: str, registry: list[NodeEntry]) -> NodeEntry:
    return asyncio.run(identify_site(DirectorySite(path), store, registry))


def known(path: Path, store: str = "store") -> NodeEntry:
    return identify(path, store, [])


def place(entry: NodeEntry) -> Path:
    return Path(unquote(urlsplit(entry.location).path))


def test_a_new_directory_is_made_ready(tmp_path: Path) -> None:
    entry = known(tmp_path / "a" / "disk one")
    assert entry.id == "disk-one"
    assert {path.name for path in place(entry).iterdir()} == {"node.json", *FANOUT}
    assert known(tmp_path / "a" / "disk one") == entry


def test_a_directory_that_was_not_finished_is_finished(tmp_path: Path) -> None:
    for name in FANOUT[:100]:
        (tmp_path / name).mkdir()
    assert (place(known(tmp_path)) / "node.json").exists()


def test_an_empty_directory_under_a_known_name_is_refused(tmp_path: Path) -> None:
    entry = known(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "aside")
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match="Is its disk mounted"):
        identify(tmp_path / "a", "store", [entry])
    assert not list((tmp_path / "a").iterdir())


def test_swapped_directories_are_refused(tmp_path: Path) -> None:
    first = known(tmp_path / "a")
    second = identify(tmp_path / "b", "store", [first])
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(ConfigError, match="swapped"):
        identify(tmp_path / "a", "store", [first, second])


def test_a_directory_may_move(tmp_path: Path) -> None:
    entry = known(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = identify(tmp_path / "b", "store", [entry])
    assert (moved.id, moved.uuid) == (entry.id, entry.uuid)
    assert moved.location == (tmp_path / "b").as_uri()


def test_what_is_no_node_of_this_store_is_refused(tmp_path: Path) -> None:
    known(tmp_path / "other", "another store")
    with pytest.raises(ConfigError, match="belongs to another store"):
        known(tmp_path / "other")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"neither a node nor empty \(it holds letter.txt\)"):
        known(tmp_path / "home")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be used"):
        known(tmp_path / "file")
    newer = known(tmp_path / "newer")
    identity = place(newer) / "node.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"format": 2}))
    with pytest.raises(ConfigError, match="format 2"):
        known(tmp_path / "newer")
    identity.write_text("{")
    with pytest.raises(ConfigError, match="garbled"):
        known(tmp_path / "newer")


def test_two_workers_that_initialise_at_once_agree(tmp_path: Path) -> None:
    entries: list[NodeEntry] = []

    def work() -> None:
        entries.append(known(tmp_path / "n"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries) == 4
    assert len(set(entries)) == 1


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_an_initialisation_that_was_broken_off_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The process dies between any two syncs, and so leaves whatever it made until then."""

    class Died(BaseException):
        pass

    made: list[Any] = []

    def die_later(*_: Any) -> None:
        made.append(_)
        if len(made) > steps:
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", die_later)
        patched.setattr("os.fdatasync", die_later)
        with pytest.raises(Died):
            known(tmp_path / "n")
    entry = known(tmp_path / "n")
    assert known(tmp_path / "n") == entry
    assert {path.name for path in (tmp_path / "n").iterdir()} == {"node.json", *FANOUT}


def test_blobs_without_an_identity_are_refused(tmp_path: Path) -> None:
    """They are some store's, and as a new node they would be nobody's."""
    known(tmp_path / "n")
    (tmp_path / "n" / "node.json").unlink()
    (tmp_path / "n" / "ab" / "blob").touch()
    with pytest.raises(ConfigError, match=r"neither a node nor empty \(it holds ab/blob\)"):
        known(tmp_path / "n")


def test_a_fresh_disk_may_have_its_lost_and_found(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert known(tmp_path).location == tmp_path.as_uri()


def test_directories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    entries: list[NodeEntry] = []
    for disk in "abc":
        entries.append(identify(tmp_path / disk / "data", "store", entries))
    assert [entry.id for entry in entries] == ["data", "data-2", "data-3"]
    assert len({entry.uuid for entry in entries}) == 3


def test_a_copy_does_not_pass_for_what_is_known_there(tmp_path: Path) -> None:
    first = known(tmp_path / "a")
    second = identify(tmp_path / "b", "store", [first])
    (tmp_path / "b" / "node.json").write_bytes((tmp_path / "a" / "node.json").read_bytes())
    with pytest.raises(ConfigError, match="swapped"):
        identify(tmp_path / "b", "store", [first, second])


def test_new_parents_are_as_durable_as_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_directory", synced.append)
    durable.make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    durable.make_directory(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3
