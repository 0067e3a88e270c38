"""Objects from browsers' forms."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.s3.conftest import client_of
from tests.s3.test_put import DIGESTS, body_of, text
from tests.s3.wire import code_in, error, new_key
from tests.support import Server


def post(
    server: Server, bucket: str, fields: Mapping[str, str], content: bytes = b"abc", name: str = "file.txt"
) -> httpx.Response:
    """A form as browsers send it: the file is its last field."""
    url = f"{server.s3_url}/{bucket}"
    files = {"file": (name, content, "text/html")}
    return httpx.post(url, data=dict(fields), files=files, timeout=60, trust_env=False, follow_redirects=False)


def signed(client: Any, bucket: str, key: str, fields: Mapping[str, str] | None = None, **options: Any) -> Any:
    """The fields of a form with a policy; what `fields` has is in its conditions too."""
    conditions = [{name: value} for name, value in (fields or {}).items()]
    conditions += options.pop("conditions", [])
    return client.generate_presigned_post(bucket, key, dict(fields or {}), conditions, **options)["fields"]


def test_an_object_from_a_form(s3_server: Server, client: Any, bucket: str) -> None:
    fields = {
        "Content-Type": "text/plain",
        "Cache-Control": "no-store",
        "x-amz-meta-one": "é",
        "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        "acl": "public-read",
    }
    answer = post(s3_server, bucket, signed(client, bucket, "a/b", fields))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == f'"{hashlib.md5(b"abc").hexdigest()}"'
    assert answer.headers["location"] == f"{s3_server.s3_url}/{bucket}/a/b"
    head = client.head_object(Bucket=bucket, Key="a/b")
    assert (head["ContentType"], head["CacheControl"]) == ("text/plain", "no-store")
    assert list(head["Metadata"]) == ["one"]
    assert client.get_object_tagging(Bucket=bucket, Key="a/b")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert httpx.get(f"{s3_server.s3_url}/{bucket}/a/b", trust_env=False).content == b"abc"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (5 << 20) + 1])
def test_bytes(s3_server: Server, client: Any, bucket: str, size: int) -> None:
    data = (b"0123456789\r\n--" * (size // 14 + 1))[:size]
    assert post(s3_server, bucket, signed(client, bucket, "a"), data).status_code == 204
    assert body_of(client, bucket, "a") == data


@pytest.mark.parametrize("name", ["b.txt", "C:\\folder\\b.txt", "folder/b.txt"])
def test_the_name_of_the_file_in_the_key(s3_server: Server, client: Any, bucket: str, name: str) -> None:
    assert post(s3_server, bucket, signed(client, bucket, "a/${filename}"), name=name).status_code == 204
    assert body_of(client, bucket, "a/b.txt") == b"abc"


def test_the_answer_that_is_asked_for(s3_server: Server, client: Any, bucket: str) -> None:
    for status, told in (("200", 200), ("204", 204), ("999", 204)):
        assert (
            post(s3_server, bucket, signed(client, bucket, "a", {"success_action_status": status})).status_code == told
        )
    answer = post(s3_server, bucket, signed(client, bucket, "a", {"success_action_status": "201"}))
    assert answer.status_code == 201
    where = f"<Location>{s3_server.s3_url}/{bucket}/a</Location><Bucket>{bucket}</Bucket><Key>a</Key><ETag>"
    assert f"<PostResponse>{where}" in answer.text


def test_a_redirect(s3_server: Server, client: Any, bucket: str) -> None:
    answer = post(s3_server, bucket, signed(client, bucket, "a b", {"success_action_redirect": "http://x.test/?c=d"}))
    assert answer.status_code == 303
    url = urlsplit(answer.headers["location"])
    etag = f'"{hashlib.md5(b"abc").hexdigest()}"'
    assert (url.netloc, parse_qs(url.query)) == (
        "x.test",
        {"c": ["d"], "bucket": [bucket], "key": ["a b"], "etag": [etag]},
    )
    assert post(s3_server, bucket, signed(client, bucket, "a", {"redirect": "javascript:alert(1)"})).status_code == 204


def test_the_policy_limits_the_size(s3_server: Server, client: Any, bucket: str) -> None:
    fields = signed(client, bucket, "a", conditions=[["content-length-range", 2, 1_000_000]])
    assert code_in(post(s3_server, bucket, fields, b"a")) == "EntityTooSmall"
    assert code_in(post(s3_server, bucket, fields, b"a" * 1_000_001)) == "EntityTooLarge"
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="a")
    assert post(s3_server, bucket, fields, b"ab").status_code == 204


def test_what_the_policy_does_not_allow(s3_server: Server, client: Any, bucket: str) -> None:
    fields = signed(client, bucket, "a")
    for changed in ({"key": "b"}, {"x-amz-meta-one": "1"}, {"acl": "public-read"}):
        answer = post(s3_server, bucket, fields | changed)
        assert (answer.status_code, code_in(answer)) == (403, "AccessDenied")
    expired = signed(client, bucket, "a", ExpiresIn=-10)
    assert code_in(post(s3_server, bucket, expired)) == "AccessDenied"
    other = json.dumps({"expiration": "2099-01-01T00:00:00Z", "conditions": []}).encode()
    assert code_in(post(s3_server, bucket, fields | {"policy": b64encode(other).decode()})) == "SignatureDoesNotMatch"
    unknown = fields | {"x-amz-credential": fields["x-amz-credential"].replace("root-key", "A" * 20)}
    assert code_in(post(s3_server, bucket, unknown)) == "InvalidAccessKeyId"
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="a")


def test_a_key_that_may_not(s3_server: Server, client: Any, bucket: str) -> None:
    limited = client_of(s3_server, new_key(s3_server, "--owner", "local", "--bucket", bucket, "--prefix", "mine/"))
    assert post(s3_server, bucket, signed(limited, bucket, "mine/a")).status_code == 204
    assert code_in(post(s3_server, bucket, signed(limited, bucket, "other/a"))) == "AccessDenied"


def test_without_a_policy(s3_server: Server, client: Any, bucket: str) -> None:
    assert code_in(post(s3_server, bucket, {"key": "a"})) == "AccessDenied"
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert post(s3_server, bucket, {"key": "a"}).status_code == 204
    assert body_of(client, bucket, "a") == b"abc"
    assert client.head_object(Bucket=bucket, Key="a")["ContentType"] == "binary/octet-stream"


def test_checksums(s3_server: Server, client: Any, bucket: str) -> None:
    right = {"x-amz-checksum-sha256": text(DIGESTS["SHA256"](b"abc"))}
    answer = post(s3_server, bucket, signed(client, bucket, "a", right))
    assert answer.headers["x-amz-checksum-sha256"] == right["x-amz-checksum-sha256"]
    assert code_in(post(s3_server, bucket, signed(client, bucket, "b", right), b"abd")) == "BadDigest"
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="b")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "InvalidArgument"),
        ({"key": ""}, "UserKeyMustBeSpecified"),
        ({"key": "x" * 1025}, "KeyTooLongError"),
        ({"key": "a", "Cache-Control": "no-store\r\nSet-Cookie: a=b"}, "InvalidArgument"),
        ({"key": "a", "x-ignore-a": "x" * 20_000}, "MaxPostPreDataLengthExceededError"),
        ({"key": "a", "Policy": "nonsense"}, "InvalidPolicyDocument"),
        ({"key": "a", "x-amz-server-side-encryption": "AES256"}, "NotImplemented"),
    ],
)
def test_forms_that_are_refused(s3_server: Server, client: Any, bucket: str, fields: dict[str, str], code: str) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert code_in(post(s3_server, bucket, fields)) == code


def form(*parts: tuple[str, bytes]) -> bytes:
    sections = [
        b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (one.encode(), body) for one, body in parts
    ]
    return b"".join(sections) + b"--x--\r\n"


KEY, FILE = ('name="key"', b"a"), ('name="file"; filename="f"', b"abc")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(KEY, FILE, ('name="acl"', b"nonsense")), ""),
        (form(KEY, ('name="x-ignore-empty"', b""), FILE), ""),
        (form(FILE, KEY), "InvalidArgument"),
        (form(KEY), "IncorrectNumberOfFilesInPostRequest"),
        (form(KEY, FILE, FILE), "IncorrectNumberOfFilesInPostRequest"),
        (form(KEY, KEY, FILE), "InvalidArgument"),
        (form(('name="key"', b"\xff"), FILE), "InvalidArgument"),
        (form(KEY, FILE)[:-10], "MalformedPOSTRequest"),
        (b"nonsense", "MalformedPOSTRequest"),
    ],
)
def test_forms_by_hand(s3_server: Server, client: Any, bucket: str, body: bytes, code: str) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{s3_server.s3_url}/{bucket}", content=body, headers=headers, trust_env=False)
    if code:
        assert code_in(answer) == code
        with error("404", 404):
            client.head_object(Bucket=bucket, Key="a")
    else:
        assert answer.status_code == 204
        assert body_of(client, bucket, "a") == b"abc"


def test_what_is_no_form(s3_server: Server, client: Any, bucket: str) -> None:
    answer = httpx.post(f"{s3_server.s3_url}/{bucket}", content=b"{}", trust_env=False)
    assert code_in(answer) == "RequestIsNotMultiPartContent"
