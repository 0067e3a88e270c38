"""Lists of objects, by both versions of the operation, against what a dictionary would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.helpers import KeyFor
from tests.s3.conftest import client_of
from tests.s3.wire import code_in, error, send
from tests.support import Server

KEYS = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/b/d",
    "a0",
    "asdf+b",
    "foo+1/bar",
    "foo/bar/xyz",
    "quux ab/thud",
    "x//y",
    "é/ü",
    "\U0001f600",
    "\U0010ffff/a",
    "\U0010ffff\U0010ffff",
]


@pytest.fixture(scope="module")
def shelf(s3_server: Server) -> tuple[Any, str]:
    """A client, and a bucket with `KEYS`, which nobody changes."""
    client = client_of(s3_server)
    client.create_bucket(Bucket="shelf")
    for key in reversed(KEYS):
        client.put_object(Bucket="shelf", Key=key, Body=key.encode())
    return client, "shelf"


def keys(answer: Any) -> list[str]:
    return [one["Key"] for one in answer.get("Contents", [])]


def prefixes(answer: Any) -> list[str]:
    return [one["Prefix"] for one in answer.get("CommonPrefixes", [])]


def folded(prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The keys and the common prefixes that are to be listed."""
    plain: list[str] = []
    common: list[str] = []
    for key in sorted(KEYS):
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if not found:
            plain.append(key)
        elif prefix + head + found not in common:
            common.append(prefix + head + found)
    return plain, common


def test_all_keys(shelf: tuple[Any, str]) -> None:
    client, bucket = shelf
    for answer in (client.list_objects(Bucket=bucket), client.list_objects_v2(Bucket=bucket)):
        assert keys(answer) == sorted(KEYS)
        assert (answer["Name"], answer["Prefix"], answer["MaxKeys"], answer["IsTruncated"]) == (bucket, "", 1000, False)
        assert "Delimiter" not in answer
        assert "CommonPrefixes" not in answer
    assert client.list_objects(Bucket=bucket)["Marker"] == ""
    answer = client.list_objects_v2(Bucket=bucket)
    assert answer["KeyCount"] == len(KEYS)
    assert {"StartAfter", "ContinuationToken", "NextContinuationToken"}.isdisjoint(answer)


