"""The server about itself: statistics, health, metrics, its description, its page."""

from __future__ import annotations

import re
from typing import Any, cast
from unittest.mock import MagicMock

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Mount

from app.api.app import Parts, _routes
from tests.conftest import StartServer
from tests.e2e.helpers import MIB, Part, distinct, form, metric, post_form, samples
from tests.support import Server, eventually

# Statistics


def assert_stats(server: Server, **figures: float) -> None:
    """These figures come, once what was read before is old enough, and the nodes add up to them."""

    def as_wanted() -> Any:
        stats = server.client.get("/api/stats").json()
        assert sum(node["chunks"] for node in stats["nodes"]) == stats["chunks"]
        assert sum(node["bytes"] for node in stats["nodes"]) == stats["storedBytes"]
        return {name: stats[name] for name in figures} == figures

    eventually(as_wanted)


def test_statistics_are_right_after_uploads_and_deletes(start_server: StartServer) -> None:
    server = start_server()
    shared = distinct(3)
    empty = server.client.get("/api/stats").json()
    assert (empty["files"], empty["logicalBytes"], empty["storedBytes"], empty["dedupRatio"]) == (0, 0, 0, 1)
    assert {node["state"] for node in empty["nodes"]} == {"active"}
    assert len({node["id"] for node in empty["nodes"]}) == 3
    assert all(node["freeBytes"] > 0 for node in empty["nodes"])

    server.upload(shared)
    doomed = server.upload(shared * 2 + b"tail")["fileId"]
    post_form(server, form(Part(shared), Part(b"")))
    logical, stored = 12 * MIB + 4, 3 * MIB + 4
    ratio = round(logical / stored, 4)
    assert_stats(server, files=4, logicalBytes=logical, chunks=4, storedBytes=stored, dedupRatio=ratio)

    server.client.delete(f"/api/files/{doomed}")
    assert_stats(server, files=3, logicalBytes=6 * MIB)


# Health and metrics


