"""Access keys from outside: the commands that make them, and what servers let them do."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.e2e.helpers import FORM, Part, Wire, assert_problem, command, distinct, form, own_server, result_of
from tests.support import Databases, Server, eventually

ROOT = ("the-root", "the-root's-secret")


class Keyed:
    """A server that asks for keys, and the commands on its store."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database)
        self.with_master = (*self.where, "--data-dir", server.data_dir)

    def make(self, *words: object) -> Any:
        return result_of("key", "create", *self.with_master, *words)

    def client(self, pair: Any) -> httpx.Client:
        pair = (pair["accessKey"], pair["secretKey"]) if isinstance(pair, dict) else pair
        return httpx.Client(base_url=self.server.url, timeout=60, trust_env=False, auth=pair)


@pytest.fixture(scope="module")
def keyed(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """One server for all tests here that do not stop it. The root's pair is in its environment, not in its flags."""
    env = {"MINI_S3_ROOT_ACCESS_KEY": ROOT[0], "MINI_S3_ROOT_SECRET_KEY": ROOT[1]}
    with own_server(databases, tmp_path_factory, env=env, log_level="debug") as server:
        yield Keyed(server)


def send(client: httpx.Client, name: str, content: bytes = b"x") -> httpx.Response:
    return client.post("/api/upload", files={"file": (name, content)})


CALLS = [
    ("GET", "/api/files"),
    ("GET", "/api/files/{id}"),
    ("HEAD", "/api/files/{id}"),
    ("GET", "/api/files/{id}/info"),
    ("GET", "/api/files/{id}/manifest"),
    ("GET", "/api/content/{content}"),
    ("GET", "/api/stats"),
    ("GET", "/metrics"),
    ("POST", "/api/upload"),
    ("DELETE", "/api/files/{id}"),
]


@pytest.fixture(scope="module")
def file(keyed: Keyed) -> Any:
    with keyed.client(ROOT) as root:
        return send(root, "of the root", b"root").json()["file"]


def call(client: httpx.Client, method: str, path: str, file: Any) -> httpx.Response:
    target = path.format(id=file["id"], content=file["contentId"])
    return client.request(method, target, files={"file": b"x"} if method == "POST" else None)


# Who is let in


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "/")])
def test_without_a_key_there_is_nothing(keyed: Keyed, file: Any, method: str, path: str) -> None:
    answer = call(keyed.server.client, method, path, file)
    assert answer.headers.get_list("www-authenticate") == [
        'Basic realm="Mini-S3", charset="UTF-8"',
        'Bearer realm="Mini-S3"',
    ]
    if method == "HEAD":
        assert answer.status_code == 401
    else:
        assert_problem(answer, 401, "unauthenticated")


def test_how_a_server_is_and_what_it_offers_is_no_secret(keyed: Keyed) -> None:
    for path in ("/health", "/ready", "/openapi.json", "/static/index.js"):
        assert keyed.server.client.get(path).status_code == 200


def test_a_pair_goes_as_basic_or_bearer(keyed: Keyed) -> None:
    key = keyed.make()
    pair = f"{key['accessKey']}:{key['secretKey']}"
    encoded = base64.b64encode(pair.encode()).decode()
    for header in (f"Basic {encoded}", f"basic  {encoded}", f"Bearer {pair}", f"BEARER {pair}"):
        assert keyed.server.client.get("/api/files", headers={"Authorization": header}).status_code == 200, header
    for header in (
        "",
        "Basic",
        "Bearer",
        f"Basic {pair}",
        f"Bearer {encoded}",
        f"Token {pair}",
        f"Bearer {key['accessKey']}",
        f"Bearer :{key['secretKey']}",
        f"Bearer {key['accessKey']}:",
        f"Basic {encoded[:-3]}é",
        "Basic //79/Q==",
    ):
        answer = keyed.server.client.get("/api/files", headers={"Authorization": header.encode("latin-1")})
        assert_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (("A" * 20, "x"), "unknown-key"),
        (("no such key", "x"), "unknown-key"),
        (("THE-ROOT", ROOT[1]), "unknown-key"),
        ((ROOT[0], ROOT[1][:-1]), "wrong-secret"),
        ((ROOT[0], ROOT[1] + "é"), "wrong-secret"),
    ],
)
def test_a_pair_that_is_wrong_is_refused(keyed: Keyed, pair: tuple[str, str], code: str) -> None:
    with keyed.client(pair) as client:
        assert_problem(client.get("/api/files"), 401, code)
        assert_problem(send(client, "a"), 401, code)
        assert_problem(client.get("/"), 401, code)


