"""Nothing is read or written without a right to it: every operation, by every kind of caller."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import time_machine

from app.s3.handlers import handlers
from app.s3.operations import OPERATIONS
from tests.e2e.helpers import result_of
from tests.s3.conftest import client_of
from tests.s3.signing import Call, code_of
from tests.support import Server, eventually

Keys = tuple[str, str]

BUCKET, KEY = "guarded", "secret/k"
CONTENT = b"nobody else may see this"

UPLOAD = "uploadId=000000000000000000000000"
DELETE = f"<Delete><Object><Key>{KEY}</Key></Object></Delete>".encode()

TARGETS = {
    "CreateBucket": "/not-there-yet",
    "PutObject": f"/{BUCKET}/other",
    "CopyObject": f"/{BUCKET}/other",
    "ListParts": f"/{BUCKET}/{KEY}?{UPLOAD}",
    "UploadPart": f"/{BUCKET}/{KEY}?partNumber=1&{UPLOAD}",
    "UploadPartCopy": f"/{BUCKET}/{KEY}?partNumber=1&{UPLOAD}",
    "CompleteMultipartUpload": f"/{BUCKET}/{KEY}?{UPLOAD}",
    "AbortMultipartUpload": f"/{BUCKET}/{KEY}?{UPLOAD}",
    "DeleteObjects": f"/{BUCKET}?delete",
}
"""Of operations that ask for more than the sub-resource that selects them."""

HEADERS = {
    "CopyObject": {"x-amz-copy-source": f"/{BUCKET}/{KEY}"},
    "UploadPartCopy": {"x-amz-copy-source": f"/{BUCKET}/{KEY}"},
    "GetObjectAttributes": {"x-amz-object-attributes": "ETag"},
    "DeleteObjects": {"x-amz-checksum-sha256": b64encode(hashlib.sha256(DELETE).digest()).decode()},
}

OPEN_TO_ALL = {"PreflightBucket", "PreflightObject", "PostObject"}
"""Preflights are asked by browsers without keys; forms have their own signature (`test_post.py`)."""

SUPPORTED = sorted(handlers(Mock(), "us-east-1").keys() - OPEN_TO_ALL)
READS = [name for name in SUPPORTED if OPERATIONS[name].method in ("GET", "HEAD")]
WRITES = [name for name in SUPPORTED if name not in READS]


def call_of(server: Server, name: str, bucket: str = BUCKET) -> Call:
    """A request for an operation, on the bucket or on the object in it."""
    operation = OPERATIONS[name]
    place = {"service": "/", "bucket": f"/{BUCKET}", "object": f"/{BUCKET}/{KEY}"}[operation.level]
    target = TARGETS.get(name) or f"{place}?{'&'.join(operation.query)}".rstrip("?")
    body = {"DeleteObjects": DELETE, "PutObject": b"x"}.get(name, b"")
    headers = {one: value.replace(BUCKET, bucket) for one, value in HEADERS.get(name, {}).items()}
    return Call(server, operation.method, target.replace(BUCKET, bucket), body, headers)


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

    def call(self, name: str) -> Call:
        return call_of(self.server, name)


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
    assert [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [KEY]


REFUSED = {
    "anonymous": (403, "AccessDenied"),
    "other": (403, "AccessDenied"),
    "disabled": (403, "InvalidAccessKeyId"),
    "expired": (403, "InvalidAccessKeyId"),
    "elsewhere": (403, "AccessDenied"),
}

OTHERWISE = {
    # He sees his own buckets, of which there are none; and he may have some.
    ("ListBuckets", "other"): (200, ""),
    ("ListBuckets", "elsewhere"): (200, ""),
    ("CreateBucket", "other"): (200, ""),
    # Clients look for the bucket before they use a prefix of it.
    ("HeadBucket", "elsewhere"): (200, ""),
    ("GetBucketLocation", "elsewhere"): (200, ""),
    # Each key is refused for itself; none is deleted.
    ("DeleteObjects", "anonymous"): (200, ""),
    ("DeleteObjects", "other"): (200, ""),
    ("DeleteObjects", "elsewhere"): (200, ""),
}


def expect(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert code_of(answer) == (code if answer.content else ""), answer.text


@pytest.mark.parametrize("operation", SUPPORTED)
@pytest.mark.parametrize("caller", REFUSED)
def test_who_has_no_right_is_refused(house: House, operation: str, caller: str) -> None:
    keys = None if caller == "anonymous" else getattr(house, caller)
    answer = house.call(operation).by(keys).send()
    expect(answer, *OTHERWISE.get((operation, caller), REFUSED[caller]))
    if operation == "DeleteObjects" and answer.status_code == 200:
        assert "<Code>AccessDenied</Code>" in answer.text
        assert "<Deleted>" not in answer.text


@pytest.mark.parametrize("operation", WRITES)
def test_a_key_that_reads_does_not_write(house: House, operation: str) -> None:
    answer = house.call(operation).by(house.reader).send()
    expect(answer, *((200, "") if operation == "DeleteObjects" else (403, "AccessDenied")))


@pytest.mark.parametrize("operation", READS)
def test_its_owner_reads_what_others_may_not(house: House, operation: str) -> None:
    """So that the refusals are no others."""
    for keys in (house.owner, house.reader):
        assert house.call(operation).by(keys).send().status_code not in (401, 403, 500, 501)


@pytest.mark.parametrize("operation", SUPPORTED)
def test_what_is_not_as_it_was_signed_is_refused(house: House, operation: str) -> None:
    call = house.call(operation).by(house.owner)
    wrong = (403, "SignatureDoesNotMatch")
    expect(call.by((house.owner[0], house.other[1])).send(), *wrong)
    expect(call.by(("AKNOSUCHKEYATALLXXXX", house.owner[1])).send(), 403, "InvalidAccessKeyId")
    expect(replace(call, age=timedelta(minutes=16)).send(), 403, "RequestTimeTooSkewed")
    expect(replace(call, age=-timedelta(minutes=16)).send(), 403, "RequestTimeTooSkewed")
    expect(call.send(headers={"x-amz-date": "20200101T000000Z"}), 400, "AuthorizationHeaderMalformed")
    expect(call.send(headers={"x-amz-acl": "public-read"}), 403, "AccessDenied")
    more = f"{call.target}{'&' if '?' in call.target else '?'}x-id=1"
    expect(call.send(target=more), *wrong)
    if call.body:
        expect(call.send(body=b"y" * len(call.body)), 400, "XAmzContentSHA256Mismatch")


def test_a_presigned_request_is_good_for_its_time_and_its_object_only(house: House) -> None:
    client = client_of(house.server, house.owner)
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": KEY}, ExpiresIn=60)
    with httpx.Client(trust_env=False) as http:
        assert http.get(url).content == CONTENT
        assert http.delete(url).status_code == 403
        expect(http.get(url.replace("secret/k", "secret/l")), 403, "SignatureDoesNotMatch")
        expect(http.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")), 403, "SignatureDoesNotMatch")
        with time_machine.travel(datetime.now(UTC) - timedelta(minutes=5), tick=False):
            old = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": KEY}, ExpiresIn=60)
        expect(http.get(old), 403, "AccessDenied")


def test_a_prefix_is_listed_by_a_key_that_is_limited_to_it(house: House) -> None:
    listing = Call(house.server, "GET", f"/{BUCKET}?list-type=2&prefix=public%2F").by(house.elsewhere)
    assert listing.send().status_code == 200
    expect(replace(listing, target=f"/{BUCKET}?list-type=2&prefix=pub").send(), 403, "AccessDenied")
