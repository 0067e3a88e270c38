"""The commands that speak to a server, in this process."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.cli.profiles import USUAL_URL, Profiles, Server, chosen, usual_path
from app.client import ConfigError
from app.settings import Settings
from tests.client.tools import MIB, written
from tests.e2e.helpers import KeyFor
from tests.s3.conftest import ROOT, client_of
from tests.support import Server as Running

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's: no profiles, no memory, an empty working directory."""
    for name in [name for name in os.environ if name.startswith("MINI_S3_")]:
        monkeypatch.delenv(name)
    for kind in ("config", "cache", "work"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", str(tmp_path / kind))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def run(home: Path, store_server: Running, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`mini-s3` with these words, which must end with this code."""
    for name, value in {"URL": store_server.url, "ACCESS_KEY": ROOT[0], "SECRET_KEY": ROOT[1]}.items():
        monkeypatch.setenv(f"MINI_S3_{name}", value)

    def command(*words: object, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], **options)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return command


def lines_of(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_file_from_put_to_rm(run: Run, prefix: str) -> None:
    content = os.urandom(2 * MIB + 3)
    written(Path("a.bin"), content)
    (stored,) = lines_of(run("put", "a.bin", "--prefix", prefix, "--json"))
    assert stored["path"] == "a.bin"
    assert (stored["name"], stored["size"], stored["how"]) == (prefix + "a.bin", len(content), "chunks")
    assert (stored["sent"], stored["deduplicated"]) == (len(content), 0)
    again = run("put", "a.bin", "--name", "b.bin", "--prefix", prefix)
    assert "0 B sent  " + prefix + "b.bin" in again.stdout
    assert "Stored 1 file, 2.0 MiB: sent 0 B, deduplicated 2.0 MiB, in " in again.stderr
    assert run("ls", prefix).stdout.split() == [prefix + "b.bin", prefix + "a.bin"]
    assert run("ls", prefix, "--limit", 1).stdout.split() == [prefix + "b.bin"]
    assert f"{stored['id']}     2.0 MiB  20" in run("ls", "-l", prefix).stdout
    assert [view["name"] for view in lines_of(run("ls", "--json", prefix))] == [prefix + "b.bin", prefix + "a.bin"]
    info = json.loads(run("info", prefix + "a.bin", "--json").stdout)
    assert (info["chunks"], info["uniqueBytes"], info["contentId"]) == (3, 0, stored["contentId"])
    assert "2.0 MiB (2,097,155 bytes) in 3 chunks" in run("info", stored["id"]).stdout
    assert run("hash", "a.bin").stdout == f"{stored['contentId']}  a.bin\n"
    assert "got.bin  2.0 MiB: received 2.0 MiB" in run("get", prefix + "b.bin", "-o", "got.bin").stdout
    assert Path("got.bin").read_bytes() == content
    assert run("get", stored["id"], "-o", "-").stdout_bytes == content
    got = json.loads(run("get", stored["id"], "-o", "json.bin", "--json").stdout)
    assert (got["path"], got["id"], got["received"]) == ("json.bin", stored["id"], len(content))
    assert lines_of(run("hash", "a.bin", "json.bin", "--json")) == [
        {"path": path, "contentId": stored["contentId"]} for path in ("a.bin", "json.bin")
    ]
    assert "deleted" in run("rm", stored["id"]).stdout
    (gone,) = lines_of(run("rm", prefix + "b.bin", "--json"))
    assert (gone["action"], gone["name"]) == ("deleted", prefix + "b.bin")
    assert run("ls", prefix).stdout == ""


def test_folders(run: Run, prefix: str) -> None:
    for name in ("tree/a", "tree/sub/b", "tree/sub/c"):
        written(Path(name), name.encode())
    Path("tree/link").symlink_to("a")
    refused = run("put", "tree", "--prefix", prefix, code=1)
    assert "tree is no regular file. A folder takes --recursive" in refused.stderr
    done = run("put", "-r", "tree", "--prefix", prefix)
    assert "tree/link is left out" in done.stderr
    assert "Stored 3 files, 26 B: sent 26 B" in done.stderr
    assert sorted(run("ls", prefix).stdout.split()) == [
        prefix + name for name in ("tree/a", "tree/sub/b", "tree/sub/c")
    ]
    groups = json.loads(run("du", prefix + "tree/", "--json").stdout)
    assert [(group["prefix"], group["files"], group["bytes"]) for group in groups["groups"]] == [
        (prefix + "tree/sub/", 2, 20),
        (prefix + "tree/", 1, 6),
    ]
    run("put", "-rq", "tree", "--prefix", prefix)
    assert json.loads(run("du", prefix, "--json", "--depth", 0).stdout)["total"] == {
        "prefix": prefix,
        "files": 6,
        "bytes": 52,
        "distinctBytes": 26,
    }
    assert "52 B      26 B  in all" in run("du", prefix).stdout


def test_some_that_can_not_be_stored(run: Run, prefix: str) -> None:
    written(Path("good"), b"good")
    done = run("put", "good", "none", "--prefix", prefix, code=1)
    assert done.stderr.splitlines()[0] == "mini-s3: none: No such file or directory"
    assert "Stored 1 file, 4 B, 1 failed: sent 4 B" in done.stderr
    views = lines_of(run("put", "good", "none", "--prefix", prefix, "--json", "--quiet", code=1))
    assert {view["path"]: view.get("error", {}).get("code") for view in views} == {"good": None, "none": "not-readable"}


def test_quiet_tells_of_errors_only(run: Run, prefix: str) -> None:
    written(Path("a"), b"a")
    for words in (("put", "a", "--prefix", prefix), ("get", prefix + "a", "-o", "b"), ("rm", prefix + "a")):
        assert run(*words, "--quiet").output == ""
    assert "There is no file" in run("get", prefix + "a", "--quiet", code=1).stderr


def test_names_that_several_have(run: Run, prefix: str) -> None:
    for content in (b"1", b"2"):
        written(Path("a"), content)
        run("put", "a", "--prefix", prefix)
    ids = [view["id"] for view in lines_of(run("ls", "--json", prefix))]
    for words in (("get",), ("info",), ("rm",)):
        refused = run(*words, prefix + "a", code=1)
        assert f"Name one by its id: {ids[0]}, {ids[1]}" in refused.stderr
    assert ids[0] in run("info", "--newest", prefix + "a").stdout
    assert run("get", "--newest", prefix + "a", "-o", "-").stdout == "2"
    run("rm", prefix + "a", "--all")
    assert run("ls", prefix).stdout == ""


@pytest.mark.parametrize(
    ("name", "local"),
    [("a/b/c.txt", "c.txt"), ("../../evil", "evil"), ("..", "_"), ("a/", None), ("a\x1b[2Jb", "a_[2Jb")],
)
def test_where_a_file_goes(run: Run, prefix: str, name: str, local: str | None) -> None:
    written(Path("source"), b"x")
    (stored,) = lines_of(run("put", "source", "--name", f"{prefix}/{name}", "--json"))
    done = run("get", stored["id"])
    assert Path(local or stored["id"]).read_bytes() == b"x"
    assert "\x1b" not in done.stdout
    assert "\x1b" not in run("ls", "-l", prefix).stdout + run("info", stored["id"]).stdout
    assert "is there already. Name another one with -o, or" in run("get", stored["id"], code=1).stderr
    run("get", stored["id"], "--force")
    Path("folder").mkdir()
    run("get", stored["id"], "-o", "folder")
    assert [path.name for path in Path("folder").iterdir()] == [local or stored["id"]]


# ---- sync


@pytest.fixture
def tree() -> Path:
    for name in ("tree/same", "tree/sub/changed", "tree/new"):
        written(Path(name), name.encode())
    return Path("tree")


def stored(run: Run, prefix: str) -> dict[str, str]:
    """Names and what the files with them hold; several of a name make a list."""
    found: dict[str, str] = {}
    for view in lines_of(run("ls", "--json", prefix)):
        name = view["name"].removeprefix(prefix)
        content = run("get", view["id"], "-o", "-").stdout
        found[name] = f"{found[name]},{content}" if name in found else content
    return found


def test_a_folder_is_made_the_same(run: Run, prefix: str, tree: Path, home: Path) -> None:
    first = run("sync", tree, "--to", prefix)
    assert "Stored 3 files, 33 B: sent 33 B, deduplicated 0 B, in " in first.stderr
    assert first.stderr.endswith("; 0 were there, 0 deleted\n")
    assert "Stored 0 files" in run("sync", tree, "--to", prefix).stderr
    written(tree / "sub/changed", b"CHANGED sub/tree")
    (tree / "new").unlink()
    second = run("sync", tree, "--to", prefix)
    assert second.stderr.endswith("; 1 were there, 1 deleted\n")
    assert stored(run, prefix) == {"same": "tree/same", "new": "tree/new", "sub/changed": "CHANGED sub/tree"}
    run("sync", tree, "--to", prefix, "--delete")
    assert set(stored(run, prefix)) == {"same", "sub/changed"}


def test_what_a_sync_would_do(run: Run, prefix: str, tree: Path) -> None:
    run("sync", tree, "--to", prefix)
    written(tree / "same", b"other")
    (tree / "new").unlink()
    before = stored(run, prefix)
    views = lines_of(run("sync", tree, "--to", prefix, "--delete", "--dry-run", "--json"))
    assert [(view["action"], view["name"].removeprefix(prefix)) for view in views] == [
        ("would store", "same"),
        ("would delete", "same"),
        ("would delete", "new"),
    ]
    assert "would store                      5 B  " in run("sync", tree, "--to", prefix, "-n").stdout
    assert stored(run, prefix) == before


def test_old_files_can_be_kept(run: Run, prefix: str, tree: Path) -> None:
    run("sync", tree, "--to", prefix)
    written(tree / "same", b"other")
    for _ in range(2):
        run("sync", tree, "--to", prefix, "--keep-old")
        assert stored(run, prefix)["same"] == "other,tree/same"
    written(tree / "same", b"tree/same")
    run("sync", tree, "--to", prefix, "--keep-old")
    assert stored(run, prefix)["same"] == "tree/same,other,tree/same", "the newest is to be the same"
    run("sync", tree, "--to", prefix)
    assert stored(run, prefix)["same"] == "tree/same"


def test_what_is_excluded_is_neither_stored_nor_deleted(run: Run, prefix: str, tree: Path) -> None:
    run("sync", tree, "--to", prefix)
    for name in ("sub/changed", "new", "same"):
        (tree / name).unlink()
    written(tree / "a.tmp", b"x")
    run("sync", tree, "--to", prefix, "--delete", "--exclude", "*.tmp", "--exclude", "sub", "--exclude", "new")
    assert set(stored(run, prefix)) == {"sub/changed", "new"}


def test_nothing_is_deleted_where_something_failed(
    run: Run, prefix: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("sync", tree, "--to", prefix)
    (tree / "new").unlink()
    written(tree / "sub/changed", b"CHANGED")
    monkeypatch.setattr("app.client.local.LocalFile.check", _fail)
    done = run("sync", tree, "--to", prefix, "--delete", code=1)
    assert "Nothing that is not in the folder was deleted" in done.stderr
    assert stored(run, prefix) == {name: f"tree/{name}" for name in ("same", "sub/changed", "new")}


def _fail(file: Any) -> None:
    raise OSError(5, "Input/output error")


def test_a_sync_without_a_prefix_deletes_nothing(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "say --to PREFIX" in run("sync", ".", "--delete", code=2).stderr
    assert "say --to PREFIX" in run("sync", tree, "--to", "", "--delete", code=2).stderr


def test_objects_of_buckets_are_left_alone(run: Run, prefix: str, tree: Path, store_server: Running) -> None:
    s3, bucket, prefix = client_of(store_server), f"sync-{prefix[:-1]}", f"{prefix[:-1]}-"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=prefix + "extra", Body=b"x")
    run("sync", tree, "--to", prefix, "--delete")
    assert s3.get_object(Bucket=bucket, Key=prefix + "extra")["Body"].read() == b"x"
    assert {view["bucket"] for view in lines_of(run("ls", "--json", prefix)) if "bucket" in view} == {bucket}


# ---- which server, and what goes wrong


def test_what_can_not_be_asked_for(run: Run) -> None:
    for words, told in (
        (("put",), "Missing argument"),
        (("put", "-"), "needs a --name"),
        (("put", "-", "a", "--name", "x"), "--name is for one file"),
        (("put", "a", "b", "--name", "x"), "--name is for one file"),
        (("nothing",), "No such command"),
        (("ping", "--url", "no address"), "no address of a server"),
        (("ping", "--profile", "none"), "There is no profile 'none'"),
    ):
        assert told in run(*words, code=2).stderr, words


def test_a_key_that_is_not_good(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The server is ready: " in run("ping").stdout
    assert json.loads(run("ping", "--json").stdout)["seconds"] > 0
    monkeypatch.setenv("MINI_S3_SECRET_KEY", "another-secret")
    refused = run("ping", code=1).stderr
    assert "`mini-s3 config set` keeps a key, or set MINI_S3_ACCESS_KEY and MINI_S3_SECRET_KEY." in refused


def test_a_server_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.link._FIRST_CONTACT", 0.1)
    done = run("ls", "--url", "http://127.0.0.1:9", code=1)
    assert done.stderr == (
        "mini-s3: http://127.0.0.1:9 can't be reached: Connection refused. "
        "Is the server running, and is this its address?\n"
    )


def test_profiles(
    run: Run, home: Path, store_server: Running, key_for: KeyFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("URL", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.delenv(f"MINI_S3_{name}")
    key, secret = key_for("--owner", "profiles")
    assert (
        "work is in"
        in run("config", "set", "work", "--url", store_server.url, "--access-key", key, input=f"{secret}\n").stdout
    )
    run("config", "set", "elsewhere", "--url", "http://127.0.0.1:9")
    assert stat.S_IMODE((home / "config" / "mini-s3" / "profiles.ini").stat().st_mode) == 0o600
    assert secret not in run("config", "list").stdout
    views = json.loads(run("config", "list", "--json").stdout)["profiles"]
    assert [(view["name"], view["accessKey"], view["current"]) for view in views] == [
        ("work", key, True),
        ("elsewhere", None, False),
    ]
    run("ping")
    run("config", "use", "elsewhere")
    run("ping", "--profile", "work")
    run("config", "remove", "elsewhere")
    assert "There is no profile 'elsewhere'. There are: work;" in run("config", "use", "elsewhere", code=2).stderr
    assert "go together" in run("config", "set", "bad", "--access-key", key, input="\n", code=2).stderr


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("[a]\nurl = http://x\n", 0o644, "chmod 600"),
        ("no profiles", 0o600, "can't be read"),
        ("[a]\n[a]\n", 0o600, "can't be read"),
    ],
)
def test_profiles_that_are_not_good(home: Path, content: str, mode: int, told: str) -> None:
    path = home / "config" / "mini-s3" / "profiles.ini"
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=told):
        chosen(None, None, {})


KEYS = {"MINI_S3_ACCESS_KEY": "env-key", "MINI_S3_SECRET_KEY": "env-secret"}


@pytest.mark.parametrize(
    ("url", "profile", "environment", "expected"),
    [
        (None, None, {}, Server("http://one", "one-key", "one-secret")),
        (None, None, {"MINI_S3_PROFILE": "two"}, Server("http://two")),
        (None, "two", {"MINI_S3_PROFILE": "one", "MINI_S3_URL": "http://env"}, Server("http://two")),
        (None, None, {"MINI_S3_URL": "http://env"} | KEYS, Server("http://env", "env-key", "env-secret")),
        ("http://flag", None, {"MINI_S3_URL": "http://env"} | KEYS, Server("http://flag", "env-key", "env-secret")),
        ("http://flag", None, {}, Server("http://flag")),
        ("http://flag", "one", KEYS, Server("http://flag", "one-key", "one-secret")),
        (None, "two", KEYS, Server("http://two")),
    ],
)
def test_which_server_is_meant_and_which_key_it_gets(
    home: Path, url: str | None, profile: str | None, environment: Mapping[str, str], expected: Server
) -> None:
    profiles = Profiles(usual_path())
    profiles.set("one", Server("http://one", "one-key", "one-secret"))
    profiles.set("two", Server("http://two"))
    profiles.save()
    assert chosen(url, profile, environment) == expected


def test_without_profiles_it_is_the_server_on_this_machine(home: Path) -> None:
    assert chosen(None, None, {}) == Server(USUAL_URL)
    assert chosen(None, None, KEYS) == Server(USUAL_URL, "env-key", "env-secret")


def test_a_server_does_not_mind_the_settings_of_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "PROFILE", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(f"MINI_S3_{name}", "http://x")
        assert name.lower() not in Settings.model_fields
    Settings()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mini-s3 p", {"put", "ping"}),
        ("mini-s3 put --rec", {"--recursive"}),
        ("mini-s3 get {prefix}", {"{prefix}a.bin", "{prefix}b.bin"}),
        ("mini-s3 ping --profile w", {"work"}),
    ],
)
def test_shells_complete_words(run: Run, prefix: str, words: str, expected: set[str]) -> None:
    run("config", "set", "work")
    for name in ("a.bin", "b.bin"):
        run("put", written(Path(name), b"x"), "--prefix", prefix)
    asked = words.format(prefix=prefix)
    env = {"_MINI_S3_COMPLETE": "bash_complete", "COMP_WORDS": asked, "COMP_CWORD": str(len(asked.split()) - 1)}
    done = CliRunner(env=env).invoke(main, prog_name="mini-s3")
    found = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert {word.format(prefix=prefix) for word in expected} <= found


def test_a_shell_is_told_how_to_complete(home: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = CliRunner(env={"_MINI_S3_COMPLETE": f"{shell}_source"}).invoke(main, prog_name="mini-s3")
        assert "_MINI_S3_COMPLETE" in done.stdout
