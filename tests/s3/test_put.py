"""Objects that are put: their bytes, their metadata, what answers tell of them, and what is refused."""

from __future__ import annotations

import hashlib
import random
import socket
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from awscrt import checksums as crt

from app.s3.errors import STATUS
from tests.s3.conftest import ROOT, client_of
from tests.s3.wire import code_in, error, send
from tests.support import Server, eventually

DIGESTS: Mapping[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}

KEYS = [
    "..",
    "../a",
    "a/../b",
    "//",
    "a//b",
    "a/",
    "a+b c%20d%",
    "😀/é/e\u0301",
    " ",
    "a?b#c&d=e;f",
    "~!*'()",
    "a\\b\t",
    "x" * 1024,
]


def text(digest: bytes) -> str:
    return b64encode(digest).decode()


def body_of(client: Any, bucket: str, key: str) -> bytes:
    content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 20 << 20])
def test_bytes(client: Any, bucket: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    put = client.put_object(Bucket=bucket, Key="a", Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert "VersionId" not in put
    assert body_of(client, bucket, "a") == data


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_kept_as_they_are(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    client.put_object(Bucket=bucket, Key="other", Body=b"other")
    assert body_of(client, bucket, key) == key.encode()
    client.delete_object(Bucket=bucket, Key=key)
    with error("NoSuchKey", 404):
        client.get_object(Bucket=bucket, Key=key)


def test_a_key_of_too_many_bytes(client: Any, bucket: str) -> None:
    with error("KeyTooLongError", 400):
        client.put_object(Bucket=bucket, Key="é" * 513, Body=b"")


def test_headers_come_back(client: Any, bucket: str) -> None:
    headers = {
        "CacheControl": "max-age=1",
        "ContentDisposition": 'attachment; filename="a"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/plain; charset=utf-8",
        "WebsiteRedirectLocation": "/elsewhere",
        "StorageClass": "STANDARD_IA",
    }
    client.put_object(Bucket=bucket, Key="a", Body=b"a", Metadata={"one": "1", "Two-two": "2, 2"}, **headers)
    head = client.head_object(Bucket=bucket, Key="a")
    assert {name: head[name] for name in headers} == headers
    assert head["Metadata"] == {"one": "1", "two-two": "2, 2"}


def test_without_headers(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"a")
    head = client.head_object(Bucket=bucket, Key="a")
    assert head["ContentType"] == "binary/octet-stream"
    assert head["Metadata"] == {}
    assert "ContentEncoding" not in head


def test_how_the_body_is_written_is_no_encoding_of_the_object(s3_server: Server, client: Any, bucket: str) -> None:
    for sent, kept in (("aws-chunked", None), ("aws-chunked,gzip", "gzip"), ("gzip, aws-chunked , br", "gzip,br")):
        assert send(s3_server, f"PUT /{bucket}/a", b"a", {"Content-Encoding": sent}).status_code == 200
        assert client.head_object(Bucket=bucket, Key="a").get("ContentEncoding") == kept


def test_metadata_is_limited(s3_server: Server, bucket: str) -> None:
    assert send(s3_server, f"PUT /{bucket}/a", b"", {"x-amz-meta-ab": "é" * 1023}).status_code == 200
    answer = send(s3_server, f"PUT /{bucket}/a", b"", {"x-amz-meta-abc": "é" * 1023})
    assert (answer.status_code, code_in(answer)) == (400, "MetadataTooLarge")


def test_tags(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="a=b&c%20d=%C3%A9%2B&e=")
    tags = client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "b", "c d": "é+", "e": ""}


@pytest.mark.parametrize(
    ("tagging", "code"),
    [
        ("&".join(f"k{number}=v" for number in range(11)), "BadRequest"),
        ("a=b&a=c", "InvalidTag"),
        ("k" * 129 + "=", "InvalidTag"),
        ("k=" + "v" * 257, "InvalidTag"),
        ("k=%09", "InvalidTag"),
        ("aws:k=v", "InvalidTag"),
        ("k=%ff", "InvalidArgument"),
    ],
)
def test_bad_tags(client: Any, bucket: str, tagging: str, code: str) -> None:
    with error(code, 400):
        client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging=tagging)


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("x-amz-acl", "nobody", "InvalidArgument"),
        ("x-amz-storage-class", "PAPER", "InvalidStorageClass"),
        ("x-amz-website-redirect-location", "elsewhere", "InvalidArgument"),
        ("x-amz-server-side-encryption", "AES256", "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", "NotImplemented"),
        ("x-amz-object-lock-mode", "COMPLIANCE", "InvalidArgument"),
        ("x-amz-object-lock-legal-hold", "ON", "InvalidRequest"),
        ("x-amz-object-lock-event-hold", "ON", "NotImplemented"),
        ("x-amz-write-offset-bytes", "1", "NotImplemented"),
        ("x-amz-grant-read", 'id="somebody"', "NotImplemented"),
        ("content-md5", "nonsense", "InvalidDigest"),
    ],
)
def test_what_is_refused(s3_server: Server, bucket: str, header: str, value: str, code: str) -> None:
    answer = send(s3_server, f"PUT /{bucket}/a", b"a", {header: value})
    assert (answer.status_code, code_in(answer)) == (STATUS[code], code)
    assert send(s3_server, f"HEAD /{bucket}/a").status_code == 404


