"""Rate limits, and calls from pages of other origins."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.e2e.helpers import MIB, SECURITY, Part, assert_problem, form, post_form
from tests.support import Server

ORIGIN = "https://app.example"


def spend(server: Server, paths: list[str]) -> list[int]:
    return [server.client.get(path).status_code for path in paths]


@pytest.mark.parametrize("workers", [1, 2])
def test_limits_are_kept_by_class_not_by_url(start_server: StartServer, workers: int) -> None:
    # A Redis of its own: limits outlive a server, and other tests call from the same address.
    server = start_server(
        redis_url="", workers=workers, rate_api="3/hour", rate_download="2/hour", rate_upload="1/hour"
    )
    upload = server.upload(b"x")
    refused = post_form(server, form(Part(bytes(8 * MIB))))
    assert_problem(refused, 429, "rate-limited")

    file = f"/api/files/{upload['fileId']}"
    # Each over a connection of its own, so that either worker may get it.
    server.client.headers["Connection"] = "close"
    assert spend(server, ["/api/files", "/api/stats", f"{file}/info"]) == [200, 200, 200]
    for path in ("/api/files", "/api/files?limit=7", "/api/stats", f"{file}/manifest"):
        answer = server.client.get(path)
        assert_problem(answer, 429, "rate-limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 3601
    assert server.client.delete(file).status_code == 429

    assert spend(server, [file, f"/api/content/{upload['file']['contentId']}"]) == [200, 200]
    assert_problem(server.client.get(file), 429, "rate-limited")
    assert server.client.head(file).status_code == 429

    assert spend(server, ["/health", "/ready", "/metrics", "/openapi.json", "/"] * 2) == [200] * 10


def test_an_upload_session_counts_once_however_much_is_sent(start_server: StartServer) -> None:
    server = start_server(redis_url="", rate_upload="2/hour")
    speaks = {"Tus-Resumable": "1.0.0", "Upload-Length": "100"}
    path = server.client.post("/api/uploads", json={"name": "a"}).headers["location"]
    created = server.client.post("/api/tus", headers=speaks)
    assert created.status_code == 201
    refused = server.client.post("/api/tus", headers=speaks)
    assert_problem(refused, 429, "rate-limited")
    assert refused.headers["tus-resumable"] == "1.0.0"
    assert_problem(server.client.post("/api/uploads", json={"name": "a"}), 429, "rate-limited")
    for number in range(1, 6):
        assert server.client.put(f"{path}/parts/{number}", content=b"x").status_code == 200
    assert server.client.post(f"{path}/complete").status_code == 201


def preflight(server: Server, origin: str) -> dict[str, str]:
    headers = {"Origin": origin, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "range"}
    answer = server.client.options("/api/files/" + "0" * 24, headers=headers)
    assert set(answer.headers) >= SECURITY
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_other_origins_get_nothing_unless_they_are_named(start_server: StartServer) -> None:
    server = start_server()
    assert preflight(server, ORIGIN) == {}
    answer = server.client.get("/api/files", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_origins_that_are_named_may_call(start_server: StartServer) -> None:
    server = start_server(cors_origins=f"https://other.example, {ORIGIN}")
    allowed = preflight(server, ORIGIN)
    assert allowed["access-control-allow-origin"] == ORIGIN
    assert "DELETE" in allowed["access-control-allow-methods"]
    assert "access-control-allow-origin" not in preflight(server, "https://evil.example")
    for path, status in (("/api/files", 200), ("/api/files/none", 404)):
        answer = server.client.get(path, headers={"Origin": ORIGIN})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "ETag" in answer.headers["access-control-expose-headers"]
