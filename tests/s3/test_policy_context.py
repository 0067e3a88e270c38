"""What policies see of a request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from app.models.buckets import Bucket
from app.s3.body import Body
from app.s3.operations import OPERATIONS
from app.s3.policy_conditions import KEYS
from app.s3.policy_context import Target, asked
from app.s3.request import Circumstances, S3Request, Signature
from app.s3.sigv4 import Payload
from app.store.access import ANONYMOUS, EVERYONE, PERMISSIONS, Caller

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
BUCKET = Bucket("b", "alice", NOW)
CALLER = Caller("bob", "KEY", PERMISSIONS)
CAME = Circumstances(
    "http://b/k", NOW, "10.0.0.1", True, "https://a/", "curl", Signature("REST-HEADER", NOW - timedelta(minutes=1))
)


def request(
    operation: str, headers: dict[str, str] | None = None, query: dict[str, list[str]] | None = None, **more: Any
) -> S3Request:
    body = Body(Mock(), {}, Payload("UNSIGNED-PAYLOAD"), None, 1.0)
    made = S3Request(OPERATIONS[operation], "b", "k", query or {}, headers or {}, CALLER, body, CAME, BUCKET)
    return replace(made, **more)


def value(key: str, action: str, known: S3Request, **target: Any) -> list[str] | None:
    values = asked(known, Target(action, BUCKET, **target)).lookup(key)
    return None if values is None else list(values)


def test_who_asks_and_how() -> None:
    known = request("GetObject")
    for key, expected in {
        "aws:username": "KEY",
        "aws:principalaccount": "bob",
        "aws:principalarn": "arn:aws:iam::bob:user/KEY",
        "aws:principaltype": "User",
        "aws:referer": "https://a/",
        "aws:useragent": "curl",
        "aws:sourceip": "10.0.0.1",
        "aws:securetransport": "true",
        "aws:currenttime": "2026-05-05T12:00:00+00:00",
        "aws:epochtime": str(int(NOW.timestamp())),
        "s3:authtype": "REST-HEADER",
        "s3:signatureversion": "AWS4-HMAC-SHA256",
        "s3:signatureage": "60000",
        "s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }.items():
        assert value(key, "s3:GetObject", known) == [expected], key


def test_what_there_is_not() -> None:
    known = request("GetObject", caller=ANONYMOUS, came=Circumstances("http://b/k", NOW, "no address"))
    given = {key for key in KEYS if value(key, "s3:GetObject", known)}
    assert given == {
        "aws:principaltype",
        "aws:securetransport",
        "aws:currenttime",
        "aws:epochtime",
        "s3:x-amz-content-sha256",
    }
    assert value("aws:principaltype", "s3:GetObject", known) == ["Anonymous"]


def test_the_root_key_is_its_account() -> None:
    known = request("GetObject", caller=EVERYONE)
    assert value("aws:principalarn", "s3:GetObject", known) == ["arn:aws:iam::local:root"]
    assert value("aws:principaltype", "s3:GetObject", known) == ["Account"]
    assert value("aws:username", "s3:GetObject", known) is None


@pytest.mark.parametrize(
    ("key", "header", "action"),
    [
        ("s3:x-amz-acl", "x-amz-acl", "s3:PutObjectAcl"),
        ("s3:x-amz-grant-read", "x-amz-grant-read", "s3:PutBucketAcl"),
        ("s3:x-amz-metadata-directive", "x-amz-metadata-directive", "s3:PutObject"),
        ("s3:x-amz-storage-class", "x-amz-storage-class", "s3:PutObject"),
        ("s3:x-amz-server-side-encryption", "x-amz-server-side-encryption", "s3:PutObject"),
    ],
)
def test_headers_of_actions_that_heed_them(key: str, header: str, action: str) -> None:
    known = request("PutObject", {header: "x"})
    assert value(key, action, known) == ["x"]
    assert value(key, "s3:GetObject", known) is None


def test_the_source_of_a_copy_however_it_is_written() -> None:
    for source in ("a/b c", "/a/b%20c", "a/%62%20c?versionId=1"):
        known = request("CopyObject", {"x-amz-copy-source": source})
        assert value("s3:x-amz-copy-source", "s3:PutObject", known) == ["a/b c"]
    form = request("PostObject", {"x-amz-copy-source": "a/b"})
    assert value("s3:x-amz-copy-source", "s3:PutObject", form) is None


def test_lists() -> None:
    known = request("ListObjectsV2", query={"prefix": ["other"], "delimiter": ["/"], "max-keys": ["7"]})
    assert value("s3:prefix", "s3:ListBucket", known, prefix="") == [""]
    assert value("s3:prefix", "s3:ListBucket", known) is None
    assert value("s3:delimiter", "s3:ListBucket", known) == ["/"]
    assert value("s3:max-keys", "s3:ListBucket", known) == ["7"]
    for query in ({}, {"max-keys": [""]}):
        assert value("s3:max-keys", "s3:ListBucket", request("ListObjects", query=query)) == ["1000"]
    looked_for = request("GetObject", query={"max-keys": ["7"], "delimiter": ["/"]})
    assert value("s3:max-keys", "s3:ListBucket", looked_for) is None
    assert value("s3:delimiter", "s3:ListBucket", looked_for) is None


def test_versions_and_tags() -> None:
    known = request("GetObject", query={"versionId": ["other"]})
    assert value("s3:versionid", "s3:GetObjectVersion", known, version="1") == ["1"]
    assert value("s3:versionid", "s3:GetObject", known, version="1") is None
    assert value("s3:existingobjecttag/K", "s3:GetObject", known, tags={"K": "v"}) == ["v"]
    assert value("s3:existingobjecttag/k", "s3:GetObject", known, tags={"K": "v"}) is None
    assert value("s3:existingobjecttag/K", "s3:PutObject", known, tags={"K": "v"}) is None


def test_tags_of_objects_to_be() -> None:
    header = {"x-amz-tagging": "K=v+1&L="}
    put = request("PutObject", header)
    assert value("s3:requestobjecttag/K", "s3:PutObject", put) == ["v 1"]
    assert value("s3:requestobjecttagkeys", "s3:PutObject", put) == ["K", "L"]
    assert value("s3:requestobjecttag/K", "s3:PutObjectTagging", replace(put, tags={})) is None
    assert value("s3:requestobjecttag/M", "s3:PutObjectTagging", replace(put, tags={"M": "w"})) == ["w"]
    assert value("s3:requestobjecttag/K", "s3:GetObject", put) is None
    copy = {**header, "x-amz-copy-source": "a/b"}
    assert value("s3:requestobjecttag/K", "s3:PutObject", request("CopyObject", copy)) is None
    replaced = {**copy, "x-amz-tagging-directive": "REPLACE"}
    assert value("s3:requestobjecttag/K", "s3:PutObject", request("CopyObject", replaced)) == ["v 1"]