def test_an_upload_is_refused_before_its_body_is_sent(keyed: Keyed) -> None:
    with Wire(keyed.server) as wire:
        body = form(Part(distinct(1)))
        wire.head(
            "POST",
            "/api/upload",
            [("Content-Type", FORM), ("Content-Length", str(len(body))), ("Expect", "100-continue")],
        )
        assert_problem(wire.answer(), 401, "unauthenticated")


def test_the_page_is_for_any_key(keyed: Keyed) -> None:
    with keyed.client(keyed.make("--allow", "read")) as client:
        assert client.get("/").headers["content-type"].startswith("text/html")


# What a key allows

SESSIONS = [
    ("POST", "/api/uploads"),
    ("GET", "/api/uploads"),
    ("GET", f"/api/uploads/{'0' * 24}"),
    ("DELETE", f"/api/uploads/{'0' * 24}"),
    ("PUT", f"/api/uploads/{'0' * 24}/parts/1"),
    ("PUT", f"/api/uploads/{'0' * 24}/chunks/{'0' * 64}"),
    ("POST", f"/api/uploads/{'0' * 24}/missing"),
    ("POST", f"/api/uploads/{'0' * 24}/complete"),
    ("POST", "/api/tus"),
    ("HEAD", f"/api/tus/{'0' * 24}"),
    ("PATCH", f"/api/tus/{'0' * 24}"),
    ("DELETE", f"/api/tus/{'0' * 24}"),
]


def test_upload_sessions_ask_for_the_permission_to_write(keyed: Keyed) -> None:
    speaks = {"Tus-Resumable": "1.0.0"}
    with (
        keyed.client(keyed.make("--allow", "read,list,delete")) as reader,
        keyed.client(keyed.make("--allow", "write")) as writer,
    ):
        for method, path in SESSIONS:
            answers = [client.request(method, path, headers=speaks) for client in (keyed.server.client, reader, writer)]
            assert [answer.status_code for answer in answers[:2]] == [401, 403], path
            assert answers[2].status_code in (200, 400, 404, 415), path
            if path.startswith("/api/tus"):
                assert {answer.headers["tus-resumable"] for answer in answers} == {"1.0.0"}
    assert keyed.server.client.options("/api/tus").status_code == 204, "a page asks without a key"


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        ("list", {"/api/files"}),
        ("write", {"/api/upload"}),
        ("delete", {"DELETE"}),
        ("admin", {"/api/stats", "/metrics"}),
        (
            "read",
            {"/api/files/{id}", "HEAD", "/api/files/{id}/info", "/api/files/{id}/manifest", "/api/content/{content}"},
        ),
    ],
)
def test_a_permission_opens_its_calls_and_no_others(keyed: Keyed, permission: str, allowed: set[str]) -> None:
    with keyed.client(keyed.make("--owner", "shared")) as all_of_it:
        own = send(all_of_it, "own", os.urandom(8)).json()["file"]
    with keyed.client(keyed.make("--owner", "shared", "--allow", permission)) as client:
        for method, path in CALLS:
            answer = call(client, method, path, own)
            if (path if method in ("GET", "POST") else method) in allowed:
                assert answer.is_success, (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path)
                if method != "HEAD":
                    body = assert_problem(answer, 403, "forbidden")
                    assert re.search("`(read|write|list|delete|admin)`", body["detail"])


