"""Which bucket and key a request names."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.s3.address import MAX_KEY, Address, parse_address, valid_bucket
from app.s3.errors import S3Error
from tests.s3.tools import refused


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", Address("", "")),
        (b"/bucket", Address("bucket", "")),
        (b"/bucket/", Address("bucket", "")),
        (b"/bucket/key", Address("bucket", "key")),
        (b"/bucket//key", Address("bucket", "/key")),
        (b"/bucket/a//b/../c/.", Address("bucket", "a//b/../c/.")),
        (b"/bucket/folder/", Address("bucket", "folder/")),
        (b"/bucket/a+b%2Bc%20d", Address("bucket", "a+b+c d")),
        (b"/bucket/a%2Fb%252F", Address("bucket", "a/b%2F")),
        (b"/bucket/%F0%9F%98%80~", Address("bucket", "\N{GRINNING FACE}~")),
        ("/bucket/é".encode(), Address("bucket", "é")),
        (b"/bucket/%00%0A", Address("bucket", "\0\n")),
    ],
)
def test_the_bucket_stands_in_the_path(path: bytes, expected: Address) -> None:
    assert parse_address("localhost:9000", path, "") == expected
    assert parse_address("s3.example.com", path, "s3.example.com") == expected


@pytest.mark.parametrize(
    "host", ["photos.s3.example.com", "photos.s3.example.com:9000", "PHOTOS.S3.Example.com", "photos.s3.example.com:"]
)
def test_the_bucket_stands_in_the_host(host: str) -> None:
    assert parse_address(host, b"/", "S3.example.com") == Address("photos", "")
    assert parse_address(host, b"/a/b//", "s3.example.com") == Address("photos", "a/b//")
    assert parse_address(host, b"//a", "s3.example.com") == Address("photos", "/a")


def test_a_bucket_with_dots_stands_in_the_host() -> None:
    assert parse_address("my.photos.s3.example.com", b"/k", "s3.example.com") == Address("my.photos", "k")


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1:9000", "[::1]:9000", "photoss3.example.com", "s3.example.com", "::", "a:b"]
)
def test_another_host_names_no_bucket(host: str) -> None:
    assert parse_address(host, b"/photos/k", "s3.example.com") == Address("photos", "k")


@pytest.mark.parametrize(
    "path", [b"", b"*", b"bucket/key", b"/bucket/%", b"/bucket/%4", b"/bucket/%zz", b"/bucket/%FF", b"/\xff"]
)
def test_a_path_that_can_not_be_read(path: bytes) -> None:
    with refused("InvalidURI"):
        parse_address("localhost", path, "")


def test_a_key_has_so_many_bytes_at_the_most() -> None:
    assert parse_address("h", b"/bucket/" + b"k" * MAX_KEY, "").key == "k" * MAX_KEY
    assert parse_address("h", b"/bucket/" + b"%C3%A9" * (MAX_KEY // 2), "").key == "é" * (MAX_KEY // 2)
    with refused("KeyTooLongError", Size=str(MAX_KEY + 1), MaxSizeAllowed="1024"):
        parse_address("h", b"/bucket/a" + b"%C3%A9" * (MAX_KEY // 2), "")


@pytest.mark.parametrize(
    "name", ["abc", "a-b", "a.b.c", "1bucket", "b" * 63, "1.2.3", "my-bucket.v2", "xn-a", "999.1.1.1a"]
)
def test_names_that_a_bucket_may_have(name: str) -> None:
    assert valid_bucket(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "ab", "b" * 64, "Bucket", "buc_ket", "-bucket", "bucket-", ".bucket", "bucket.", "a..b", "192.168.5.4",
        "xn--bucket", "sthree-bucket", "amzn-s3-demo-bucket", "bucket-s3alias", "bucket--ol-s3", "bucket.mrap",
        "bucket--x-s3", "bucket--table-s3", "bücket", "bucket\n", "buc ket",
    ],
)  # fmt: skip
def test_names_that_a_bucket_may_not_have(name: str) -> None:
    assert not valid_bucket(name)
    with refused("InvalidBucketName", BucketName=name):
        parse_address("localhost", f"/{quote(name)}/key".encode(), "")


def test_a_host_may_not_name_an_impossible_bucket() -> None:
    with refused("InvalidBucketName", BucketName="a_b"):
        parse_address("a_b.s3.example.com", b"/bucket/key", "s3.example.com")


@given(key=st.text(min_size=1).filter(lambda key: len(key.encode()) <= MAX_KEY))
def test_every_key_comes_back(key: str) -> None:
    assert parse_address("localhost", f"/bucket/{quote(key)}".encode(), "") == Address("bucket", key)
    assert parse_address("bucket.s3", f"/{quote(key, safe='')}".encode(), "s3") == Address("bucket", key)


@given(host=st.text(), path=st.binary().map(lambda rest: b"/" + rest), domain=st.sampled_from(["", "s3.example.com"]))
def test_anything_is_an_address_or_refused(host: str, path: bytes, domain: str) -> None:
    try:
        address = parse_address(host, path, domain)
    except S3Error:
        return
    assert valid_bucket(address.bucket) or address == Address("", "")