@pytest.mark.parametrize("name", DIGESTS)
def test_checksums(client: Any, bucket: str, name: str) -> None:
    data = random.Random(1).randbytes(100_000)
    right, wrong = text(DIGESTS[name](data)), text(DIGESTS[name](data[1:]))
    put = client.put_object(Bucket=bucket, Key="a", Body=data, ChecksumAlgorithm=name)
    assert (put[f"Checksum{name}"], put["ChecksumType"]) == (right, "FULL_OBJECT")
    put = client.put_object(Bucket=bucket, Key="a", Body=data, **{f"Checksum{name}": right})
    assert put[f"Checksum{name}"] == right
    head = client.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert (head[f"Checksum{name}"], head["ChecksumType"]) == (right, "FULL_OBJECT")
    with error("BadDigest", 400):
        client.put_object(Bucket=bucket, Key="b", Body=data, **{f"Checksum{name}": wrong})
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="b")


def test_without_a_checksum_there_is_one(s3_server: Server, bucket: str) -> None:
    answer = send(s3_server, f"PUT /{bucket}/a", b"123456789")
    assert answer.headers["x-amz-checksum-crc64nvme"] == text(DIGESTS["CRC64NVME"](b"123456789"))


def test_md5(s3_server: Server, bucket: str) -> None:
    right, wrong = (text(hashlib.md5(data).digest()) for data in (b"abc", b"abd"))
    assert send(s3_server, f"PUT /{bucket}/a", b"abc", {"Content-MD5": right}).status_code == 200
    answer = send(s3_server, f"PUT /{bucket}/b", b"abc", {"Content-MD5": wrong})
    assert code_in(answer) == "BadDigest"
    assert send(s3_server, f"HEAD /{bucket}/b").status_code == 404


def test_what_was_refused_leaves_what_was_there(s3_server: Server, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"before")
    assert send(s3_server, f"PUT /{bucket}/a", b"abc", {"x-amz-checksum-crc32": "AAAAAA=="}).status_code == 400
    assert body_of(client, bucket, "a") == b"before"


def test_into_no_bucket(client: Any) -> None:
    with error("NoSuchBucket", 404):
        client.put_object(Bucket="there-is-none", Key="a", Body=b"")


def test_the_owner_of_the_bucket_is_the_expected_one(client: Any, bucket: str) -> None:
    with error("AccessDenied", 403):
        client.put_object(Bucket=bucket, Key="a", Body=b"", ExpectedBucketOwner="somebody")
    client.put_object(Bucket=bucket, Key="a", Body=b"", ExpectedBucketOwner="local")
    source = f"{bucket}/a"
    with error("AccessDenied", 403):
        client.copy_object(Bucket=bucket, Key="b", CopySource=source, ExpectedSourceBucketOwner="somebody")
    client.copy_object(Bucket=bucket, Key="b", CopySource=source, ExpectedSourceBucketOwner="local")