def test_accounts_do_not_see_each_other(keyed: Keyed, file: Any) -> None:
    alice, bob = (keyed.client(keyed.make("--owner", owner)) for owner in ("alice", "bob"))
    with alice, bob, keyed.client(ROOT) as root:
        own = send(alice, "hers", b"of alice").json()["file"]
        for other in (own, file):
            for method, path in CALLS[1:]:
                if "{" in path:
                    answer = call(bob, method, path, other)
                    assert answer.status_code == 404, (method, path)
        assert bob.get("/api/files").json()["files"] == []
        assert [listed["id"] for listed in alice.get("/api/files").json()["files"]] == [own["id"]]
        assert root.get(f"/api/files/{own['id']}").content == b"of alice"
        assert {own["id"], file["id"]} <= {listed["id"] for listed in root.get("/api/files").json()["files"]}
        # The same bytes again: linked, and still each one's own.
        again = send(bob, "his", b"of alice").json()
        assert (again["chunks"]["linked"], again["file"]["contentId"]) == (1, own["contentId"])
        assert bob.get(f"/api/content/{own['contentId']}").headers["content-disposition"].endswith('"his"')
        assert bob.delete(f"/api/files/{own['id']}").status_code == 404
        assert root.delete(f"/api/files/{own['id']}").status_code == 204


def test_a_key_is_limited_to_its_prefixes(keyed: Keyed) -> None:
    with (
        keyed.client(keyed.make("--owner", "dora")) as all_of_it,
        keyed.client(keyed.make("--owner", "dora", "--prefix", "a/", "--prefix", "b/")) as limited,
        keyed.client(keyed.make("--owner", "dora", "--bucket", "photos")) as elsewhere,
    ):
        outside = send(all_of_it, "c/1").json()["file"]
        inside = send(limited, "a/1", b"inside").json()["file"]
        assert send(limited, "b/1").status_code == 201
        assert_problem(send(limited, "c/2"), 403, "forbidden")
        mixed = [("file", ("a/2", b"good")), ("file", ("c/2", b"bad"))]
        assert_problem(limited.post("/api/upload", files=mixed), 403, "forbidden")
        for method, path in CALLS[1:5]:
            assert call(limited, method, path, inside).is_success
            assert call(limited, method, path, outside).status_code == 403
        assert_problem(limited.delete(f"/api/files/{outside['id']}"), 403, "forbidden")
        assert_problem(limited.get("/api/files"), 403, "forbidden")
        assert len(limited.get("/api/files?name=a/").json()["files"]) == 1
        assert_problem(elsewhere.get(f"/api/files/{inside['id']}"), 403, "forbidden")
        assert_problem(send(elsewhere, "photos/1"), 403, "forbidden")
        assert {one["name"] for one in all_of_it.get("/api/files").json()["files"]} == {"a/1", "b/1", "c/1"}


# The life of a key


def test_a_key_is_disabled_enabled_rotated_and_deleted(keyed: Keyed) -> None:
    key = keyed.make("--owner", "eve")
    name = key["accessKey"]

    def becomes(client: httpx.Client, code: str | None) -> None:
        eventually(lambda: client.get("/api/files").json().get("code") == code)

    with keyed.client(key) as client:
        becomes(client, None)
        assert result_of("key", "disable", name, *keyed.where) == {"accessKey": name, "done": "disable"}
        becomes(client, "key-disabled")
        assert command("key", "enable", name, *keyed.where).stdout == f"{name} is accepted again.\n"
        becomes(client, None)
        rotated = result_of("key", "rotate", name, "--grace", "1h", *keyed.with_master)
        with keyed.client(rotated) as new:
            becomes(new, None)
            becomes(client, None)
            last = result_of("key", "rotate", name, *keyed.with_master)
            for old in (client, new):
                becomes(old, "wrong-secret")
        with keyed.client(last) as new:
            becomes(new, None)
            assert command("key", "delete", name, *keyed.where).returncode == 0
            becomes(new, "unknown-key")
    for change in ("disable", "enable", "delete"):
        refused = command("key", change, name, *keyed.where)
        assert (refused.returncode, f"There is no access key {name}" in refused.stderr) == (2, True)


