"""The server about itself: statistics, health, metrics, its description, its page."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from starlette.routing import Mount

from app.api.app import Parts, _routes
from tests.conftest import StartServer
from tests.e2e.helpers import FORM, MIB, Part, Wire, assert_problem, distinct, form, metric, post_form, samples
from tests.support import Databases, Server, eventually

# Statistics


def assert_stats(server: Server, **figures: float) -> None:
    """These figures come, once what was read before is old enough, and the nodes add up to them."""

    def as_wanted() -> Any:
        stats = server.client.get("/api/stats").json()
        assert sum(node["chunks"] for node in stats["nodes"]) == stats["chunks"]
        assert sum(node["bytes"] for node in stats["nodes"]) == stats["storedBytes"]
        return {name: stats[name] for name in figures} == figures

    eventually(as_wanted)


def test_statistics_of_an_empty_store(start_server: StartServer) -> None:
    empty = start_server().client.get("/api/stats").json()
    assert (empty["files"], empty["logicalBytes"], empty["storedBytes"], empty["dedupRatio"]) == (0, 0, 0, 1)
    assert {node["state"] for node in empty["nodes"]} == {"active"}
    assert len({node["id"] for node in empty["nodes"]}) == 3
    assert all(node["freeBytes"] > 0 for node in empty["nodes"])


def test_statistics_are_right_after_uploads_and_deletes(start_server: StartServer) -> None:
    server = start_server()
    shared = distinct(3)
    server.upload(shared)
    doomed = server.upload(shared * 2 + b"tail")["fileId"]
    post_form(server, form(Part(shared), Part(b"")))
    logical, stored = 12 * MIB + 4, 3 * MIB + 4
    ratio = round(logical / stored, 4)
    assert_stats(server, files=4, logicalBytes=logical, chunks=4, storedBytes=stored, dedupRatio=ratio)

    server.client.delete(f"/api/files/{doomed}")
    assert_stats(server, files=3, logicalBytes=6 * MIB)


def test_each_node_tells_how_it_does(start_server: StartServer, tmp_path: Path) -> None:
    nodes = [str(tmp_path / name) for name in ("one", "two")]
    start_server(nodes=",".join(nodes)).stop()
    server = start_server(nodes=nodes[0])
    server.upload(distinct(3))
    stats = eventually(lambda: (now := server.client.get("/api/stats").json())["files"] and now)
    one, two = stats["nodes"]
    assert (one["state"], two["state"], two["health"]) == ("active", "absent", None)
    health = one["health"]
    assert (health["breaker"], health["errors"], health["timeouts"], health["lastError"]) == ("closed", 0, 0, None)
    assert health["calls"] >= 3
    assert 0 < health["p50Seconds"] <= health["p99Seconds"]
    assert health["since"] < stats["at"]
    assert metric(server, "mini_s3_node_seconds_count", node="one", call="write") == 3
    states = {name: metric(server, "mini_s3_node_state", node=name) for name in ("one", "two")}
    assert (states, metric(server, "mini_s3_node_breaker", node="one")) == ({"one": 0, "two": 6}, 0)


# Faults


def test_a_fault_is_answered_and_the_connection_goes_on(databases: Databases, start_server: StartServer) -> None:
    with databases.fresh() as name, databases.client() as mongo:
        server = start_server(mongo_database=name)
        torn = mongo[name]["files"].insert_one({"name": "no other field"}).inserted_id
        with Wire(server) as wire:
            for _ in range(2):
                wire.head("GET", f"/api/files/{torn}")
                assert_problem(wire.answer("GET"), 500, "internal-error")
        eventually(lambda: server.events("request failed"))


def test_each_request_is_a_line_in_the_log(server: Server) -> None:
    name = server.client.get("/api/files/none").headers["x-request-id"]
    (line,) = eventually(lambda: [event for event in server.events("request") if event["request"] == name])
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/files/none", 404)


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
    served = {
        (method, unnamed(route.path)) for route in routes if route.include_in_schema for method in route.methods or ()
    }
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
        for name, reference in promised.get("headers", {}).items():
            header = self.resolved(reference)
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


@pytest.fixture(scope="module")
def describer(description: dict[str, Any]) -> Describer:
    return Describer(description)


def test_answers_to_uploads_are_as_described(server: Server, describer: Describer) -> None:
    files = [("file", ("a", distinct(2))), ("file", ("b", b"x"))]
    describer.check(server.client.post("/api/upload", files=files), "/api/upload")
    for body, kind in ((b"{}", "application/json"), (b"", "multipart/form-data"), (form(), FORM)):
        describer.check(post_form(server, body, kind), "/api/upload")


def test_answers_to_downloads_are_as_described(server: Server, describer: Describer) -> None:
    file = server.upload(distinct(2))["file"]
    reads = [
        {},
        {"Range": "bytes=0-5"},
        {"Range": "bytes=0-5,9-10"},
        {"Range": "bytes=999999999-"},
        {"If-None-Match": f'"{file["contentId"]}"'},
        {"If-Match": '"x"'},
    ]
    for path, template in (
        (f"/api/files/{file['id']}", "/api/files/{id}"),
        (f"/api/content/{file['contentId']}", "/api/content/{contentId}"),
    ):
        for headers in reads:
            describer.check(server.client.get(path, headers=headers), template)
            head = server.client.head(path, headers=headers)
            assert head.content == b""
            if head.status_code < 400:
                describer.check(head, template)
        describer.check(server.client.get(f"{path[:-1]}z"), template)


def test_answers_about_files_are_as_described(server: Server, describer: Describer) -> None:
    file_id = server.upload(distinct(2))["fileId"]
    for query in ("", "?limit=1", "?limit=0"):
        describer.check(server.client.get(f"/api/files{query}"), "/api/files")
        describer.check(server.client.get(f"/api/files/{file_id}/manifest{query}"), "/api/files/{id}/manifest")
    for tail in ("info", "manifest"):
        for which in (file_id, "none"):
            describer.check(server.client.get(f"/api/files/{which}/{tail}"), f"/api/files/{{id}}/{tail}")
    for _ in range(2):
        describer.check(server.client.delete(f"/api/files/{file_id}"), "/api/files/{id}")


def test_answers_about_upload_sessions_are_as_described(server: Server, describer: Describer) -> None:
    client, template, path = server.client, "/api/uploads/{id}", ""
    content = distinct(1, 5)
    chunk = {"digest": hashlib.sha256(content[:MIB]).hexdigest(), "size": MIB}
    for document in ({"name": "a", "size": MIB}, {"name": "a"}, {}):
        begun = client.post("/api/uploads", json=document)
        describer.check(begun, "/api/uploads")
        path = begun.headers.get("location", "") or path
    for query in ("", "?limit=1", "?limit=0"):
        describer.check(client.get(f"/api/uploads{query}"), "/api/uploads")
    for headers in ({}, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}):
        describer.check(client.put(f"{path}/parts/1", content=content, headers=headers), f"{template}/parts/{{number}}")
    for chunks in ([chunk], []):
        describer.check(client.post(f"{path}/missing", json={"chunks": chunks}), f"{template}/missing")
    describer.check(client.get(path), template)
    describer.check(client.post(f"{path}/complete", json={"chunks": [chunk]}), f"{template}/complete")
    for body in (content[:MIB], b"x"):
        describer.check(client.put(f"{path}/chunks/{chunk['digest']}", content=body), f"{template}/chunks/{{digest}}")
    for _ in range(2):
        describer.check(client.post(f"{path}/complete", json={"chunks": [chunk]}), f"{template}/complete")
    describer.check(client.get(path), template)
    for which in (path, client.post("/api/uploads", json={"name": "b"}).headers["location"]):
        describer.check(client.delete(which), template)


def test_answers_of_tus_are_as_described(server: Server, describer: Describer) -> None:
    speaks = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}

    def check(method: str, path: str, template: str, content: bytes = b"", **more: str) -> httpx.Response:
        headers = speaks | {name.replace("_", "-"): value for name, value in more.items()}
        answer = server.client.request(method, path, headers=headers, content=content)
        describer.check(answer, template)
        return answer

    check("OPTIONS", "/api/tus", "/api/tus")
    check("POST", "/api/tus", "/api/tus")
    check("POST", "/api/tus", "/api/tus", Upload_Length="1", Tus_Resumable="0.2")
    created = check("POST", "/api/tus", "/api/tus", Upload_Length="2", Upload_Metadata="filename YQ==")
    path, template = f"/api/{created.headers['location']}", "/api/tus/{id}"
    for method in ("OPTIONS", "HEAD", "PATCH", "PATCH"):
        check(method, path, template, b"x" if method == "PATCH" else b"")
    check("PATCH", path, template, b"x", Content_Type="text/plain")
    check("PATCH", path, template, b"x", Upload_Offset="1", Upload_Checksum="md5 AAAAAAAAAAAAAAAAAAAAAA==")
    check("POST", path, template, b"x", Upload_Offset="1", X_HTTP_Method_Override="PATCH")
    for method in ("HEAD", "DELETE", "DELETE"):
        check(method, path, template)


@pytest.mark.parametrize("path", ["/api/stats", "/health", "/ready", "/metrics", "/openapi.json", "/"])
def test_answers_about_the_server_are_as_described(server: Server, describer: Describer, path: str) -> None:
    describer.check(server.client.get(path), path)


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
