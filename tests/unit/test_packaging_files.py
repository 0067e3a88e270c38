"""The files that no Python code imports: the API's description, the page, the container files.

Nothing here starts a container: what is checked is that these files are well formed and agree with
each other and with the code.
"""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app import errors
from app.nodes.health import NodeState
from app.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "app/api/static"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


# ---- openapi.json


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    return json.loads((ROOT / "app/api/openapi.json").read_text())


def _operations(api: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in api["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def _resolved(api: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = api
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _responses(api: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for name, operation in _operations(api):
        for status, response in operation["responses"].items():
            yield name, int(status), _resolved(api, response)


def test_the_api_description_is_valid(api: dict[str, Any]) -> None:
    validate(api)
    assert api["openapi"].startswith("3.1.")
    assert api["info"]["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_api_description_has_every_call(api: dict[str, Any]) -> None:
    assert {name for name, _ in _operations(api)} == {
        "POST /api/upload",
        "POST /api/uploads",
        "GET /api/uploads",
        "GET /api/uploads/{id}",
        "DELETE /api/uploads/{id}",
        "PUT /api/uploads/{id}/parts/{number}",
        "POST /api/uploads/{id}/missing",
        "PUT /api/uploads/{id}/chunks/{digest}",
        "POST /api/uploads/{id}/complete",
        "OPTIONS /api/tus",
        "POST /api/tus",
        "OPTIONS /api/tus/{id}",
        "HEAD /api/tus/{id}",
        "PATCH /api/tus/{id}",
        "POST /api/tus/{id}",
        "DELETE /api/tus/{id}",
        "GET /api/files",
        "GET /api/files/{id}",
        "HEAD /api/files/{id}",
        "DELETE /api/files/{id}",
        "GET /api/files/{id}/info",
        "GET /api/files/{id}/manifest",
        "GET /api/content/{contentId}",
        "HEAD /api/content/{contentId}",
        "GET /api/stats",
        "GET /health",
        "GET /ready",
        "GET /metrics",
        "GET /openapi.json",
        "GET /",
    }


def test_every_operation_says_what_it_is(api: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in api["tags"]}
    for name, operation in _operations(api):
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert any(status.startswith("2") for status in operation["responses"]), name
    ids = Counter(operation.get("operationId") for _, operation in _operations(api))
    assert set(ids.values()) == {1}
    assert None not in ids


def test_every_answer_names_its_request_and_every_error_is_a_problem(api: dict[str, Any]) -> None:
    for name, status, response in _responses(api):
        assert "X-Request-Id" in response["headers"], (name, status)
        if status in (429, 503):
            assert "Retry-After" in response["headers"], (name, status)
        if status >= 400 and name != "GET /ready":
            assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_the_problem_codes_are_those_of_the_error_tree(api: dict[str, Any]) -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    tree = {kind.code for kind in classes if issubclass(kind, errors.MiniS3Error)}
    described = api["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    # The router's own answer to a method that a path does not have.
    assert Counter(described) == Counter(tree | {"method-not-allowed"})


def test_the_node_states_are_those_of_the_cluster(api: dict[str, Any], script: str) -> None:
    states = api["components"]["schemas"]["NodeStats"]["properties"]["state"]["enum"]
    assert Counter(states) == Counter(get_args(NodeState))
    (used,) = re.findall(r"node\.state === \"([a-z]+)\"", script)
    assert used in states


def test_the_codes_that_answers_mention_exist(api: dict[str, Any]) -> None:
    codes = set(api["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
    for name, response in api["components"]["responses"].items():
        if "application/problem+json" in response.get("content", {}):
            mentioned = set(re.findall(r"`([a-z-]+)`", response["description"]))
            assert mentioned, name
            assert mentioned <= codes, name


def test_every_component_is_used(api: dict[str, Any]) -> None:
    text = json.dumps(api)
    for kind, parts in api["components"].items():
        for name in parts:
            used = f'{{"{name}": []}}' if kind == "securitySchemes" else f'"#/components/{kind}/{name}"'
            assert used in text, f"{kind}/{name}"


def test_every_call_says_whether_it_needs_a_key(api: dict[str, Any]) -> None:
    assert api["security"] == [{"basic": []}, {"bearer": []}, {}]
    for name, operation in _operations(api):
        free = name in ("GET /health", "GET /ready", "GET /openapi.json") or name.startswith("OPTIONS ")
        assert operation.get("security") == ([] if free else None), name
        assert ("401" in operation["responses"]) != free, name


def test_the_examples_are_what_their_schemas_say(api: dict[str, Any]) -> None:
    schemas = api["components"]["schemas"]
    examples = [(name, example) for name, schema in schemas.items() for example in schema.get("examples", ())]
    assert examples
    for name, example in examples:
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": api["components"]}).validate(
            example
        )


# ---- the page


class _Page(HTMLParser):
    """All elements of a page, with their attributes, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inline += data

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


@pytest.fixture(scope="module")
def page() -> _Page:
    return _Page((STATIC / "index.html").read_text())


@pytest.fixture(scope="module")
def script() -> str:
    return (STATIC / "index.js").read_text()


def test_the_page_keeps_to_its_content_security_policy(page: _Page, script: str) -> None:
    assert page.inline.strip() == ""
    for tag, attrs in page.elements:
        assert tag not in ("style", "base", "iframe", "object", "embed"), tag
        assert tag != "script" or attrs.get("src"), tag
        assert not any(name == "style" or name.startswith("on") for name in attrs), (tag, attrs)
    assert not re.search(r"\beval\(|new Function|\.style\b|[\"']style[\"']|[\"']on[a-z]+[\"']", script)


def test_names_reach_the_page_as_text_only(script: str) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|createContextualFragment|document\.write", script
    )


def test_the_page_refers_only_to_what_is_there(page: _Page, script: str, api: dict[str, Any]) -> None:
    links = [*page.values("src"), *page.values("href")]
    assert {"/static/index.js", "/static/index.css"} <= set(links)
    for link in links:
        if link.startswith("/static/"):
            assert (STATIC / link.removeprefix("/static/")).is_file(), link
        else:
            assert link in api["paths"]
    assert not re.search(r"url\(|@import", (STATIC / "index.css").read_text())
    assert not re.search(r"\bimport\b|https?:", script)
    calls = {re.sub(r"\$\{[^}]*\}", "{id}", call) for call in re.findall(r"[\"`](/[a-z][^\"`?]*)", script)}
    assert {"/api/upload", "/api/files", "/api/files/{id}", "/api/stats"} == calls
    assert calls <= set(api["paths"])


def test_the_page_has_every_id_that_is_asked_for(page: _Page, script: str) -> None:
    ids = Counter(page.values("id"))
    assert set(ids.values()) == {1}
    asked = set(re.findall(r"byId\(\"([a-z-]+)\"\)", script))
    assert asked
    for name in ("for", "aria-labelledby", "aria-describedby"):
        asked.update(page.values(name))
    assert asked <= set(ids)


def test_the_page_can_be_read_by_everyone(page: _Page) -> None:
    assert page.values("lang") == ["en"]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    labelled = set(page.values("for"))
    fields = [attrs["id"] for tag, attrs in page.elements if tag in ("input", "progress")]
    assert set(fields) == labelled


# ---- Dockerfile


INSTRUCTIONS = re.compile("FROM|ENV|RUN|COPY|USER|WORKDIR|VOLUME|EXPOSE|HEALTHCHECK|ENTRYPOINT")
"""Those that we use."""


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Its instructions in order: each one's name and the rest."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def _one(dockerfile: list[tuple[str, str]], instruction: str) -> str:
    (rest,) = (rest for name, rest in dockerfile if name == instruction)
    return rest


def _image_environment(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in _one(dockerfile, "ENV").split())


def test_the_dockerfile_is_well_formed(dockerfile: list[tuple[str, str]]) -> None:
    names = [name for name, _ in dockerfile]
    assert names[0] == "FROM"
    builder, image = (rest for name, rest in dockerfile if name == "FROM")
    assert builder == f"{image.removesuffix('-slim')} AS build"
    assert all(INSTRUCTIONS.fullmatch(name) for name in names)
    assert json.loads(_one(dockerfile, "ENTRYPOINT")) == ["mini-s3", "serve"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "mini-s3" in scripts


def test_the_image_copies_only_what_is_there_and_let_in(dockerfile: list[tuple[str, str]]) -> None:
    copies = [rest for name, rest in dockerfile if name == "COPY" and not rest.startswith("--from=build ")]
    sources = [source for copy in copies for source in copy.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "app", project["readme"]} == set(sources)


def test_the_image_has_what_nodes_of_every_kind_need(dockerfile: list[tuple[str, str]]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name.partition(">")[0] for name in extras["s3"]] == ["obstore"]
    assert set(extras["s3"]) <= set(extras["dev"])
    (install,) = (rest for name, rest in dockerfile if name == "RUN" and "pip install" in rest)
    assert install.endswith("'/src[s3]'")


def test_the_image_does_not_run_as_root(dockerfile: list[tuple[str, str]]) -> None:
    user = _one(dockerfile, "USER")
    assert user not in ("root", "0")
    made = next(at for at, (name, rest) in enumerate(dockerfile) if name == "RUN" and "useradd" in rest)
    assert made < dockerfile.index(("USER", user))
    assert re.search(rf"useradd .*\b{user}\b", dockerfile[made][1])
    volume = _one(dockerfile, "VOLUME")
    assert re.search(rf"install --directory --owner={user} .* {volume}$", dockerfile[made][1])


def test_the_image_asks_itself_whether_it_is_ready(dockerfile: list[tuple[str, str]], api: dict[str, Any]) -> None:
    command = json.loads(_one(dockerfile, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    (url,) = re.findall(r"'(http:[^']*)'", command[2])
    assert urlsplit(url).path in api["paths"]
    assert urlsplit(url).port == int(_one(dockerfile, "EXPOSE")) == Settings.model_fields["port"].default


# ---- docker-compose.yml


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture
def deployed(compose: dict[str, Any], dockerfile: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the app's container has them."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"MINI_S3_{field.upper()}", raising=False)
    for name, value in (_image_environment(dockerfile) | compose["services"]["app"]["environment"]).items():
        assert isinstance(value, str), f"{name} must be a string"
        if name.startswith("MINI_S3_"):
            assert name.removeprefix("MINI_S3_").lower() in Settings.model_fields, name
            monkeypatch.setenv(name, value)
    return load_settings({})


KEYS = re.compile("build|command|depends_on|environment|healthcheck|image|ports|restart|stop_grace_period|volumes")
"""What we say of a service."""


def test_the_composition_is_well_formed(compose: dict[str, Any]) -> None:
    assert set(compose) == {"services", "volumes"}
    assert set(compose["services"]) == {"app", "mongo", "redis"}
    for name, service in compose["services"].items():
        assert all(KEYS.fullmatch(key) for key in service), name
        assert ("build" in service) != ("image" in service), name
        assert service["restart"] == "unless-stopped"
    assert "$" not in json.dumps(compose)


def test_every_named_volume_is_declared_and_used_once(compose: dict[str, Any]) -> None:
    used = [volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]]
    assert sorted(used) == sorted(compose["volumes"])


def test_the_app_waits_until_the_others_are_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["app"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("mongo", "redis")}
    for name in ("mongo", "redis"):
        check = services[name]["healthcheck"]
        assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}
        assert check["test"][0] == "CMD"
        assert all(isinstance(word, str) for word in check["test"])


def test_the_mongo_healthcheck_makes_the_replica_set(compose: dict[str, Any], deployed: Settings) -> None:
    mongo = compose["services"]["mongo"]
    url = urlsplit(deployed.mongo_url)
    (replica_set,) = parse_qs(url.query)["replicaSet"]
    assert mongo["command"] == ["--replSet", replica_set, "--bind_ip_all"]
    script = mongo["healthcheck"]["test"][-1]
    assert f'rs.initiate({{_id: "{replica_set}", members: [{{_id: 0, host: "{url.netloc}"}}]}})' in script
    assert script.endswith("quit(db.hello().isWritablePrimary ? 0 : 1)")
    assert url.hostname in compose["services"]


def test_the_settings_of_the_composition_are_accepted(
    compose: dict[str, Any], dockerfile: list[tuple[str, str]], deployed: Settings
) -> None:
    app = compose["services"]["app"]
    assert deployed.workers == 2
    assert deployed.host == "0.0.0.0"
    assert deployed.auth, "without a key it would not start there"
    assert app["ports"] == [f"{deployed.port}:{deployed.port}"]
    assert urlsplit(deployed.redis_url).hostname in compose["services"]
    (mount,) = (Path(volume.split(":")[1]) for volume in app["volumes"])
    assert mount == Path(_one(dockerfile, "VOLUME")) == deployed.data_dir
    assert len(set(deployed.node_urls)) == 3
    assert all(Path(node).is_relative_to(mount) for node in deployed.node_urls)


def test_the_server_may_finish_before_it_is_killed(compose: dict[str, Any], deployed: Settings) -> None:
    grace = compose["services"]["app"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > deployed.shutdown_timeout