def test_a_key_expires(keyed: Keyed, databases: Databases) -> None:
    key = keyed.make("--expires", "30d")
    with keyed.client(key) as client, databases.client() as mongo:
        assert client.get("/api/files").status_code == 200
        keys = mongo[keyed.server.mongo_database]["keys"]
        past = [{"$set": {"expiresAt": {"$subtract": ["$$NOW", 1000]}}}]
        assert keys.update_one({"_id": key["accessKey"]}, past).modified_count == 1
        eventually(lambda: client.get("/api/files").status_code == 401)
        assert_problem(client.get("/api/files"), 401, "key-expired")


# The commands


def test_keys_are_listed_without_secrets(keyed: Keyed) -> None:
    words = ("--owner", "finn", "--allow", "read,list", "--bucket", "b1", "--bucket", "b2", "--prefix", "p/")
    made = keyed.make(*words, "--expires", "2099-01-31")
    assert re.fullmatch("[A-Z0-9]{20}", made["accessKey"])
    assert re.fullmatch("[A-Za-z0-9]{40}", made["secretKey"])
    (listed,) = [key for key in result_of("key", "list", *keyed.where)["keys"] if key["owner"] == "finn"]
    assert {**listed, "secretKey": made["secretKey"]} == made
    assert listed["scopes"] == [{"bucket": bucket, "prefix": "p/"} for bucket in ("b1", "b2")]
    assert (listed["permissions"], listed["expiresAt"]) == (["list", "read"], "2099-01-31T00:00:00.000Z")
    (line,) = [row for row in command("key", "list", *keyed.where).stdout.splitlines() if "finn" in row]
    assert line.split() == [made["accessKey"], "finn", "enabled", "2099-01-31", "00:00", "list,read", "b1/p/,", "b2/p/"]


