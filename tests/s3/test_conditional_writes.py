"""Writes that happen only where nothing, or the expected thing, is in their place."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.conftest import ROOT, client_of
from tests.s3.signing import Call
from tests.s3.test_put import body_of
from tests.s3.wire import code_in, error, new_key, send
from tests.support import Server

Write = Callable[..., Any]

OTHER = '"' + "0" * 32 + '"'


def put(client: Any, bucket: str, key: str, body: bytes, **conditions: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=body, **conditions)


def copy(client: Any, bucket: str, key: str, body: bytes, **conditions: str) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=body)
    client.copy_object(Bucket=bucket, Key=key, CopySource=f"{bucket}/source", **conditions)


def complete(client: Any, bucket: str, key: str, body: bytes, **conditions: str) -> None:
    where = {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(**where)["UploadId"]
    etag = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, **conditions)


WRITES = pytest.mark.parametrize("write", [put, copy, complete], ids=lambda write: write.__name__)


@WRITES
def test_only_where_nothing_is(client: Any, bucket: str, write: Write) -> None:
    write(client, bucket, "a", b"1", IfNoneMatch="*")
    with error("PreconditionFailed", 412):
        write(client, bucket, "a", b"2", IfNoneMatch="*")
    assert body_of(client, bucket, "a") == b"1"
    client.delete_object(Bucket=bucket, Key="a")
    write(client, bucket, "a", b"3", IfNoneMatch="*")
    assert body_of(client, bucket, "a") == b"3"


@WRITES
def test_only_in_the_place_of_the_expected_object(client: Any, bucket: str, write: Write) -> None:
    with error("NoSuchKey", 404):
        write(client, bucket, "a", b"1", IfMatch=OTHER)
    write(client, bucket, "a", b"1")
    with error("PreconditionFailed", 412):
        write(client, bucket, "a", b"2", IfMatch=OTHER)
    assert body_of(client, bucket, "a") == b"1"
    write(client, bucket, "a", b"2", IfMatch=client.head_object(Bucket=bucket, Key="a")["ETag"])
    assert body_of(client, bucket, "a") == b"2"


@WRITES
def test_a_delete_marker_is_nothing(client: Any, bucket: str, write: Write) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    write(client, bucket, "a", b"1")
    client.delete_object(Bucket=bucket, Key="a")
    with error("NoSuchKey", 404):
        write(client, bucket, "a", b"2", IfMatch="*")
    write(client, bucket, "a", b"2", IfNoneMatch="*")
    assert body_of(client, bucket, "a") == b"2"


@WRITES
def test_only_a_star_is_known_for_nothing(client: Any, bucket: str, write: Write) -> None:
    with error("NotImplemented", 501):
        write(client, bucket, "a", b"1", IfNoneMatch=OTHER)


def race(server: Server, work: Callable[[Any, int], None], times: int = 20) -> list[str]:
    """What became of each: "" for those that won."""
    clients = [client_of(server) for _ in range(times)]

    def one(number: int) -> str:
        try:
            work(clients[number], number)
        except ClientError as refused:
            return str(refused.response["Error"]["Code"])
        return ""

    with ThreadPoolExecutor(times) as pool:
        return sorted(pool.map(one, range(times)))


@pytest.mark.parametrize("write", [put, complete], ids=lambda write: write.__name__)
def test_one_of_many_makes_the_object(s3_server: Server, bucket: str, write: Write) -> None:
    outcomes = race(s3_server, lambda client, number: write(client, bucket, "a", b"%d" % number, IfNoneMatch="*"))
    assert outcomes == ["", *["PreconditionFailed"] * 19]


def test_one_of_many_replaces_the_object(s3_server: Server, client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"before")["ETag"]
    outcomes = race(s3_server, lambda client, number: put(client, bucket, "a", b"%d" % number, IfMatch=etag))
    assert outcomes == ["", *["PreconditionFailed"] * 19]


def told_without_body(server: Server, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """What the server answers to the head of a PUT of a GiB."""
    sent = {**headers, "Content-Length": str(1 << 30), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    signed = Call(server, "PUT", path, headers=sent, keys=ROOT).signed()
    wire = http.client.HTTPConnection(server.s3_url.removeprefix("http://"), timeout=30)
    with closing(wire):
        wire.request("PUT", path, headers=dict(signed.headers.items()))
        answer = wire.getresponse()
        return answer.status, answer.read().decode()


def test_a_body_that_is_not_wanted_is_not_read(s3_server: Server, client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    for headers, condition in (({"If-None-Match": "*"}, "If-None-Match"), ({"If-Match": OTHER}, "If-Match")):
        status, text = told_without_body(s3_server, f"/{bucket}/a", headers)
        assert (status, text.count("<Code>PreconditionFailed</Code>")) == (412, 1)
        assert f"<Condition>{condition}</Condition>" in text
    assert client.head_object(Bucket=bucket, Key="a")["ETag"] == etag


def test_who_may_not_read_may_not_compare(s3_server: Server, client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    keys = new_key(s3_server, "--owner", "local", "--allow", "write,delete", "--bucket", bucket)
    for request in (f"PUT /{bucket}/a", f"DELETE /{bucket}/a"):
        answer = send(s3_server, request, headers={"If-Match": etag}, keys=keys)
        assert (answer.status_code, code_in(answer)) == (403, "AccessDenied")
    assert send(s3_server, f"PUT /{bucket}/a", headers={"If-Match": "*"}, keys=keys).status_code == 200
