"""What the server says about itself, and what surrounds every answer."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api.app import _routes
from tests.conftest import StartServer
from tests.support import Server, eventually

HELMET = [
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "origin-agent-cluster",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-dns-prefetch-control",
    "x-download-options",
    "x-frame-options",
    "x-permitted-cross-domain-policies",
    "x-xss-protection",
]


def metric(server: Server, name: str) -> float:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_health_and_readiness(server: Server) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {
        "status": "ready",
        "database": "up",
        "redis": "up",
        "nodes": {"up": 3, "total": 3},
    }


def test_metrics_are_the_sum_over_all_workers(start_server: StartServer) -> None:
    server = start_server(workers=2)
    names = ("mini_s3_chunks_new_total", "mini_s3_chunks_linked_total", "mini_s3_saved_bytes_total")
    assert [metric(server, name) for name in names] == [0, 0, 0]
    for _ in range(10):
        # Each on a connection of its own, so that both workers get some.
        httpx.post(f"{server.url}/api/upload", files={"file": ("a", b"12345")}, trust_env=False)
    assert [metric(server, name) for name in names] == [1, 9, 45]
    assert len(server.worker_pids()) == 2
    assert {event["pid"] for event in server.events("request")} <= set(server.worker_pids())


def test_answers_are_as_the_api_description_says(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    upload = server.upload(b"described")
    file_id, content_id = upload["fileId"], upload["file"]["contentId"]
    calls = {
        "/api/files": "/api/files?limit=1",
        "/api/files/{id}/info": f"/api/files/{file_id}/info",
        "/api/files/{id}/manifest": f"/api/files/{file_id}/manifest",
        "/api/stats": "/api/stats",
        "/health": "/health",
        "/ready": "/ready",
    }
    for template, path in calls.items():
        validate(document, template, "get", "200", server.client.get(path).json())
    validate(document, "/api/upload", "post", "201", upload)
    validate(document, "/api/files/{id}", "get", "404", server.client.get("/api/files/x").json())
    assert server.client.get(f"/api/content/{content_id}").content == b"described"


def validate(document: Any, path: str, method: str, status: str, body: Any) -> None:
    answer = document["paths"][path][method]["responses"][status]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    (content,) = answer["content"].values()
    jsonschema.validate(body, {**content["schema"], "components": document["components"]})


def test_every_route_is_described(server: Server) -> None:
    described = server.client.get("/openapi.json").json()["paths"]
    names = re.compile(r"\{\w+\}")

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return self

        def guard(self, _kind: str, endpoint: Any) -> Any:
            return lambda request: endpoint(request)

    routes = [route.path for route in _routes(Anything(), 1) if route.path != "/static"]  # type: ignore[arg-type]
    assert {names.sub("{}", path) for path in routes} == {names.sub("{}", path) for path in described}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 200), ("GET", "/health", 200), ("GET", "/nowhere", 404), ("PUT", "/health", 405), ("POST", "/api/upload", 415)],
)
def test_security_headers_are_on_every_answer(server: Server, method: str, path: str, status: int) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == status
    assert [name for name in HELMET if name not in answer.headers] == []


def test_the_page_and_its_parts_are_served(server: Server) -> None:
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    parts = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert parts
    assert all(server.client.get(part).status_code == 200 for part in parts)


def test_other_origins_are_refused_unless_configured(server: Server, start_server: StartServer) -> None:
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.client.options("/api/upload", headers=ask).headers
    friendly = start_server(cors_origins="https://app.example")
    allowed = friendly.client.options("/api/upload", headers=ask)
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "content-security-policy" in allowed.headers
    other = friendly.client.options("/api/upload", headers=ask | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_rates_are_limited_for_each_kind_of_call(start_server: StartServer) -> None:
    server = start_server(rate_api="5/hour", rate_upload="2/hour", rate_download="3/hour", workers=2)
    files = [server.upload(bytes([number]))["fileId"] for number in range(2)]
    refused = server.client.post("/api/upload", files={"file": ("a", b"x")})
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate-limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 3601
    # One count for all paths of a kind, kept apart from the other kinds.
    answers = [server.client.get(f"/api/files/{files[number % 2]}").status_code for number in range(4)]
    assert answers == [200, 200, 200, 429]
    answers = [server.client.get(f"/api/files/{files[number % 2]}/info").status_code for number in range(6)]
    assert answers == [200] * 5 + [429]
    assert server.client.get("/health").status_code == 200


def test_each_request_is_a_line_in_the_log(server: Server) -> None:
    answer = server.client.get("/api/files/none")
    line = eventually(
        lambda: [event for event in server.events("request") if event["request"] == answer.headers["x-request-id"]]
    )[0]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/files/none", 404)