def test_versions_are_told(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = (client.put_object(Bucket=bucket, Key="a", Body=body)["VersionId"] for body in (b"1", b"2"))
    assert first != second
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert client.put_object(Bucket=bucket, Key="a", Body=b"3")["VersionId"] == "null"


def test_the_same_bytes_are_stored_once(s3_server: Server, client: Any, bucket: str) -> None:
    data = random.Random(2).randbytes(3 << 20)

    def chunks() -> int:
        answer = s3_server.client.get("/api/stats", auth=ROOT)
        count: int = answer.json()["chunks"]
        return count

    client.put_object(Bucket=bucket, Key="a", Body=data)
    before = chunks()
    client.put_object(Bucket=bucket, Key="b", Body=data)
    s3_server.client.post("/api/upload", files={"file": ("c", data)}, auth=ROOT)
    assert chunks() == before


def test_a_reader_goes_on_while_the_object_is_put_again(client: Any, bucket: str) -> None:
    old, new = (random.Random(seed).randbytes(20 << 20) for seed in (3, 4))
    client.put_object(Bucket=bucket, Key="a", Body=old)
    reading = client.get_object(Bucket=bucket, Key="a")["Body"]
    begun = reading.read(1 << 16)
    client.put_object(Bucket=bucket, Key="a", Body=new)
    assert begun + reading.read() == old
    assert body_of(client, bucket, "a") == new


def test_a_writer_that_goes_away_leaves_what_was_there(s3_server: Server, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"before")
    url = urlsplit(client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a"}))
    gone = len(s3_server.events("client gone in mid-request"))
    with socket.create_connection((url.hostname, url.port)) as connection:
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 3000000\r\n\r\n"
        connection.sendall(head.encode() + bytes(2_000_000))
    eventually(lambda: len(s3_server.events("client gone in mid-request")) > gone)
    assert body_of(client, bucket, "a") == b"before"


def test_one_of_many_writers_is_the_last(s3_server: Server, bucket: str) -> None:
    bodies = [random.Random(seed).randbytes(50_000) for seed in range(16)]
    clients = [client_of(s3_server) for _ in range(4)]

    def put(number: int) -> None:
        clients[number % 4].put_object(Bucket=bucket, Key="a", Body=bodies[number])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(16)))
    assert body_of(clients[0], bucket, "a") in bodies


def test_the_native_api_sees_objects(s3_server: Server, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="folder/of objects.txt", Body=b"abc", ContentType="text/plain")
    files = s3_server.client.get("/api/files", params={"name": "of objects.txt"}, auth=ROOT).json()["files"]
    (found,) = [file for file in files if file["name"] == "of objects.txt"]
    assert (found["size"], found["contentType"]) == (3, "text/plain")
    assert (found["bucket"], found["key"]) == (bucket, "folder/of objects.txt")
    assert s3_server.client.get(f"/api/files/{found['id']}", auth=ROOT).content == b"abc"


def test_files_of_the_native_api_are_objects(s3_server: Server, client: Any) -> None:
    answer = s3_server.client.post("/api/upload", files={"file": ("a b.txt", b"abc", "text/plain")}, auth=ROOT).json()
    key = f"{answer['fileId']}/a b.txt"
    assert body_of(client, "uploads", key) == b"abc"
    client.delete_object(Bucket="uploads", Key=key)
    assert s3_server.client.get(f"/api/files/{answer['fileId']}", auth=ROOT).status_code == 404


def test_objects_of_the_native_bucket(s3_server: Server, client: Any) -> None:
    client.put_object(Bucket="uploads", Key="put/by s3", Body=b"1")
    client.put_object(Bucket="uploads", Key="put/by s3", Body=b"22")
    assert body_of(client, "uploads", "put/by s3") == b"22"
    client.delete_object(Bucket="uploads", Key="put/by s3")
    with error("NoSuchKey", 404):
        client.get_object(Bucket="uploads", Key="put/by s3")


def test_a_file_that_is_too_large_is_not_read(start_server: Callable[..., Server]) -> None:
    server = start_server(s3_port=0, max_file_size=1000, root_access_key=ROOT[0], root_secret_key=ROOT[1])
    client = client_of(server)
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="a", Body=b"a" * 1000)
    answer = send(server, "PUT /bucket/a", b"a" * 1001)
    assert (answer.status_code, code_in(answer)) == (400, "EntityTooLarge")
    assert "<MaxSizeAllowed>1000<" in answer.text
    assert body_of(client, "bucket", "a") == b"a" * 1000


def test_a_body_of_unknown_length(s3_server: Server, bucket: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"

    signed = send(s3_server, f"PUT /{bucket}/a", headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}).request
    headers = {name: value for name, value in signed.headers.items() if name != "content-length"}
    answer = httpx.put(signed.url, content=pieces(), headers=headers, trust_env=False)
    assert (answer.status_code, code_in(answer)) == (411, "MissingContentLength")