def test_health_and_readiness(server: Server) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    ready = server.client.get("/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "database": "up", "redis": "up", "nodes": {"up": 3, "total": 3}}


def count(server: Server, name: str, **labels: str) -> int:
    return int(metric(server, f"mini_s3_{name}_total", **labels))


def test_metrics_count_what_happened(server: Server) -> None:
    names = ("chunks_new", "chunks_linked", "stored_bytes", "saved_bytes", "received_bytes", "sent_bytes")
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    download = {"method": "GET", "route": "/api/files/{id}", "status": "200"}
    before = {name: count(server, name) for name in names}
    downloads = count(server, "requests", **download)
    missed = count(server, "requests", route="other", status="404")

    content = distinct(2, 500)
    file_id = server.upload(content)["fileId"]
    server.upload(content)
    server.client.get(f"/api/files/{file_id}")
    server.client.get("/nothing/of/this/name")

    grown = {name: count(server, name) - before[name] for name in names}
    assert (grown["chunks_new"], grown["chunks_linked"]) == (3, 3)
    assert (grown["stored_bytes"], grown["saved_bytes"]) == (len(content), len(content))
    assert 2 * len(content) < grown["received_bytes"] < 2 * len(content) + 2000
    assert grown["sent_bytes"] > len(content)
    assert count(server, "requests", **download) == downloads + 1
    assert count(server, "requests", route="other", status="404") == missed + 1
    text = server.client.get("/metrics").text
    assert file_id not in text
    kept = {name for name, _ in samples(text)}
    assert {"mini_s3_buffers_bytes", "mini_s3_request_seconds_count", "mini_s3_request_seconds_bucket"} <= kept


def test_metrics_are_the_sum_of_all_workers_whichever_answers(start_server: StartServer) -> None:
    server = start_server(workers=2)
    server.client.headers["Connection"] = "close"
    uploads = 0

    def served(path: str) -> int:
        return len({event["pid"] for event in server.events("request") if event["path"] == path})

    while served("/api/upload") < 2:
        server.upload(distinct(1))
        uploads += 1
        assert uploads < 200
    scrapes = 0
    while served("/metrics") < 2 or scrapes < 4:
        scrapes += 1
        assert count(server, "chunks_new") == uploads
        assert count(server, "requests", route="/api/upload", status="201") == uploads
        assert scrapes < 200


# The description

METHODS = {"get", "head", "post", "put", "delete", "patch", "options"}


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    answer = server.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    return document


def unnamed(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_route_is_described_and_nothing_else(description: dict[str, Any]) -> None:
    described = {
        (method.upper(), unnamed(path))
        for path, item in description["paths"].items()
        for method in item.keys() & METHODS
    }
    routes = [route for route in _routes(cast("Parts", MagicMock()), 1.0) if not isinstance(route, Mount)]
    served = {(method, unnamed(route.path)) for route in routes for method in route.methods or ()}
    assert described <= served
    # Starlette answers HEAD wherever there is a GET; where that gives no headers of interest, it goes without saying.
    assert {call for call in served - described if call[0] != "HEAD"} == set()


class Describer:
    """Checks answers against what the description promises."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def resolved(self, thing: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in thing:
            found: Any = self._document
            for step in thing["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            thing = found
        return thing

    def check(self, answer: httpx.Response, template: str) -> None:
        method = answer.request.method.lower()
        promised = self.resolved(self._document["paths"][template][method]["responses"][str(answer.status_code)])
        for name, header in promised.get("headers", {}).items():
            header = self.resolved(header)
            assert name in answer.headers or not header.get("required"), name
            if name in answer.headers:
                value: Any = answer.headers[name]
                kind = self.resolved(header["schema"])
                self._validate(int(value) if kind.get("type") == "integer" else value, kind)
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        if "content" not in promised:
            assert answer.content == b""
            return
        content = promised["content"]
        assert media_type in content or "*/*" in content, media_type
        schema = content.get(media_type, {}).get("schema")
        if schema is not None and media_type.endswith("json"):
            self._validate(answer.json(), schema)

    def _validate(self, value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": self._document["components"]}
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def test_real_answers_are_as_described(server: Server, description: dict[str, Any]) -> None:
    describer, client = Describer(description), server.client
    uploaded = client.post("/api/upload", files=[("file", ("a", distinct(2))), ("file", ("b", b"x"))])
    describer.check(uploaded, "/api/upload")
    for body, content_type in ((b"{}", "application/json"), (b"", "multipart/form-data"), (form(), None)):
        kind = content_type or "multipart/form-data; boundary=a-boundary-of-the-tests"
        describer.check(post_form(server, body, kind), "/api/upload")
    for query in ("", "?limit=1", "?limit=0"):
        describer.check(client.get(f"/api/files{query}"), "/api/files")

    file = uploaded.json()["file"]
    etag = f'"{file["contentId"]}"'
    reads = [
        {},
        {"Range": "bytes=0-5"},
        {"Range": "bytes=0-5,9-10"},
        {"Range": "bytes=999999999-"},
        {"If-None-Match": etag},
        {"If-Match": '"x"'},
    ]
    for path, template in (
        (f"/api/files/{file['id']}", "/api/files/{id}"),
        (f"/api/content/{file['contentId']}", "/api/content/{contentId}"),
    ):
        for headers in reads:
            for method in ("GET", "HEAD"):
                answer = client.request(method, path, headers=headers)
                if method == "HEAD" and answer.status_code >= 400:
                    assert answer.content == b""
                else:
                    describer.check(answer, template)
        describer.check(client.get(f"{path[:-1]}z"), template)

    for tail in ("info", "manifest"):
        for file_id in (file["id"], "none"):
            describer.check(client.get(f"/api/files/{file_id}/{tail}"), f"/api/files/{{id}}/{tail}")
    describer.check(client.get(f"/api/files/{file['id']}/manifest?limit=1"), "/api/files/{id}/manifest")
    describer.check(client.get(f"/api/files/{file['id']}/manifest?limit=0"), "/api/files/{id}/manifest")
    for _ in range(2):
        describer.check(client.delete(f"/api/files/{file['id']}"), "/api/files/{id}")
    for path in ("/api/stats", "/health", "/ready", "/metrics", "/openapi.json", "/"):
        describer.check(client.get(path), path)


# The page


def test_the_page_and_what_it_needs(server: Server) -> None:
    page = server.client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert {"/static/index.css", "/static/index.js"} <= set(needed)
    for path in needed:
        assert server.client.get(path).status_code == 200, path
    assert "script" in server.client.get("/static/index.js").headers["content-type"]
    assert server.client.get("/static/index.css").headers["content-type"].startswith("text/css")
    # The policy forbids what stands inside the page itself.
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", page.text)
