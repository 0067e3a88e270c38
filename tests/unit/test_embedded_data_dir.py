"""Who owns a data directory; what a killed owner left is cleared away, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.embedded import data_dir as module
from app.embedded.data_dir import DataDir, RunState, running
from app.embedded.process import ProcessId, identify
from app.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of our own for runtime directories, which must be empty again at the end. Its name is short,
    for sockets; pytest's own, which is not, has to be made before."""
    with tempfile.TemporaryDirectory(prefix="ms3-") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        before = set(Path("/proc/self/fd").iterdir())
        yield Path(place)
        assert list(Path(place).iterdir()) == []
        # What earlier tests still had open may have been closed meanwhile.
        assert set(Path("/proc/self/fd").iterdir()) <= before


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("/bin/sh", "-c", "exec sleep 1000")) as process:
        yield process
        process.kill()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def left_by_a_killed_server(data: Path, temporary: Path, **children: ProcessId) -> Path:
    """A data directory as it looks after kill -9 of its server; returns the runtime directory left over."""
    data.mkdir(exist_ok=True)
    runtime_dir = temporary / "mini-s3-left"
    runtime_dir.mkdir()
    (runtime_dir / "mongo.sock").touch()
    state = RunState(ProcessId(os.getpid(), "an earlier life"), runtime_dir, children=children)
    DataDir(data, -1, state)._write()
    return runtime_dir


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = identify(process.pid)
    assert found
    return found


def test_taking_and_releasing(data: Path, temporary: Path) -> None:
    async def main() -> None:
        owned = await DataDir.take(data)
        assert data.stat().st_mode & 0o777 == 0o700
        assert owned.runtime_dir.parent == temporary
        assert owned.runtime_dir.stat().st_mode & 0o777 == 0o700
        assert owned.folder("mongo") == owned.folder("mongo") == data / "mongo"
        assert (data / "mongo").stat().st_mode & 0o777 == 0o700

        owned.record_urls("mongodb://m", "unix:///r")
        owned.record_child("mongod", os.getpid())
        assert (data / "run.json").stat().st_mode & 0o777 == 0o600
        us = identify(os.getpid())
        assert us
        assert running(data) == RunState(us, owned.runtime_dir, "mongodb://m", "unix:///r", {"mongod": us})

        owned.release()
        assert running(data) is None
        assert sorted(path.name for path in data.iterdir()) == ["lock", "mongo"]
        (await DataDir.take(data)).release()

    run(main())


def test_a_relative_directory_becomes_absolute(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)

    async def main() -> None:
        owned = await DataDir.take(Path("data"))
        assert owned.path == data
        owned.release()

    run(main())


def test_two_owners_are_refused_and_the_first_is_named(data: Path) -> None:
    async def main() -> None:
        owned = await DataDir.take(data)
        script = (
            "import asyncio, pathlib, sys\nfrom app.embedded.data_dir import DataDir\n"
            "asyncio.run(DataDir.take(pathlib.Path(sys.argv[1])))"
        )
        command = (sys.executable, "-c", script, str(data))
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert f"ConfigError: another Mini-S3 (process {os.getpid()}) is running on {data}." in second.stderr
        with pytest.raises(ConfigError, match=rf"another Mini-S3 \(process {os.getpid()}\)"):
            await DataDir.take(data)
        assert running(data), "the refused one must not disturb the owner"
        assert owned.runtime_dir.exists()
        owned.release()

    run(main())


def test_a_lock_removed_by_hand_does_not_end_a_living_servers_children(
    data: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async def main() -> None:
        owned = await DataDir.take(data)
        owned.record_child("mongod", sleeper.pid)
        (data / "lock").unlink()
        with pytest.raises(ConfigError, match="another Mini-S3"):
            await DataDir.take(data)
        assert sleeper.poll() is None
        owned.release()

    run(main())


def test_children_of_a_killed_server_are_ended(data: Path, temporary: Path, sleeper: subprocess.Popen[bytes]) -> None:
    runtime_dir = left_by_a_killed_server(data, temporary, mongod=identity(sleeper))
    assert running(data) is None

    async def main() -> None:
        owned = await DataDir.take(data)
        assert sleeper.wait(0) == -signal.SIGTERM
        assert not runtime_dir.exists()
        owned.release()

    run(main())


def test_those_that_do_not_end_by_themselves_are_killed(
    data: Path, temporary: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALE_PATIENCE", 0.1)
    sleeper.send_signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)  # Until it has stopped, SIGTERM may still end it.
    left_by_a_killed_server(data, temporary, mongod=identity(sleeper))

    async def main() -> None:
        owned = await DataDir.take(data)
        assert sleeper.wait(0) == -signal.SIGKILL
        owned.release()

    run(main())


def test_a_process_that_got_the_number_of_a_dead_child_is_left_alone(
    data: Path, temporary: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    another = replace(identity(sleeper), born="another moment")
    runtime_dir = left_by_a_killed_server(data, temporary, mongod=another, gone=ProcessId(2**22 + 1, "x"))

    async def main() -> None:
        owned = await DataDir.take(data)
        assert sleeper.poll() is None
        assert not runtime_dir.exists()
        owned.release()

    run(main())


def test_only_a_folder_with_our_name_is_removed(data: Path, temporary: Path) -> None:
    precious = data.parent / "precious"
    precious.mkdir()
    left_by_a_killed_server(data, temporary).joinpath("mongo.sock").unlink()
    (temporary / "mini-s3-left").rmdir()
    state = json.loads((data / "run.json").read_text())
    (data / "run.json").write_text(json.dumps(state | {"runtime_dir": str(precious)}))

    async def main() -> None:
        (await DataDir.take(data)).release()

    run(main())
    assert precious.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"server": 3}', "\x00\xff"])
def test_an_unreadable_run_state_is_none(data: Path, text: str) -> None:
    data.mkdir()
    (data / "run.json").write_text(text, encoding="latin-1")
    assert running(data) is None

    async def main() -> None:
        (await DataDir.take(data)).release()

    run(main())


def test_no_run_state() -> None:
    assert running(Path("/nowhere")) is None


def test_a_file_is_no_data_directory(data: Path) -> None:
    data.write_text("")
    for path in (data, data / "below"):
        with pytest.raises(ConfigError, match=r"it is not a folder\. .*--data-dir \(or MINI_S3_DATA_DIR\)"):
            asyncio.run(DataDir.take(path))


def test_a_directory_that_can_not_be_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"/proc/data can't be used for data: .*--data-dir"):
        asyncio.run(DataDir.take(Path("/proc/data")))

    def full(descriptor: int, operation: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fcntl.flock", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        asyncio.run(DataDir.take(data))


def test_a_failed_take_lets_go_of_everything(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: DataDir) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(DataDir, "_write", full)
        with pytest.raises(ConfigError, match="No space left"):
            asyncio.run(DataDir.take(data))

    async def main() -> None:
        owned = await DataDir.take(data)
        with monkeypatch.context() as patch:
            patch.setattr(DataDir, "_write", full)
            owned.record_child("mongod", os.getpid())
        owned.release()

    run(main())


def test_sockets_get_a_short_path_whatever_the_place_for_temporary_files(
    data: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = temporary / ("d" * 80)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    async def main() -> None:
        owned = await DataDir.take(data)
        assert len(os.fsencode(owned.runtime_dir / "mongodb-0.sock")) <= 107
        owned.release()
        assert not owned.runtime_dir.exists()

    run(main())


def test_no_place_for_sockets(data: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(ConfigError, match=r"no place for sockets: .*TMPDIR"):
        asyncio.run(DataDir.take(data))