def test_a_new_key_is_shown_once_to_people(keyed: Keyed) -> None:
    done = command("key", "create", *keyed.with_master)
    key, secret, once = done.stdout.splitlines()
    assert (done.returncode, once) == (0, "The secret is shown this once: keep it.")
    assert secret.removeprefix("Secret key: ") not in command("key", "list", *keyed.where).stdout
    assert key.removeprefix("Access key: ") in command("key", "list", *keyed.where).stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--allow", "read,fly"), "fly: a key allows"),
        (("--allow", ""), "must allow something"),
        (("--allow", "admin", "--bucket", "b"), "about the whole store"),
        (("--owner", "a b"), "An owner is named"),
        (("--expires", "soon"), "no time and no date"),
        (("--expires", "2001-01-01"), "would have expired"),
        (("--expires", "0d"), "would have expired"),
        (("--expires", "999999w"), "no date"),
    ],
)
def test_keys_that_can_not_be_are_refused(keyed: Keyed, words: tuple[str, ...], reason: str) -> None:
    refused = command("key", "create", *keyed.with_master, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert reason in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


def test_another_master_key_or_none_is_told(keyed: Keyed, tmp_path: Path) -> None:
    keyed.make()
    none = command("key", "create", *keyed.where, "--data-dir", tmp_path)
    assert (none.returncode, "There is no master key in" in none.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
    wrong = base64.b64encode(bytes(32)).decode()
    refused = command("key", "create", *keyed.where, "--master-key", wrong)
    assert (refused.returncode, "the master key is not the one" in refused.stderr) == (2, True)


def test_a_server_with_another_master_key_does_not_start(keyed: Keyed, start_server: StartServer) -> None:
    keyed.make()
    with pytest.raises(RuntimeError, match="the master key is not the one"):
        start_server(mongo_database=keyed.server.mongo_database, nodes=keyed.server.data_dir / "nodes" / "node1")


# Where secrets are not


def test_secrets_are_in_no_log_and_no_list_of_processes(keyed: Keyed) -> None:
    key = keyed.make()
    with keyed.client(key) as client, keyed.client((key["accessKey"], "a-wrong-secret")) as wrong:
        assert client.get("/api/files").status_code == 200
        assert wrong.get("/api/files").status_code == 401
    processes = [keyed.server.process.pid, *keyed.server.worker_pids()]
    seen = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in processes)
    assert "app.worker" in seen
    shown = seen + keyed.server.log_text() + "".join(keyed.server.said)
    master = (keyed.server.data_dir / "master.key").read_text().strip()
    for secret in (key["secretKey"], "a-wrong-secret", ROOT[1], master):
        assert secret not in shown
        assert base64.b64encode(f"{key['accessKey']}:{secret}".encode()).decode() not in shown


# Where nobody was given a key


def test_keys_are_asked_for_on_request_and_the_root_key_is_shown_once(start_server: StartServer) -> None:
    server = start_server(auth="yes")
    (access_line, secret_line, once, listening) = server.said
    pair = (access_line.removeprefix("Root access key: "), secret_line.removeprefix("Root secret key: "))
    assert "shown this once" in once
    assert "listening on" in listening
    kept = server.data_dir / "root.key"
    assert json.loads(kept.read_text()) == dict(zip(("accessKey", "secretKey"), pair, strict=True))
    assert [stat.S_IMODE((server.data_dir / name).stat().st_mode) for name in ("root.key", "master.key")] == [0o600] * 2
    server.client.auth = pair
    stored = server.upload(b"kept")["fileId"]
    server.stop()
    again = start_server()
    assert len(again.said) == 1
    assert again.client.get("/api/files").status_code == 401
    again.client.auth = pair
    assert again.client.get(f"/api/files/{stored}").content == b"kept"
    assert pair[1] not in server.log_text() + again.log_text()


def test_an_open_server_says_so_and_closes_with_the_first_key(start_server: StartServer) -> None:
    server = start_server(workers=2)
    assert server.process.stdout is not None
    assert server.process.stdout.readline().startswith("There are no access keys: everybody on this machine may")
    keyed = Keyed(server)
    stored = server.upload(b"before")["fileId"]
    server.client.headers["Connection"] = "close"
    done = command("key", "create", *keyed.with_master)
    assert "It is the first key of the store" in done.stdout
    key, secret = (line.partition(": ")[2] for line in done.stdout.splitlines()[:2])
    eventually(lambda: len(server.events("access keys are asked for from now on")) == 2)
    for path in ("/api/files", "/metrics", "/", "/api/stats"):
        assert server.client.get(path).status_code == 401
    with keyed.client((key, secret)) as client:
        assert client.get(f"/api/files/{stored}").content == b"before"
    assert command("key", "delete", key, *keyed.where).returncode == 0
    eventually(lambda: server.client.get("/api/files", auth=(key, secret)).json().get("code") == "unknown-key")
    assert server.client.get("/api/files").status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_served_without_keys(start_server: StartServer, host: str) -> None:
    with pytest.raises(RuntimeError, match=r"no access keys.*--auth yes.*--host 127\.0\.0\.1"):
        start_server(host=host)


def test_other_machines_are_served_with_keys(start_server: StartServer) -> None:
    server = start_server(host="0.0.0.0", auth="yes")
    assert server.client.get("/api/files").status_code == 401
    server.stop()
    server = start_server(host="0.0.0.0")
    key = Keyed(server).make()
    server.stop()
    (server.data_dir / "root.key").unlink()
    # Nobody has the root key any more: the keys of the store do.
    server = start_server(host="0.0.0.0")
    assert server.client.get("/api/files").status_code == 401
    assert server.client.get("/api/files", auth=(key["accessKey"], key["secretKey"])).status_code == 200


def test_a_local_name_is_local(start_server: StartServer) -> None:
    assert start_server(host="localhost").client.get("/api/files").status_code == 200


def test_commands_on_the_database_need_no_key(keyed: Keyed) -> None:
    assert result_of("check", *keyed.with_master)["clean"]
    assert command("gc", *keyed.with_master).returncode == 0


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/files"])
def test_guesses_are_limited(start_server: StartServer, path: str) -> None:
    # A Redis of its own: limits outlive a server, and other tests call from the same address.
    server = start_server(auth="yes", redis_url="", rate_api="3/hour")
    guesses = [server.client.get(path, auth=("the-root", f"guess {number}")).status_code for number in range(5)]
    assert guesses == [401, 401, 401, 429, 429]
    assert server.client.get("/ready").status_code == 200
