"""Tags of buckets and of objects."""

from __future__ import annotations

from typing import Any

import pytest

from app.s3.tagging import tags_from_header
from tests.s3.tools import refused
from tests.s3.wire import code_in, error, send
from tests.support import Server


def tag_set(**tags: str) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def put(client: Any, bucket: str, tags: list[dict[str, str]], **more: Any) -> Any:
    return client.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": tags}, **more)


def test_tags_of_an_object(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc", Metadata={"kept": "yes"})
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []
    tags = tag_set(b="1", a="", c_3="x y+z=._:/@é")
    put(client, bucket, tags)
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == tags
    got = client.get_object(Bucket=bucket, Key="a")
    assert (got["TagCount"], got["Metadata"], got["Body"].read()) == (3, {"kept": "yes"}, b"abc")
    put(client, bucket, tag_set(only="one"))
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == tag_set(only="one")
    deleted = client.delete_object_tagging(Bucket=bucket, Key="a")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []
    assert "TagCount" not in client.head_object(Bucket=bucket, Key="a")


def test_tags_of_a_version(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="of=put")["VersionId"] for _ in range(2)]
    assert put(client, bucket, tag_set(of="first"), VersionId=ids[0])["VersionId"] == ids[0]
    for version, wanted in zip(ids, ("first", "put"), strict=True):
        answer = client.get_object_tagging(Bucket=bucket, Key="a", VersionId=version)
        assert (answer["TagSet"], answer["VersionId"]) == (tag_set(of=wanted), version)
    marker = client.delete_object(Bucket=bucket, Key="a")["VersionId"]
    with error("NoSuchKey", 404):
        client.get_object_tagging(Bucket=bucket, Key="a")
    with error("MethodNotAllowed", 405):
        put(client, bucket, tag_set(of="marker"), VersionId=marker)
    with error("NoSuchVersion", 404):
        put(client, bucket, tag_set(of="none"), VersionId="0" * 24)


WRONG = [
    (tag_set(**{f"t{number}": "" for number in range(11)}), "BadRequest"),
    (tag_set(**{"k" * 129: ""}), "InvalidTag"),
    (tag_set(k="v" * 257), "InvalidTag"),
    (tag_set(**{"aws:k": ""}), "InvalidTag"),
    (tag_set(**{"k<": ""}), "InvalidTag"),
    (tag_set(k="v\N{GRINNING FACE}"), "InvalidTag"),
    (tag_set(k="1") + tag_set(k="2"), "InvalidTag"),
]


@pytest.mark.parametrize(("tags", "code"), WRONG)
def test_tags_that_there_can_not_be(client: Any, bucket: str, tags: list[dict[str, str]], code: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="k=before")
    with error(code, 400):
        put(client, bucket, tags)
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == tag_set(k="before")


def test_as_many_and_as_long_as_may_be(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    tags = tag_set(**{f"é{number:0127}": "ü" * 256 for number in range(10)})
    put(client, bucket, tags)
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == tags


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet><Other/></TagSet></Tagging>",
    ],
)
def test_documents_that_are_no_tags(s3_server: Server, client: Any, bucket: str, document: bytes) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    for target in (f"/{bucket}/a?tagging", f"/{bucket}?tagging"):
        answer = send(s3_server, f"PUT {target}", document)
        assert (answer.status_code, code_in(answer)) == (400, "MalformedXML")


def test_tags_of_a_bucket(client: Any, bucket: str) -> None:
    with error("NoSuchTagSet", 404):
        client.get_bucket_tagging(Bucket=bucket)
    tags = tag_set(**{f"a.b${number}".replace("$", "-"): "c.d" for number in range(50)})
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert client.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    with error("BadRequest", 400):
        client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [*tags, *tag_set(more="")]})
    assert client.delete_bucket_tagging(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("NoSuchTagSet", 404):
        client.get_bucket_tagging(Bucket=bucket)


def test_others_neither_see_nor_set_tags(anonymous: Any, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="k=v", ACL="public-read")
    assert "TagCount" not in anonymous.head_object(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        anonymous.get_object_tagging(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        put(anonymous, bucket, [])


def test_tags_in_a_header() -> None:
    assert tags_from_header("") == {}
    assert tags_from_header("a=1&b=&c+d=x%20y&%C3%A9=%C3%BC") == {"a": "1", "b": "", "c d": "x y", "é": "ü"}
    with refused("InvalidTag"):
        tags_from_header("a=1&a=2")
    with refused("BadRequest"):
        tags_from_header("&".join(f"k{number}=" for number in range(11)))
    with refused("InvalidArgument"):
        tags_from_header("a=%FF")
