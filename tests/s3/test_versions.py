"""Versions of objects: put, listed, deleted, brought back."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.s3.wire import code_in, error, send
from tests.support import Server


def set_versioning(client: Any, bucket: str, status: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


@pytest.fixture
def kept(client: Any, bucket: str) -> str:
    """A bucket that keeps versions."""
    set_versioning(client, bucket, "Enabled")
    return bucket


def put(client: Any, bucket: str, key: str, *bodies: str) -> list[str]:
    """The ids of new versions, one for each body."""
    return [client.put_object(Bucket=bucket, Key=key, Body=body.encode()).get("VersionId") for body in bodies]


def body(client: Any, bucket: str, key: str, **asked: Any) -> str:
    content: bytes = client.get_object(Bucket=bucket, Key=key, **asked)["Body"].read()
    return content.decode()


def listed(client: Any, bucket: str, **asked: Any) -> list[tuple[str, str, bool]]:
    """Key, version id and whether it is the latest, of versions, and then of delete markers."""
    answer = client.list_object_versions(Bucket=bucket, **asked)
    both = answer.get("Versions", []) + answer.get("DeleteMarkers", [])
    return [(one["Key"], one["VersionId"], one["IsLatest"]) for one in both]


def test_versioning_is_configured(client: Any, bucket: str, s3_server: Server) -> None:
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        set_versioning(client, bucket, status)
        assert client.get_bucket_versioning(Bucket=bucket)["Status"] == status
    with error("NotImplemented", 501):
        configuration = {"Status": "Enabled", "MFADelete": "Enabled"}
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=configuration)
    for document, code in (
        (b"<VersioningConfiguration/>", "IllegalVersioningConfigurationException"),
        (b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>", "MalformedXML"),
        (b"", "MalformedXML"),
    ):
        answer = send(s3_server, f"PUT /{bucket}?versioning", document)
        assert (answer.status_code, code_in(answer)) == (400, code)


def test_every_version_stays(client: Any, kept: str) -> None:
    ids = put(client, kept, "a", "one", "two", "three")
    assert len(set(ids)) == 3
    assert body(client, kept, "a") == "three"
    assert client.head_object(Bucket=kept, Key="a")["VersionId"] == ids[2]
    for version, content in zip(ids, ("one", "two", "three"), strict=True):
        assert body(client, kept, "a", VersionId=version) == content
    assert listed(client, kept) == [("a", ids[2], True), ("a", ids[1], False), ("a", ids[0], False)]


def test_a_delete_marker_hides_the_object(client: Any, kept: str, s3_server: Server) -> None:
    ids = put(client, kept, "a", "one", "two")
    marker = client.delete_object(Bucket=kept, Key="a")
    assert marker["DeleteMarker"] is True
    answer = send(s3_server, f"GET /{kept}/a")
    assert (answer.status_code, code_in(answer)) == (404, "NoSuchKey")
    assert answer.headers["x-amz-delete-marker"] == "true"
    assert answer.headers["x-amz-version-id"] == marker["VersionId"]
    for method in ("GET", "HEAD"):
        answer = send(s3_server, f"{method} /{kept}/a?versionId={marker['VersionId']}")
        assert (answer.status_code, answer.headers["x-amz-delete-marker"]) == (405, "true")
        assert "last-modified" in answer.headers
    assert body(client, kept, "a", VersionId=ids[0]) == "one"
    assert listed(client, kept) == [("a", ids[1], False), ("a", ids[0], False), ("a", marker["VersionId"], True)]
    assert client.list_objects_v2(Bucket=kept)["KeyCount"] == 0


def test_without_its_delete_marker_the_object_is_back(client: Any, kept: str) -> None:
    put(client, kept, "a", "one", "two")
    markers = [client.delete_object(Bucket=kept, Key="a")["VersionId"] for _ in range(2)]
    client.delete_object(Bucket=kept, Key="a", VersionId=markers[0])
    with error("NoSuchKey", 404):
        client.get_object(Bucket=kept, Key="a")
    gone = client.delete_object(Bucket=kept, Key="a", VersionId=markers[1])
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, markers[1])
    assert body(client, kept, "a") == "two"
    assert [one["Key"] for one in client.list_objects_v2(Bucket=kept)["Contents"]] == ["a"]


def test_a_version_is_deleted(client: Any, kept: str) -> None:
    ids = put(client, kept, "a", "one", "two", "three")
    client.delete_object(Bucket=kept, Key="a", VersionId=ids[1])
    with error("NoSuchVersion", 404):
        client.get_object(Bucket=kept, Key="a", VersionId=ids[1])
    assert body(client, kept, "a") == "three"
    client.delete_object(Bucket=kept, Key="a", VersionId=ids[2])
    assert body(client, kept, "a") == "one"
    assert listed(client, kept) == [("a", ids[0], True)]
    client.delete_object(Bucket=kept, Key="a", VersionId=ids[0])
    assert listed(client, kept) == []
    client.delete_bucket(Bucket=kept)


def test_what_was_there_before_is_the_null_version(client: Any, bucket: str) -> None:
    put(client, bucket, "a", "before")
    assert listed(client, bucket) == [("a", "null", True)]
    assert "VersionId" not in client.head_object(Bucket=bucket, Key="a")
    set_versioning(client, bucket, "Enabled")
    assert client.head_object(Bucket=bucket, Key="a")["VersionId"] == "null"
    (new,) = put(client, bucket, "a", "new")
    assert listed(client, bucket) == [("a", new, True), ("a", "null", False)]
    assert body(client, bucket, "a", VersionId="null") == "before"


def test_a_suspended_bucket_has_one_null_version(client: Any, kept: str) -> None:
    (first,) = put(client, kept, "a", "one")
    set_versioning(client, kept, "Suspended")
    assert put(client, kept, "a", "two", "three") == ["null", "null"]
    assert listed(client, kept) == [("a", "null", True), ("a", first, False)]
    marker = client.delete_object(Bucket=kept, Key="a")
    assert (marker["DeleteMarker"], marker["VersionId"]) == (True, "null")
    assert listed(client, kept) == [("a", first, False), ("a", "null", True)]
    set_versioning(client, kept, "Enabled")
    (last,) = put(client, kept, "a", "four")
    assert listed(client, kept) == [("a", last, True), ("a", first, False), ("a", "null", False)]
    assert body(client, kept, "a", VersionId=first) == "one"


def test_a_version_is_copied(client: Any, kept: str) -> None:
    ids = put(client, kept, "a", "one", "two")
    source = {"Bucket": kept, "Key": "a", "VersionId": ids[0]}
    copy = client.copy_object(Bucket=kept, Key="a", CopySource=source)
    assert copy["CopySourceVersionId"] == ids[0]
    assert copy["VersionId"] not in ids
    assert body(client, kept, "a") == "one"
    assert listed(client, kept)[0] == ("a", copy["VersionId"], True)


def fill(client: Any, bucket: str) -> list[tuple[str, str]]:
    """Versions and delete markers of some keys; all of them, as they are to be listed."""
    entries: list[tuple[str, str]] = []
    for key in ("a", "b/1", "b/2", "c"):
        ids = put(client, bucket, key, "1", "2", "3")
        if key in ("a", "b/2"):
            ids.append(client.delete_object(Bucket=bucket, Key=key)["VersionId"])
            ids += put(client, bucket, key, "4")
        entries += [(key, version) for version in reversed(ids)]
    return entries


def in_document(content: bytes) -> list[tuple[str, str]]:
    root = ElementTree.fromstring(content)
    space = root.tag.partition("}")[0] + "}"
    both = [one for one in root if one.tag in (f"{space}Version", f"{space}DeleteMarker")]
    return [(one.findtext(f"{space}Key") or "", one.findtext(f"{space}VersionId") or "") for one in both]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_versions_in_pages(client: Any, kept: str, s3_server: Server, size: int) -> None:
    entries = fill(client, kept)
    assert in_document(send(s3_server, f"GET /{kept}?versions").content) == entries
    pages = client.get_paginator("list_object_versions").paginate(Bucket=kept, PaginationConfig={"PageSize": size})
    found: list[tuple[str, str]] = []
    latest: list[tuple[str, str]] = []
    for page in pages:
        both = page.get("Versions", []) + page.get("DeleteMarkers", [])
        assert len(both) <= size
        found += [(one["Key"], one["VersionId"]) for one in both]
        latest += [(one["Key"], one["VersionId"]) for one in both if one["IsLatest"]]
    assert sorted(found) == sorted(entries)
    assert latest == [next(entry for entry in entries if entry[0] == key) for key in ("a", "b/1", "b/2", "c")]


def test_versions_behind_a_place(client: Any, kept: str) -> None:
    entries = fill(client, kept)

    def keys_and_ids(**asked: Any) -> list[tuple[str, str]]:
        return sorted((key, version) for key, version, _ in listed(client, kept, **asked))

    assert keys_and_ids(KeyMarker="a") == sorted(entries[5:])
    assert keys_and_ids(KeyMarker="a", VersionIdMarker=entries[1][1]) == sorted(entries[2:])
    assert keys_and_ids(Prefix="b/", KeyMarker="a", VersionIdMarker=entries[1][1]) == sorted(
        entry for entry in entries if entry[0].startswith("b/")
    )
    with error("InvalidArgument", 400):
        client.list_object_versions(Bucket=kept, VersionIdMarker=entries[0][1])
    with error("InvalidArgument", 400):
        client.list_object_versions(Bucket=kept, KeyMarker="a", VersionIdMarker="0" * 24)


def test_folded_versions(client: Any, kept: str) -> None:
    fill(client, kept)
    answer = client.list_object_versions(Bucket=kept, Delimiter="/")
    assert [one["Prefix"] for one in answer["CommonPrefixes"]] == ["b/"]
    assert {one["Key"] for one in answer["Versions"]} == {"a", "c"}
    page = client.list_object_versions(Bucket=kept, Delimiter="/", MaxKeys=6)
    assert (page["IsTruncated"], page["NextKeyMarker"], "NextVersionIdMarker" in page) == (True, "b/", False)
    rest = client.list_object_versions(Bucket=kept, Delimiter="/", KeyMarker="b/")
    assert ({one["Key"] for one in rest["Versions"]}, "CommonPrefixes" in rest) == ({"c"}, False)


def test_a_bucket_is_emptied_page_by_page(client: Any, kept: str) -> None:
    fill(client, kept)
    pages = client.get_paginator("list_object_versions").paginate(Bucket=kept, PaginationConfig={"PageSize": 2})
    for page in pages:
        doomed = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        client.delete_objects(Bucket=kept, Delete={"Objects": doomed})
    assert listed(client, kept) == []
    client.delete_bucket(Bucket=kept)
