"""Copies: what they take over, which conditions hold, and who may read the source."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.s3.conftest import ROOT
from tests.s3.test_put import DIGESTS, body_of, text
from tests.s3.wire import code_in, error, send
from tests.support import Server

ORIGINAL: dict[str, Any] = {
    "ContentType": "text/plain",
    "CacheControl": "max-age=1",
    "Metadata": {"one": "1"},
    "Tagging": "a=b",
    "StorageClass": "STANDARD_IA",
    "WebsiteRedirectLocation": "/elsewhere",
}


@pytest.fixture
def source(client: Any, bucket: str) -> dict[str, str]:
    client.put_object(Bucket=bucket, Key="source", Body=b"abc", **ORIGINAL)
    return {"Bucket": bucket, "Key": "source"}


def tags_of(client: Any, bucket: str, key: str) -> dict[str, str]:
    tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def test_a_copy_takes_over_bytes_metadata_and_tags(client: Any, bucket: str, source: dict[str, str]) -> None:
    copied = client.copy_object(Bucket=bucket, Key="copy", CopySource=source)["CopyObjectResult"]
    head = client.head_object(Bucket=bucket, Key="copy")
    assert copied["ETag"] == head["ETag"] == f'"{hashlib.md5(b"abc").hexdigest()}"'
    assert copied["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert (head["ContentType"], head["CacheControl"], head["Metadata"]) == ("text/plain", "max-age=1", {"one": "1"})
    assert "StorageClass" not in head
    assert "WebsiteRedirectLocation" not in head
    assert tags_of(client, bucket, "copy") == {"a": "b"}
    assert body_of(client, bucket, "copy") == b"abc"


def test_metadata_and_tags_may_be_replaced(client: Any, bucket: str, source: dict[str, str]) -> None:
    client.copy_object(
        Bucket=bucket,
        Key="copy",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"two": "2"},
        TaggingDirective="REPLACE",
        Tagging="c=d",
        StorageClass="GLACIER",
    )
    head = client.head_object(Bucket=bucket, Key="copy")
    assert (head["ContentType"], head["Metadata"], head["StorageClass"]) == (
        "binary/octet-stream",
        {"two": "2"},
        "GLACIER",
    )
    assert "CacheControl" not in head
    assert tags_of(client, bucket, "copy") == {"c": "d"}


@pytest.mark.parametrize("directive", ["MetadataDirective", "TaggingDirective"])
def test_directives_are_two(client: Any, bucket: str, source: dict[str, str], directive: str) -> None:
    with error("InvalidArgument", 400):
        client.copy_object(Bucket=bucket, Key="copy", CopySource=source, **{directive: "MERGE"})


def test_a_copy_outlives_its_source(client: Any, bucket: str) -> None:
    data = random.Random(5).randbytes(3 << 20)
    client.put_object(Bucket=bucket, Key="source", Body=data)
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source")
    client.delete_object(Bucket=bucket, Key="source")
    assert body_of(client, bucket, "copy") == data


def test_onto_itself(client: Any, bucket: str, source: dict[str, str]) -> None:
    with error("InvalidRequest", 400):
        client.copy_object(**source, CopySource=source)
    client.copy_object(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"three": "3"})
    assert client.head_object(**source)["Metadata"] == {"three": "3"}
    assert body_of(client, bucket, "source") == b"abc"


@pytest.mark.parametrize("key", ["a b+c%20", "😀/é", "..//x", "q?versionId", "a&b=c#d"])
def test_keys_of_sources(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert body_of(client, bucket, "copy") == key.encode()


@pytest.mark.parametrize("header", ["", "/", "/only", "bucket/", "UPPER/key", "bucket/%ff", "bucket/key?versionId="])
def test_sources_that_are_none(s3_server: Server, bucket: str, header: str) -> None:
    answer = send(s3_server, f"PUT /{bucket}/copy", headers={"x-amz-copy-source": header})
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


def test_sources_that_are_not_there(client: Any, bucket: str) -> None:
    with error("NoSuchKey", 404):
        client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/none")
    with error("NoSuchBucket", 404):
        client.copy_object(Bucket=bucket, Key="copy", CopySource="there-is-none/key")


def test_a_leading_slash(s3_server: Server, client: Any, bucket: str, source: dict[str, str]) -> None:
    answer = send(s3_server, f"PUT /{bucket}/copy", headers={"x-amz-copy-source": f"/{bucket}/source"})
    assert answer.status_code == 200
    assert body_of(client, bucket, "copy") == b"abc"


def test_versions(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    client.put_object(Bucket=bucket, Key="a", Body=b"2")
    source = {"Bucket": bucket, "Key": "a", "VersionId": first}
    copied = client.copy_object(Bucket=bucket, Key="a", CopySource=source)
    assert copied["CopySourceVersionId"] == first
    assert copied["VersionId"] not in ("", first)
    assert body_of(client, bucket, "a") == b"1"
    marker = client.delete_object(Bucket=bucket, Key="a")["VersionId"]
    with error("NoSuchKey", 404):
        client.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")
    with error("InvalidRequest", 400):
        client.copy_object(Bucket=bucket, Key="b", CopySource={**source, "VersionId": marker})
    with error("NoSuchVersion", 404):
        client.copy_object(Bucket=bucket, Key="b", CopySource={**source, "VersionId": "0" * 24})


ETAG, OTHER = hashlib.md5(b"abc").hexdigest(), "0" * 32
BEFORE, AFTER = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({"IfMatch": f'"{ETAG}"'}, True),
        ({"IfMatch": ETAG}, True),
        ({"IfMatch": OTHER}, False),
        ({"IfNoneMatch": OTHER}, True),
        ({"IfNoneMatch": f'"{ETAG}"'}, False),
        ({"IfModifiedSince": BEFORE}, True),
        ({"IfModifiedSince": AFTER}, False),
        ({"IfUnmodifiedSince": AFTER}, True),
        ({"IfUnmodifiedSince": BEFORE}, False),
        ({"IfMatch": ETAG, "IfUnmodifiedSince": BEFORE}, True),
        ({"IfNoneMatch": ETAG, "IfModifiedSince": BEFORE}, False),
    ],
)
def test_conditions(client: Any, bucket: str, source: dict[str, str], conditions: dict[str, Any], holds: bool) -> None:
    given = {f"CopySource{name}": value for name, value in conditions.items()}
    if holds:
        client.copy_object(Bucket=bucket, Key="copy", CopySource=source, **given)
        return
    with error("PreconditionFailed", 412):
        client.copy_object(Bucket=bucket, Key="copy", CopySource=source, **given)


@pytest.mark.parametrize("name", DIGESTS)
def test_checksums_that_are_asked_for(client: Any, bucket: str, name: str) -> None:
    data = random.Random(6).randbytes(5_000_000)
    client.put_object(Bucket=bucket, Key="a", Body=data, ChecksumAlgorithm="SHA256")
    result = client.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", ChecksumAlgorithm=name)
    expected = text(DIGESTS[name](data))
    assert result["CopyObjectResult"][f"Checksum{name}"] == expected
    head = client.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")
    assert (head[f"Checksum{name}"], head["ETag"]) == (expected, f'"{hashlib.md5(data).hexdigest()}"')


def test_files_of_the_native_api(s3_server: Server, client: Any, bucket: str) -> None:
    answer = s3_server.client.post("/api/upload", files={"file": ("a b.txt", b"abc", "text/plain")}, auth=ROOT).json()
    source = {"Bucket": "uploads", "Key": f"{answer['fileId']}/a b.txt"}
    client.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    s3_server.client.delete(f"/api/files/{answer['fileId']}", auth=ROOT)
    assert body_of(client, bucket, "copy") == b"abc"
    assert client.head_object(Bucket=bucket, Key="copy")["ContentType"] == "text/plain"


def test_who_may_not_read_the_source(s3_server: Server, client: Any, bucket: str) -> None:
    """Anybody may write into the one bucket, and nobody else read from the other."""
    client.create_bucket(Bucket=f"{bucket}-open", ACL="public-read-write")
    client.put_object(Bucket=bucket, Key="a", Body=b"abc")

    def copy() -> int:
        request, headers = f"PUT /{bucket}-open/copy", {"x-amz-copy-source": f"{bucket}/a"}
        return send(s3_server, request, headers=headers, keys=None).status_code

    assert copy() == 403
    client.put_object_acl(Bucket=bucket, Key="a", ACL="public-read")
    assert copy() == 200
    client.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert copy() == 403
