"""Cross-origin requests: rules, preflights, and what other answers say to pages of other origins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from app.s3.cors import Rule
from tests.s3.conftest import ROOT
from tests.s3.wire import code_in, error, send
from tests.support import Server

PAGE = "https://page.example.com"


def rule(**more: Any) -> dict[str, Any]:
    return {"AllowedMethods": ["GET"], "AllowedOrigins": [PAGE]} | more


def configure(client: Any, bucket: str, *rules: dict[str, Any]) -> None:
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": list(rules)})


def preflight(
    server: Server, target: str, method: str = "GET", headers: str = "", origin: str = PAGE
) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return send(server, f"OPTIONS {target}", headers={name: text for name, text in asked.items() if text}, keys=None)


def allowed(answer: httpx.Response) -> dict[str, str]:
    """The headers of CORS, by their names without the beginning that all of them have."""
    start = "access-control-"
    return {name.removeprefix(start): text for name, text in answer.headers.items() if name.startswith(start)}


def test_rules_are_kept(client: Any, bucket: str) -> None:
    rules = [
        rule(AllowedHeaders=["x-*", "*"], ExposeHeaders=["ETag"], MaxAgeSeconds=0, ID="first"),
        rule(AllowedMethods=["GET", "PUT", "POST", "DELETE", "HEAD"], AllowedOrigins=["*", "http://*.com"]),
    ]
    configure(client, bucket, *rules)
    assert client.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    assert client.delete_bucket_cors(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("NoSuchCORSConfiguration", 404):
        client.get_bucket_cors(Bucket=bucket)


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], "MalformedXML"),
        ([rule()] * 101, "MalformedXML"),
        ([rule(AllowedMethods=[])], "MalformedXML"),
        ([rule(AllowedOrigins=[])], "MalformedXML"),
        ([rule(AllowedMethods=["PATCH"])], "InvalidRequest"),
        ([rule(AllowedOrigins=["http://*.*.com"])], "InvalidRequest"),
        ([rule(AllowedHeaders=["*-*"])], "InvalidRequest"),
        ([rule(ExposeHeaders=["x-*"])], "InvalidRequest"),
    ],
)
def test_rules_that_there_can_not_be(client: Any, bucket: str, rules: list[dict[str, Any]], code: str) -> None:
    with error(code, 400):
        configure(client, bucket, *rules)


def test_a_preflight(client: Any, bucket: str, s3_server: Server) -> None:
    wanted = {"AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["X-Amz-*", "content-type"], "MaxAgeSeconds": 300}
    configure(client, bucket, rule(ExposeHeaders=["ETag", "x-amz-version-id"], **wanted))
    for target in (f"/{bucket}", f"/{bucket}/a/key?acl&partNumber=1"):
        answer = preflight(s3_server, target, "PUT", "x-amz-date, Content-Type")
        assert answer.status_code == 200
        assert allowed(answer) == {
            "allow-origin": PAGE,
            "allow-credentials": "true",
            "allow-methods": "GET, PUT",
            "allow-headers": "x-amz-date, content-type",
            "expose-headers": "ETag, x-amz-version-id",
            "max-age": "300",
        }
        assert "Origin" in answer.headers["vary"]


def test_a_preflight_that_no_rule_allows(client: Any, bucket: str, s3_server: Server) -> None:
    configure(client, bucket, rule(AllowedHeaders=["x-amz-*"]), rule(AllowedMethods=["PUT"]))
    for method, headers, origin in (
        ("DELETE", "", PAGE),
        ("GET", "", "https://other.example.com"),
        ("GET", "x-other", PAGE),
        ("PUT", "x-amz-date", PAGE),
    ):
        answer = preflight(s3_server, f"/{bucket}/a", method, headers, origin)
        assert (answer.status_code, code_in(answer), allowed(answer)) == (403, "AccessForbidden", {})
    assert preflight(s3_server, f"/{bucket}/a", "PUT").status_code == 200


def test_a_preflight_without_rules(bucket: str, s3_server: Server) -> None:
    for target in (f"/{bucket}", "/there-is-none/a"):
        answer = preflight(s3_server, target)
        assert (answer.status_code, code_in(answer)) == (403, "AccessForbidden")


def test_a_preflight_that_asks_nothing(client: Any, bucket: str, s3_server: Server) -> None:
    configure(client, bucket, rule())
    for asked in ({}, {"Origin": PAGE}):
        answer = send(s3_server, f"OPTIONS /{bucket}/a", headers=asked, keys=None)
        assert (answer.status_code, code_in(answer)) == (400, "BadRequest")


def test_any_origin(client: Any, bucket: str, s3_server: Server) -> None:
    configure(client, bucket, rule(AllowedOrigins=["*"]))
    answer = preflight(s3_server, f"/{bucket}/a")
    assert allowed(answer) == {"allow-origin": "*", "allow-methods": "GET"}


def answers(server: Server, bucket: str, origin: Mapping[str, str]) -> list[tuple[httpx.Response, int]]:
    return [
        (send(server, f"GET /{bucket}/a", headers=origin), 200),
        (send(server, f"GET /{bucket}/large", headers=origin), 200),
        (send(server, f"GET /{bucket}/none", headers=origin), 404),
        (send(server, f"GET /{bucket}/a", headers=origin, keys=None), 403),
        (send(server, f"GET /{bucket}/a", headers=origin, keys=(ROOT[0], "wrong")), 403),
        (send(server, f"GET /{bucket}?list-type=2", headers=origin), 200),
    ]


def test_other_answers_say_who_may_read_them(client: Any, bucket: str, s3_server: Server) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc")
    client.put_object(Bucket=bucket, Key="large", Body=bytes(3 << 20))
    configure(client, bucket, rule(ExposeHeaders=["ETag"]))
    for answer, status in answers(s3_server, bucket, {"Origin": PAGE}):
        assert answer.status_code == status
        assert (allowed(answer)["allow-origin"], allowed(answer)["expose-headers"]) == (PAGE, "ETag")
    for origin in ({}, {"Origin": "https://other.example.com"}):
        for answer, status in answers(s3_server, bucket, origin):
            assert (answer.status_code, allowed(answer)) == (status, {})
            assert "Origin" in answer.headers["vary"]
    assert allowed(send(s3_server, f"PUT /{bucket}/b", headers={"Origin": PAGE})) == {}


def test_answers_without_rules_are_the_same_for_all_origins(client: Any, bucket: str, s3_server: Server) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc")
    answer = send(s3_server, f"GET /{bucket}/a", headers={"Origin": PAGE})
    assert (answer.status_code, allowed(answer), "vary" in answer.headers) == (200, {}, False)


@pytest.mark.parametrize(
    ("pattern", "origin", "matches"),
    [
        ("*", "http://a", True),
        ("http://a", "http://a", True),
        ("http://a", "http://A", False),
        ("http://a", "http://ab", False),
        ("http://*.a", "http://b.a", True),
        ("http://*.a", "http://.a", True),
        ("http://*.a", "https://b.a", False),
        ("http://*/", "http:/", False),
        ("ab*ba", "aba", False),
        ("*b", "ab", True),
        ("a*", "ab", True),
    ],
)
def test_patterns(pattern: str, origin: str, matches: bool) -> None:
    assert Rule(["GET"], [pattern], [], [], None, None).allows(origin, "GET", []) == matches