@given(
    prefix=st.sampled_from(["", "a", "a/", "a/b", "x/", "none", "\U0010ffff", "é"]),
    delimiter=st.sampled_from(["", "/", "b", "//", "+", " ", "\U0010ffff"]),
    size=st.integers(1, 5),
    first=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages(shelf: tuple[Any, str], prefix: str, delimiter: str, size: int, first: bool) -> None:
    client, bucket = shelf
    pages = client.get_paginator("list_objects" if first else "list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    found: tuple[list[str], list[str]] = ([], [])
    for page in pages:
        found[0].extend(keys(page))
        found[1].extend(prefixes(page))
        assert len(keys(page)) + len(prefixes(page)) == page.get("KeyCount", len(keys(page)) + len(prefixes(page)))
        assert len(keys(page)) + len(prefixes(page)) <= size
    assert found == folded(prefix, delimiter)


@pytest.mark.parametrize("start", ["", "a", "a/b", "a/b/", "b", "\U0010ffff\U0010ffff"])
def test_where_a_list_begins(shelf: tuple[Any, str], start: str) -> None:
    client, bucket = shelf
    wanted = [key for key in sorted(KEYS) if key > start]
    first = client.list_objects(Bucket=bucket, Marker=start)
    second = client.list_objects_v2(Bucket=bucket, StartAfter=start)
    assert (keys(first), first["Marker"]) == (wanted, start)
    assert (keys(second), second["StartAfter"]) == (wanted, start)


def test_a_marker_that_was_a_common_prefix(shelf: tuple[Any, str]) -> None:
    client, bucket = shelf
    answer = client.list_objects(Bucket=bucket, Delimiter="/", Marker="a/")
    assert "a/" not in prefixes(answer)
    assert keys(answer)[0] == "a0"


def test_the_next_marker_is_told_with_a_delimiter_only(shelf: tuple[Any, str]) -> None:
    client, bucket = shelf
    answer = client.list_objects(Bucket=bucket, MaxKeys=2)
    assert (answer["IsTruncated"], "NextMarker" in answer) == (True, False)
    answer = client.list_objects(Bucket=bucket, MaxKeys=2, Delimiter="/")
    assert (answer["IsTruncated"], answer["NextMarker"]) == (True, "a/")


def test_the_number_of_keys(shelf: tuple[Any, str], s3_server: Server) -> None:
    client, bucket = shelf
    none = client.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"], none["MaxKeys"], keys(none)) == (0, False, 0, [])
    assert client.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"] == 1000
    for wrong in ("-1", "many", "1.5", "99999999999"):
        answer = send(s3_server, f"GET /{bucket}?max-keys={wrong}")
        assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


@pytest.mark.parametrize("query", ["list-type=2&", "", "versions&"])
def test_an_encoding_that_there_is_not(shelf: tuple[Any, str], s3_server: Server, query: str) -> None:
    answer = send(s3_server, f"GET /{shelf[1]}?{query}encoding-type=base64")
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


def test_tokens(shelf: tuple[Any, str], s3_server: Server) -> None:
    client, bucket = shelf
    page = client.list_objects_v2(Bucket=bucket, MaxKeys=3, StartAfter="a")
    following = client.list_objects_v2(
        Bucket=bucket, MaxKeys=3, StartAfter="a", ContinuationToken=page["NextContinuationToken"]
    )
    assert keys(page) + keys(following) == sorted(KEYS)[1:7]
    assert following["ContinuationToken"] == page["NextContinuationToken"]
    for wrong in ("no token", "%FF", "YQ", "é"):
        answer = send(s3_server, f"GET /{bucket}?list-type=2&continuation-token={quote(wrong, safe='%')}")
        assert answer.status_code == 400
        assert code_in(answer) in ("InvalidArgument", "InvalidURI")


def elements(content: bytes) -> list[str]:
    return [one.tag.rpartition("}")[2] for one in ElementTree.fromstring(content)]


def texts(content: bytes, path: str) -> Sequence[str]:
    space = {"s": "http://s3.amazonaws.com/doc/2006-03-01/"}
    return [one.text or "" for one in ElementTree.fromstring(content).findall(path, space)]


def test_encoded_answers(shelf: tuple[Any, str], s3_server: Server) -> None:
    answer = send(s3_server, f"GET /{shelf[1]}?list-type=2&encoding-type=url&delimiter=%2F&start-after=a0").content
    assert texts(answer, "s:Contents/s:Key") == ["asdf%2Bb", "%F0%9F%98%80", "%F4%8F%BF%BF%F4%8F%BF%BF"]
    wanted = ["foo%2B1/", "foo/", "quux%20ab/", "x/", "%C3%A9/", "%F4%8F%BF%BF/"]
    assert texts(answer, "s:CommonPrefixes/s:Prefix") == wanted
    assert texts(answer, "s:EncodingType") == ["url"]


def test_keys_that_xml_can_not_carry(s3_server: Server, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a\x01b", Body=b"")
    assert keys(client.list_objects_v2(Bucket=bucket)) == ["a\x01b"]
    assert b"<Key>a&#x1;b</Key>" in send(s3_server, f"GET /{bucket}").content


def test_what_is_told_of_an_object(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc", StorageClass="GLACIER_IR", ChecksumAlgorithm="SHA256")
    head = client.head_object(Bucket=bucket, Key="a")
    (told,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert (told["Size"], told["ETag"], told["StorageClass"]) == (3, head["ETag"], "GLACIER_IR")
    assert (told["ChecksumAlgorithm"], told["ChecksumType"]) == (["SHA256"], "FULL_OBJECT")
    assert told["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert "Owner" not in told
    (told,) = client.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert told["Owner"]["ID"] == "local"
    (told,) = client.list_objects(Bucket=bucket)["Contents"]
    assert told["Owner"]["ID"] == "local"


def test_deleted_objects_are_not_listed(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    client.delete_object(Bucket=bucket, Key="a")
    assert keys(client.list_objects_v2(Bucket=bucket)) == ["b"]


def test_whose_key_is_kept_to_a_prefix(s3_server: Server, client: Any, bucket: str, key_for: KeyFor) -> None:
    for key in ("mine/a", "other/a"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    limited = client_of(s3_server, key_for("--owner", "local", "--bucket", bucket, "--prefix", "mine/"))
    limited.head_bucket(Bucket=bucket)
    limited.get_bucket_location(Bucket=bucket)
    assert keys(limited.list_objects_v2(Bucket=bucket, Prefix="mine/")) == ["mine/a"]
    assert [one["Name"] for one in limited.list_buckets()["Buckets"]] == [bucket]
    with error("AccessDenied", 403):
        limited.list_objects_v2(Bucket=bucket, Prefix="other/")
    with error("AccessDenied", 403):
        limited.get_bucket_cors(Bucket=bucket)
