"""Objects that are read: bytes, ranges, parts, conditions, and what is told of them."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.s3.conftest import ROOT, client_of
from tests.s3.wire import code_in, error, send
from tests.support import Databases, Server, blob_of

DATA = bytes(range(256)) * 8192 + b"the end"
"""A little more than two chunks."""

PART = 5 << 20


@pytest.fixture(scope="module")
def there(s3_server: Server) -> tuple[Any, str]:
    """A client, and a bucket with the object `a`, which nobody changes."""
    client = client_of(s3_server)
    client.create_bucket(Bucket="read-only")
    client.put_object(Bucket="read-only", Key="a", Body=DATA, ContentType="text/x-a", Metadata={"name": "value"})
    client.put_object(Bucket="read-only", Key="empty", Body=b"")
    return client, "read-only"


@pytest.fixture(scope="module")
def in_parts(there: tuple[Any, str]) -> dict[int, bytes]:
    """The parts, by number, of the object `parts`."""
    client, bucket = there
    parts = {2: b"2" * PART, 5: b"5" * PART, 9: b"9" * 10}
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts", ChecksumAlgorithm="CRC32")["UploadId"]
    done = []
    for number, body in parts.items():
        part = {"Bucket": bucket, "Key": "parts", "UploadId": upload, "PartNumber": number}
        put = client.upload_part(**part, Body=body, ChecksumAlgorithm="CRC32")
        done.append({"PartNumber": number, "ETag": put["ETag"], "ChecksumCRC32": put["ChecksumCRC32"]})
    client.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": done})
    return parts


def status(answer: Any) -> int:
    code: int = answer["ResponseMetadata"]["HTTPStatusCode"]
    return code


def crc32(data: bytes) -> str:
    return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def test_all_of_it(there: tuple[Any, str]) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="a")
    assert got["Body"].read() == DATA
    assert (status(got), got["ContentLength"], got["ContentType"]) == (200, len(DATA), "text/x-a")
    assert got["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    assert (got["AcceptRanges"], got["Metadata"]) == ("bytes", {"name": "value"})
    assert datetime.now(UTC) - timedelta(hours=1) < got["LastModified"] < datetime.now(UTC) + timedelta(hours=1)
    assert {"ContentRange", "VersionId", "TagCount", "StorageClass", "PartsCount"}.isdisjoint(got)


def test_head_tells_what_get_tells(there: tuple[Any, str]) -> None:
    client, bucket = there
    asked = {"Bucket": bucket, "Key": "a", "ChecksumMode": "ENABLED"}
    told = [client.head_object(**asked), client.get_object(**asked)]
    told[1].pop("Body").read()
    for answer in told:
        for name in ("date", "x-amz-request-id"):
            del answer["ResponseMetadata"]["HTTPHeaders"][name]
    headers = [answer["ResponseMetadata"]["HTTPHeaders"] for answer in told]
    assert headers[0] == headers[1]


RANGES = [
    "bytes=0-0",
    "bytes=5-",
    "bytes=-7",
    "bytes=100-1048600",
    f"bytes=0-{len(DATA)}",
    "bytes=0-999999999999999999999",
]


@pytest.mark.parametrize("asked", RANGES)
def test_a_range(there: tuple[Any, str], asked: str) -> None:
    client, bucket = there
    first, _, last = asked.removeprefix("bytes=").partition("-")
    wanted = DATA[int(first) : int(last) + 1 if last else None] if first else DATA[-int(last) :]
    start = int(first) if first else len(DATA) - len(wanted)
    got = client.get_object(Bucket=bucket, Key="a", Range=asked)
    assert (status(got), got["Body"].read() == wanted) == (206, True)
    assert got["ContentRange"] == f"bytes {start}-{start + len(wanted) - 1}/{len(DATA)}"
    head = client.head_object(Bucket=bucket, Key="a", Range=asked)
    assert (status(head), head["ContentLength"], head["ContentRange"]) == (206, len(wanted), got["ContentRange"])


@given(start=st.integers(0, len(DATA) - 1), size=st.integers(1, 1 << 20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range(there: tuple[Any, str], start: int, size: int) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="a", Range=f"bytes={start}-{start + size - 1}")
    assert got["Body"].read() == DATA[start : start + size]


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=a-b", "bytes=5-4", "lines=0-1", "bytes"])
def test_what_is_no_single_range_is_all_of_it(there: tuple[Any, str], asked: str) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="a", Range=asked)
    assert (status(got), got["Body"].read() == DATA) == (200, True)


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=-0", "bytes=9999999-99999999"])
def test_a_range_beyond_the_end(there: tuple[Any, str], s3_server: Server, asked: str) -> None:
    answer = send(s3_server, f"GET /{there[1]}/a", headers={"Range": asked})
    assert (answer.status_code, code_in(answer)) == (416, "InvalidRange")
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert f"<RangeRequested>{asked}</RangeRequested>" in answer.text
    assert f"<ActualObjectSize>{len(DATA)}</ActualObjectSize>" in answer.text
    assert send(s3_server, f"HEAD /{there[1]}/a", headers={"Range": asked}).status_code == 416


def test_an_empty_object(there: tuple[Any, str]) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="empty")
    assert (status(got), got["ContentLength"], got["Body"].read()) == (200, 0, b"")
    with error("InvalidRange", 416):
        client.get_object(Bucket=bucket, Key="empty", Range="bytes=0-0")
    assert status(client.get_object(Bucket=bucket, Key="empty", PartNumber=1)) == 200


# Parts


def test_a_part(there: tuple[Any, str], in_parts: dict[int, bytes]) -> None:
    client, bucket = there
    whole = sum(map(len, in_parts.values()))
    start = 0
    for number, body in in_parts.items():
        got = client.get_object(Bucket=bucket, Key="parts", PartNumber=number, ChecksumMode="ENABLED")
        assert (status(got), got["PartsCount"], got["Body"].read() == body) == (206, 3, True)
        assert got["ContentRange"] == f"bytes {start}-{start + len(body) - 1}/{whole}"
        assert got["ChecksumCRC32"] == crc32(body)
        head = client.head_object(Bucket=bucket, Key="parts", PartNumber=number)
        assert (status(head), head["ContentLength"], head["PartsCount"]) == (206, len(body), 3)
        start += len(body)


def test_the_whole_of_what_came_in_parts(there: tuple[Any, str], in_parts: dict[int, bytes]) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(in_parts.values())
    assert got["ETag"].endswith('-3"')
    assert (got["ChecksumType"], got["ChecksumCRC32"][-2:]) == ("COMPOSITE", "-3")
    assert "PartsCount" not in got


@pytest.mark.parametrize("key", ["a", "parts"])
def test_a_part_that_there_is_not(there: tuple[Any, str], in_parts: dict[int, bytes], key: str) -> None:
    assert 3 not in in_parts
    client, bucket = there
    with error("InvalidPartNumber", 416):
        client.get_object(Bucket=bucket, Key=key, PartNumber=3)


def test_an_object_of_one_piece_is_its_own_first_part(there: tuple[Any, str]) -> None:
    client, bucket = there
    got = client.get_object(Bucket=bucket, Key="a", PartNumber=1)
    assert (status(got), got["Body"].read() == DATA) == (206, True)
    assert got["ContentRange"] == f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    assert "PartsCount" not in got


def test_parts_are_numbers_and_no_ranges(there: tuple[Any, str]) -> None:
    client, bucket = there
    for number in (0, 10_001):
        with error("InvalidArgument", 400):
            client.get_object(Bucket=bucket, Key="a", PartNumber=number)
    with error("InvalidRequest", 400):
        client.get_object(Bucket=bucket, Key="a", PartNumber=1, Range="bytes=0-1")


# Conditions


def conditions(etag: str, modified: datetime) -> list[tuple[dict[str, Any], int]]:
    hour = timedelta(hours=1)
    before, after = modified - hour, modified + hour
    return [
        ({"IfMatch": etag}, 200),
        ({"IfMatch": etag.strip('"')}, 200),
        ({"IfMatch": "*"}, 200),
        ({"IfMatch": f'"other", {etag}'}, 200),
        ({"IfMatch": '"other"'}, 412),
        ({"IfMatch": "other"}, 412),
        ({"IfNoneMatch": '"other"'}, 200),
        ({"IfNoneMatch": etag}, 304),
        ({"IfNoneMatch": etag.strip('"')}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfModifiedSince": before}, 200),
        ({"IfModifiedSince": modified}, 304),
        ({"IfUnmodifiedSince": modified}, 200),
        ({"IfUnmodifiedSince": before}, 412),
        ({"IfMatch": etag, "IfUnmodifiedSince": before}, 200),
        ({"IfNoneMatch": '"other"', "IfModifiedSince": after}, 200),
        ({"IfNoneMatch": etag, "IfModifiedSince": before}, 304),
        ({"IfMatch": '"other"', "IfNoneMatch": etag}, 412),
        ({"IfMatch": etag, "IfNoneMatch": etag}, 304),
    ]


def test_conditions(there: tuple[Any, str]) -> None:
    client, bucket = there
    told = client.head_object(Bucket=bucket, Key="a")
    for asked, expected in conditions(told["ETag"], told["LastModified"]):
        for call, code in ((client.get_object, "PreconditionFailed"), (client.head_object, "412")):
            if expected == 200:
                assert status(call(Bucket=bucket, Key="a", **asked)) == 200, asked
            else:
                with error("304" if expected == 304 else code, expected):
                    call(Bucket=bucket, Key="a", **asked)


def test_what_a_failed_condition_tells(there: tuple[Any, str], s3_server: Server) -> None:
    answer = send(s3_server, f"GET /{there[1]}/a", headers={"If-Match": '"other"'})
    assert "<Condition>If-Match</Condition>" in answer.text
    etag = f'"{hashlib.md5(DATA).hexdigest()}"'
    answer = send(s3_server, f"GET /{there[1]}/a", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert "last-modified" in answer.headers


def test_a_range_of_another_object(there: tuple[Any, str], s3_server: Server) -> None:
    for tag, expected in (('"other"', 200), (f'"{hashlib.md5(DATA).hexdigest()}"', 206)):
        answer = send(s3_server, f"GET /{there[1]}/a", headers={"Range": "bytes=0-1", "If-Range": tag})
        assert answer.status_code == expected


# Headers


def test_headers_that_the_query_asks_for(there: tuple[Any, str], anonymous: Any, s3_server: Server) -> None:
    client, bucket = there
    asked = {
        "ResponseContentType": "text/plain",
        "ResponseContentLanguage": "de",
        "ResponseCacheControl": "no-store",
        "ResponseContentDisposition": 'attachment; filename="ä.txt"',
        "ResponseContentEncoding": "identity",
    }
    got = client.get_object(Bucket=bucket, Key="a", **asked)
    told = {name.removeprefix("Response"): value for name, value in asked.items()}
    told["ContentDisposition"] = told["ContentDisposition"].encode().decode("latin-1")
    assert {name: got[name] for name in told} == told
    client.put_object_acl(Bucket=bucket, Key="empty", ACL="public-read")
    assert anonymous.get_object(Bucket=bucket, Key="empty")["ContentLength"] == 0
    with error("InvalidRequest", 400):
        anonymous.get_object(Bucket=bucket, Key="empty", ResponseContentType="text/plain")
    answer = send(s3_server, f"GET /{bucket}/a?response-content-type=a%0D%0Ax-evil%3A1")
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


def test_headers_of_the_object(client: Any, bucket: str) -> None:
    headers = {
        "CacheControl": "max-age=1",
        "ContentDisposition": "inline",
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "StorageClass": "STANDARD_IA",
        "WebsiteRedirectLocation": "/other",
    }
    client.put_object(Bucket=bucket, Key="a", Body=b"a", Tagging="a=1&b=2", **headers)
    for call in (client.get_object, client.head_object):
        got = call(Bucket=bucket, Key="a")
        assert {name: got[name] for name in headers} == headers
        assert got["TagCount"] == 2


def test_metadata_that_is_not_ascii(s3_server: Server, bucket: str) -> None:
    send(s3_server, f"PUT /{bucket}/a", b"", {"x-amz-meta-name": "Grüße", "x-amz-meta-plain": "a  b"})
    headers = send(s3_server, f"HEAD /{bucket}/a").headers
    assert headers["x-amz-meta-name"] == f"=?UTF-8?B?{b64encode('Grüße'.encode()).decode()}?="
    assert headers["x-amz-meta-plain"] == "a  b"


def test_checksums_when_they_are_asked_for(there: tuple[Any, str], s3_server: Server, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc", ChecksumAlgorithm="CRC32")
    answer = send(s3_server, f"HEAD /{bucket}/a", headers={"x-amz-checksum-mode": "ENABLED"})
    assert answer.headers["x-amz-checksum-crc32"] == crc32(b"abc")
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    for more in ({}, {"x-amz-checksum-mode": "ENABLED", "Range": "bytes=0-1"}):
        headers = send(s3_server, f"GET /{bucket}/a", headers=more).headers
        assert not [name for name in headers if name.startswith("x-amz-checksum-")]


# What it costs


def test_a_small_object_is_looked_up_once(client: Any, bucket: str, s3_server: Server, databases: Databases) -> None:
    client.put_object(Bucket=bucket, Key="small", Body=b"abc")
    with databases.client() as mongo:
        database = mongo[s3_server.mongo_database]
        database.command("profile", 2)
        assert client.get_object(Bucket=bucket, Key="small")["Body"].read() == b"abc"
        database.command("profile", 0)
        queries = list(database["system.profile"].find({"op": "query"}))
        database.drop_collection("system.profile")
    of_object = [query for query in queries if "small" in str(query["command"].get("filter"))]
    assert [query["ns"].partition(".")[2] for query in of_object] == ["files"]
    assert not [query for query in queries if query["ns"].endswith(".pages")]


def test_an_object_that_is_damaged(client: Any, bucket: str, s3_server: Server) -> None:
    content = b"that nobody else has: " + bucket.encode()
    client.put_object(Bucket=bucket, Key="a", Body=content)
    blob_of(s3_server, hashlib.sha256(content).hexdigest()).write_bytes(b"that is not it")
    with error("InternalError", 500):
        client.get_object(Bucket=bucket, Key="a")
    assert client.head_object(Bucket=bucket, Key="a")["ContentLength"] == len(content)


# What there is not


def test_no_object_and_no_bucket(client: Any, bucket: str, s3_server: Server) -> None:
    answer = send(s3_server, f"GET /{bucket}/none")
    assert (answer.status_code, code_in(answer)) == (404, "NoSuchKey")
    assert "<Key>none</Key>" in answer.text
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="none")
    with error("NoSuchVersion", 404):
        client.get_object(Bucket=bucket, Key="none", VersionId="0" * 24)
    with error("NoSuchBucket", 404):
        client.get_object(Bucket="there-is-none", Key="none")


def test_files_of_the_native_api(client: Any, s3_server: Server) -> None:
    files = {"file": ("ä b.txt", DATA, "text/plain")}
    key = f"{s3_server.client.post('/api/upload', files=files, auth=ROOT).json()['fileId']}/ä b.txt"
    got = client.get_object(Bucket="uploads", Key=key)
    assert (got["Body"].read() == DATA, got["ContentType"]) == (True, "text/plain")
    assert got["ETag"].endswith('-1"')
    assert key in [one["Key"] for one in client.list_objects_v2(Bucket="uploads")["Contents"]]
    versions = client.list_object_versions(Bucket="uploads", Prefix=key)["Versions"]
    assert [(one["Key"], one["VersionId"], one["IsLatest"]) for one in versions] == [(key, "null", True)]
    assert client.get_object_tagging(Bucket="uploads", Key=key)["TagSet"] == []
    with error("InvalidBucketState", 409):
        client.put_object_tagging(Bucket="uploads", Key=key, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    with error("InvalidBucketState", 409):
        client.put_object_acl(Bucket="uploads", Key=key, ACL="public-read")


# Attributes


ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def test_attributes(there: tuple[Any, str]) -> None:
    client, bucket = there
    got = client.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=ALL)
    assert (got["ETag"], got["ObjectSize"]) == (hashlib.md5(DATA).hexdigest(), len(DATA))
    assert (got["StorageClass"], got["Checksum"]["ChecksumType"]) == ("STANDARD", "FULL_OBJECT")
    assert "ObjectParts" not in got
    got = client.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=["ObjectSize"])
    assert got.keys() == {"ObjectSize", "LastModified", "ResponseMetadata"}


def test_attributes_of_parts(there: tuple[Any, str], in_parts: dict[int, bytes]) -> None:
    client, bucket = there
    asked = {"Bucket": bucket, "Key": "parts", "ObjectAttributes": ALL}
    parts = client.get_object_attributes(**asked)["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["IsTruncated"], parts["MaxParts"]) == (3, False, 1000)
    found = [(part["PartNumber"], part["Size"], part["ChecksumCRC32"]) for part in parts["Parts"]]
    assert found == [(number, len(body), crc32(body)) for number, body in in_parts.items()]
    parts = client.get_object_attributes(**asked, MaxParts=1, PartNumberMarker=2)["ObjectParts"]
    assert [part["PartNumber"] for part in parts["Parts"]] == [5]
    assert (parts["IsTruncated"], parts["NextPartNumberMarker"], parts["PartNumberMarker"]) == (True, 5, 2)


def test_attributes_that_there_are_not(s3_server: Server, there: tuple[Any, str], in_parts: dict[int, bytes]) -> None:
    assert in_parts
    for headers in (
        {},
        {"x-amz-object-attributes": "Colour"},
        {"x-amz-object-attributes": "ObjectParts", "x-amz-max-parts": "many"},
    ):
        answer = send(s3_server, f"GET /{there[1]}/parts?attributes", headers=headers)
        assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")
