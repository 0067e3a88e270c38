"""URLs of nodes in buckets."""

from __future__ import annotations

import pytest

from app.errors import ConfigError
from app.nodes.s3_address import Address


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/?region=us-east-1&path_style=no&anonymous=no", "s3://bucket/a/b"),
        ("s3://bucket?endpoint=HTTP://Host:80/", "s3://bucket?endpoint=http://host"),
        ("s3://bucket?endpoint=http%3A%2F%2Fhost%3A9000&path_style=yes", "s3://bucket?endpoint=http://host:9000"),
        ("s3://bucket/p?endpoint=https://[::1]:443", "s3://bucket/p?endpoint=https://[::1]"),
        (
            "s3://bucket/p?anonymous=yes&path_style=no&region=eu&endpoint=http://host:1",
            "s3://bucket/p?endpoint=http://host:1&region=eu&path_style=no&anonymous=yes",
        ),
    ],
)
def test_an_address_has_one_location(url: str, location: str) -> None:
    address = Address.parse(url)
    assert address.location == location
    assert Address.parse(location) == address


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("s3://bucket", "https://bucket.s3.us-east-1.amazonaws.com"),
        ("s3://bucket?region=eu-west-1&path_style=yes", "https://s3.eu-west-1.amazonaws.com"),
        ("s3://bucket?endpoint=http://host:9000", "http://host:9000"),
        ("s3://bucket?endpoint=http://host:9000&path_style=no", "http://bucket.host:9000"),
    ],
)
def test_where_requests_go(url: str, service: str) -> None:
    assert Address.parse(url).service == service


def test_a_place_is_engine_bucket_and_prefix() -> None:
    def place(url: str) -> tuple[str, str, str]:
        return Address.parse(url).place

    assert place("s3://bbb/p?region=eu&anonymous=yes") == place("s3://bbb/p/?path_style=yes")
    assert len({place(f"s3://{rest}") for rest in ("bbb", "bbc", "bbb/p", "bbb?endpoint=http://h")}) == 4


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("", "names no bucket"),
        ("/prefix", "names no bucket"),
        ("host:9000/bucket", "names no bucket"),
        ("bucket/a//b", "the path is to consist of"),
        ("bucket/../b", "the path is to consist of"),
        ("bucket/a%20b", "the path is to consist of"),
        ("bucket#a", "the path is to consist of"),
        ("bucket?nonsense", "garbled"),
        ("[bucket", "garbled"),
        ("bucket?regoin=eu", "the parameter regoin is not known"),
        ("bucket?region=a&region=b", "the parameter region is given twice"),
        ("bucket?anonymous=true", "anonymous is to be yes or no"),
        ("bucket?path_style=", "path_style is to be yes or no"),
        ("bucket?endpoint=host:9000", "the endpoint is to look like"),
        ("bucket?endpoint=http://", "the endpoint is to look like"),
        ("bucket?endpoint=ftp://host", "the endpoint is to look like"),
        ("bucket?endpoint=http://host/path", "the endpoint is to look like"),
        ("bucket?endpoint=http://host:99999", "the endpoint is to look like"),
    ],
)
def test_what_is_no_address_is_refused(rest: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Address.parse(f"s3://{rest}")


@pytest.mark.parametrize(
    "rest",
    [
        "key:hush@bucket/prefix",
        "key:hush/hush@bucket",
        "key:hush%40bucket",
        "bucket?endpoint=http://key:hush@host",
        "bucket?secret_access_key=hush",
    ],
)
def test_keys_in_a_url_are_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(f"s3://{rest}")
    assert "hush" not in caught.value.message
    assert caught.value.__cause__ is None
