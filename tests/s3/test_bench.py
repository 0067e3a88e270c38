"""The client with which S3 APIs are compared, on a real one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from bench.compare.systems import BUCKET, S3Api
from bench.http import MIB, HttpError
from tests.support import Server


@pytest.fixture(scope="module")
def api(s3_server: Server) -> S3Api:
    return S3Api(s3_server.s3_url.removeprefix("http://"))


@pytest.fixture(autouse=True)
def bucket(client: Any) -> Iterator[None]:
    """The one of the measurement, to which anybody may write."""
    client.create_bucket(Bucket=BUCKET, ACL="public-read-write")
    yield
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    client.delete_bucket(Bucket=BUCKET)


def test_an_object_of_one_request_and_one_of_parts_come_back(api: S3Api, client: Any) -> None:
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"the last one"]
    whole = b"".join(parts)
    keys = [api.upload(whole, "one"), api.upload_in_parts(parts, "many")]
    assert re.search(r"-3\"$", client.head_object(Bucket=BUCKET, Key="many")["ETag"])
    for key in keys:
        client.put_object_acl(Bucket=BUCKET, Key=key.rpartition("/")[2], ACL="public-read")
        into = bytearray(len(whole))
        api.download(key, into)
        assert into == whole


def test_a_refusal_is_told(api: S3Api) -> None:
    with pytest.raises(HttpError, match=r"(?s)POST /bench/small\?uploadId=.* 400: .*EntityTooSmall"):
        api.upload_in_parts([b"too small", b"to be a part"], "small")
    with pytest.raises(HttpError, match=r"(?s)GET /bench/none was answered 404: .*NoSuchKey"):
        api.download("/bench/none", bytearray(1))
