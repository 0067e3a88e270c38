"""Nothing is read or written without a right to it: every operation, by every kind of caller."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from app.s3.handlers import handlers
from tests.e2e.helpers import result_of
from tests.s3.conftest import ROOT, client_of
from tests.s3.signing import Call, code_of
from tests.support import Server, eventually

Keys = tuple[str, str]

BUCKET, KEY = "guarded", "secret/k"
CONTENT = b"nobody else may see this"

TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
COMPLETE = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
DELETE = f"<Delete><Object><Key>{KEY}</Key></Object></Delete>".encode()
UPLOAD = "uploadId=000000000000000000000000"

OPERATIONS: dict[str, tuple[str, str, bytes]] = {
    # Name: method, target (B is the bucket, O the object in it), body
    "ListBuckets": ("GET", "/", b""),
    "CreateBucket": ("PUT", "/not-there-yet", b""),
    "HeadBucket": ("HEAD", "B", b""),
    "GetBucketLocation": ("GET", "B?location", b""),
    "GetBucketVersioning": ("GET", "B?versioning", b""),
    "ListObjects": ("GET", "B", b""),
    "ListObjectsV2": ("GET", "B?list-type=2", b""),
    "ListObjectVersions": ("GET", "B?versions", b""),
    "ListMultipartUploads": ("GET", "B?uploads", b""),
    "GetObject": ("GET", "O", b""),
    "HeadObject": ("HEAD", "O", b""),
    "GetObjectAttributes": ("GET", "O?attributes", b""),
    "GetObjectTagging": ("GET", "O?tagging", b""),
    "GetBucketTagging": ("GET", "B?tagging", b""),
    "ListParts": ("GET", f"O?{UPLOAD}", b""),
    "PutObject": ("PUT", "/guarded/other", b"x"),
    "CopyObject": ("PUT", "/guarded/other", b""),
    "PutObjectTagging": ("PUT", "O?tagging", TAGS),
    "PutBucketTagging": ("PUT", "B?tagging", TAGS),
    "CreateMultipartUpload": ("POST", "O?uploads", b""),
    "UploadPart": ("PUT", f"O?partNumber=1&{UPLOAD}", b"x"),
    "UploadPartCopy": ("PUT", f"O?partNumber=1&{UPLOAD}", b""),
    "CompleteMultipartUpload": ("POST", f"O?{UPLOAD}", COMPLETE),
    "AbortMultipartUpload": ("DELETE", f"O?{UPLOAD}", b""),
    "DeleteObjects": ("POST", "B?delete", DELETE),
    "DeleteObjectTagging": ("DELETE", "O?tagging", b""),
    "DeleteBucketTagging": ("DELETE", "B?tagging", b""),
    "DeleteObject": ("DELETE", "O", b""),
    "DeleteBucket": ("DELETE", "B", b""),
}


@dataclass(frozen=True)
class House:
    """A bucket of alice's with an object in it, and keys of all kinds."""

    server: Server
    owner: Keys
    other: Keys
    disabled: Keys
    expired: Keys
    elsewhere: Keys
    reader: Keys

    def call(self, operation: str) -> Call:
        method, target, body = OPERATIONS[operation]
        target = target.replace("B", f"/{BUCKET}", 1) if target.startswith("B") else target
        target = target.replace("O", f"/{BUCKET}/{KEY}", 1) if target.startswith("O") else target
        headers = {}
        if operation in ("CopyObject", "UploadPartCopy"):
            headers["x-amz-copy-source"] = f"/{BUCKET}/{KEY}"
        if operation == "GetObjectAttributes":
            headers["x-amz-object-attributes"] = "ETag"
        if operation == "DeleteObjects":
            headers["x-amz-checksum-sha256"] = _sha256(body)
        return Call(self.server, method, target, body, headers)


def _sha256(body: bytes) -> str:
    import base64

    return base64.b64encode(hashlib.sha256(body).digest()).decode()


@pytest.fixture(scope="module")
def house(s3_server: Server) -> Iterator[House]:
    where = ("--data-dir", s3_server.data_dir, "--mongo-url", s3_server.mongo_url)
    where += ("--mongo-database", s3_server.mongo_database)

    def key(*words: object) -> Keys:
        made = result_of("key", "create", *words, *where)
        return made["accessKey"], made["secretKey"]

    every = ("--allow", "read,write,list,delete")
    disabled = key("--owner", "alice", *every)
    result_of("key", "disable", disabled[0], *where)
    made = House(
        s3_server,
        key("--owner", "alice", *every),
        key("--owner", "bob", *every),
        disabled,
        key("--owner", "alice", *every, "--expires", "1s"),
        key("--owner", "alice", *every, "--bucket", BUCKET, "--prefix", "public/"),
        key("--owner", "alice", "--allow", "read,list"),
    )
    client: Any = client_of(s3_server, made.owner)
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    eventually(lambda: made.call("GetObject").by(made.expired).send().status_code == 403)
    yield made
    assert made.call("GetObject").by(made.owner).send().content == CONTENT
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [one["Key"] for one in listed] == [KEY]
    assert "not-there-yet" not in {one["Name"] for one in client_of(s3_server).list_buckets()["Buckets"]}


def test_every_operation_is_in_the_table() -> None:
    public = {"PreflightBucket", "PreflightObject", "PostObject"}
    known = set(handlers(Mock())) - public
    assert known <= OPERATIONS.keys() | SETTINGS.keys()


SETTINGS: dict[str, tuple[str, str, bytes]] = {}


REFUSED = {
    "anonymous": (403, "AccessDenied"),
    "other": (403, "AccessDenied"),
    "disabled": (403, "InvalidAccessKeyId"),
    "expired": (403, "InvalidAccessKeyId"),
    "elsewhere": (403, "AccessDenied"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("caller", REFUSED)
def test_who_has_no_right_is_refused(house: House, operation: str, caller: str) -> None:
    keys = None if caller == "anonymous" else getattr(house, caller)
    answer = house.call(operation).by(keys).send()
    expected: tuple[int, str] = REFUSED[caller]
    if (operation, caller) in ALLOWED:
        expected = ALLOWED[operation, caller]
    assert (answer.status_code, code_of(answer)) == (expected[0], expected[1] if answer.content else ""), answer.text


ALLOWED: dict[tuple[str, str], tuple[int, str]] = {
    # He sees his own buckets, of which there are none.
    ("ListBuckets", "other"): (200, ""),
    ("ListBuckets", "elsewhere"): (200, ""),
    # To look for the bucket is what clients do before they use a prefix of it.
    ("HeadBucket", "elsewhere"): (200, ""),
    ("GetBucketLocation", "elsewhere"): (403, "AccessDenied"),
}
