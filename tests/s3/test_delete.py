"""Deletions: of one object, of many, of versions, on conditions, by those who may."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest

from tests.s3.conftest import client_of
from tests.s3.wire import code_in, error, new_key, send
from tests.support import Server


def keys_in(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def put(client: Any, bucket: str, *keys: str) -> None:
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())


def delete(server: Server, bucket: str, document: str, **headers: str) -> Any:
    md5 = b64encode(hashlib.md5(document.encode()).digest()).decode()
    return send(server, f"POST /{bucket}?delete=", document.encode(), {"Content-MD5": md5} | headers)


def test_an_object_is_gone(client: Any, bucket: str) -> None:
    put(client, bucket, "a", "b")
    answer = client.delete_object(Bucket=bucket, Key="a")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "VersionId" not in answer
    assert "DeleteMarker" not in answer
    assert keys_in(client, bucket) == ["b"]


def test_what_is_not_there_is_no_error(client: Any, bucket: str) -> None:
    assert client.delete_object(Bucket=bucket, Key="none")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("NoSuchBucket", 404):
        client.delete_object(Bucket="there-is-none", Key="a")


def test_versions_and_markers(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    marked = client.delete_object(Bucket=bucket, Key="a")
    assert marked["DeleteMarker"] is True
    assert keys_in(client, bucket) == []
    unmarked = client.delete_object(Bucket=bucket, Key="a", VersionId=marked["VersionId"])
    assert (unmarked["DeleteMarker"], unmarked["VersionId"]) == (True, marked["VersionId"])
    assert keys_in(client, bucket) == ["a"]
    gone = client.delete_object(Bucket=bucket, Key="a", VersionId=first)
    assert gone["VersionId"] == first
    assert "DeleteMarker" not in gone
    assert keys_in(client, bucket) == []


def test_on_condition(client: Any, bucket: str) -> None:
    put(client, bucket, "a")
    with error("PreconditionFailed", 412):
        client.delete_object(Bucket=bucket, Key="a", IfMatch='"' + "0" * 32 + '"')
    with error("NoSuchKey", 404):
        client.delete_object(Bucket=bucket, Key="none", IfMatch="*")
    with error("NotImplemented", 501):
        client.delete_object(Bucket=bucket, Key="a", IfMatchSize=1)
    assert keys_in(client, bucket) == ["a"]
    client.delete_object(Bucket=bucket, Key="a", IfMatch=client.head_object(Bucket=bucket, Key="a")["ETag"])
    assert keys_in(client, bucket) == []


def test_many_at_once(client: Any, bucket: str) -> None:
    keys = ["a", "b/c", "é 😀", "a&b<c>", "keep"]
    put(client, bucket, *keys)
    wanted = [{"Key": key} for key in (*keys[:4], "none")]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [one["Key"] for one in answer["Deleted"]] == [*keys[:4], "none"]
    assert "Errors" not in answer
    assert keys_in(client, bucket) == ["keep"]


def test_quietly(client: Any, bucket: str) -> None:
    put(client, bucket, "a", "b")
    wanted = [{"Key": "a"}, {"Key": "b", "ETag": "0" * 32}]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": wanted, "Quiet": True})
    assert "Deleted" not in answer
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("b", "PreconditionFailed")]
    assert keys_in(client, bucket) == ["b"]


def test_versions_at_once(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = client.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    put(client, bucket, "b")
    wanted = [{"Key": "a", "VersionId": version}, {"Key": "b"}]
    gone, marked = client.delete_objects(Bucket=bucket, Delete={"Objects": wanted})["Deleted"]
    assert gone == {"Key": "a", "VersionId": version}
    assert marked["DeleteMarker"] is True
    again = [{"Key": "b", "VersionId": marked["DeleteMarkerVersionId"]}]
    (unmarked,) = client.delete_objects(Bucket=bucket, Delete={"Objects": again})["Deleted"]
    assert unmarked["DeleteMarkerVersionId"] == unmarked["VersionId"] == marked["DeleteMarkerVersionId"]
    assert keys_in(client, bucket) == ["b"]


def test_a_thousand_and_no_more(client: Any, bucket: str) -> None:
    put(client, bucket, "0", "999")
    wanted = [{"Key": str(number)} for number in range(1001)]
    with error("MalformedXML", 400):
        client.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": wanted[:1000]})
    assert len(answer["Deleted"]) == 1000
    assert keys_in(client, bucket) == []


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<Delete></Delete>", "MalformedXML"),
        ("<Delete><Object></Object></Delete>", "MalformedXML"),
        ("<Other><Object><Key>a</Key></Object></Other>", "MalformedXML"),
        ("no XML", "MalformedXML"),
        ("", "MalformedXML"),
    ],
)
def test_documents_that_are_none(s3_server: Server, bucket: str, document: str, code: str) -> None:
    answer = delete(s3_server, bucket, document)
    assert (answer.status_code, code_in(answer)) == (400, code)


def test_the_document_must_be_summed_up(s3_server: Server, client: Any, bucket: str) -> None:
    put(client, bucket, "a")
    document = b"<Delete><Object><Key>a</Key></Object></Delete>"
    answer = send(s3_server, f"POST /{bucket}?delete=", document)
    assert (answer.status_code, code_in(answer)) == (400, "InvalidRequest")
    answer = delete(s3_server, bucket, document.decode(), **{"Content-MD5": "A" * 22 + "=="})
    assert (answer.status_code, code_in(answer)) == (400, "BadDigest")
    assert keys_in(client, bucket) == ["a"]


def test_conditions_that_are_not_here_are_not_overlooked(s3_server: Server, client: Any, bucket: str) -> None:
    put(client, bucket, "a")
    answer = delete(s3_server, bucket, "<Delete><Object><Key>a</Key><Size>7</Size></Object></Delete>")
    assert (answer.status_code, code_in(answer)) == (200, "NotImplemented")
    assert keys_in(client, bucket) == ["a"]


def test_each_key_is_looked_at(s3_server: Server, client: Any, bucket: str) -> None:
    """A key that is limited to a prefix deletes there, and nowhere else."""
    put(client, bucket, "mine/a", "other/a")
    limited = client_of(s3_server, new_key(s3_server, "--owner", "local", "--bucket", bucket, "--prefix", "mine/"))
    answer = limited.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "mine/a"}, {"Key": "other/a"}]})
    assert [one["Key"] for one in answer["Deleted"]] == ["mine/a"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("other/a", "AccessDenied")]
    assert keys_in(client, bucket) == ["other/a"]
    with error("AccessDenied", 403):
        limited.delete_object(Bucket=bucket, Key="other/a")


def test_nobody_deletes(s3_server: Server, client: Any, bucket: str) -> None:
    put(client, bucket, "a")
    document = b"<Delete><Object><Key>a</Key></Object></Delete>"
    headers = {"Content-MD5": b64encode(hashlib.md5(document).digest()).decode()}
    answer = send(s3_server, f"POST /{bucket}?delete=", document, headers, keys=None)
    assert "<Code>AccessDenied</Code>" in answer.text
    assert keys_in(client, bucket) == ["a"]
