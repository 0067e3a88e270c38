"""Buckets: made, found, listed, deleted; and what they are asked for that they never have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import StartServer
from tests.s3.conftest import ROOT, client_of
from tests.s3.wire import code_in, error, send
from tests.support import Server

NATIVE = "uploads"


def names(client: Any, **asked: Any) -> list[str]:
    return [one["Name"] for one in client.list_buckets(**asked)["Buckets"]]


def test_a_bucket_is_made_and_found(client: Any, bucket: str) -> None:
    assert client.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    (listed,) = [one for one in client.list_buckets()["Buckets"] if one["Name"] == bucket]
    assert listed["BucketRegion"] == "us-east-1"
    assert client.list_buckets()["Owner"]["ID"] == "local"


def test_the_answer_to_a_new_bucket_says_where_it_is(client: Any) -> None:
    assert client.create_bucket(Bucket="the-new-one")["Location"] == "/the-new-one"


def test_a_bucket_of_ones_own_may_be_made_again(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"a")
    client.create_bucket(Bucket=bucket)
    assert client.head_object(Bucket=bucket, Key="a")["ContentLength"] == 1


def test_a_bucket_of_somebody_else(s3_server: Server, bucket: str, stranger: tuple[str, str]) -> None:
    other = client_of(s3_server, stranger)
    with error("BucketAlreadyExists", 409):
        other.create_bucket(Bucket=bucket)
    with error("403", 403):
        other.head_bucket(Bucket=bucket)
    with error("AccessDenied", 403):
        other.delete_bucket(Bucket=bucket)
    assert bucket not in names(other)


def test_another_region(start_server: StartServer) -> None:
    keys = {"root_access_key": ROOT[0], "root_secret_key": ROOT[1]}
    client = client_of(start_server(**keys, s3_port=0, region="eu-north-1"), region="eu-north-1")
    client.create_bucket(Bucket="abc", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    assert client.get_bucket_location(Bucket="abc")["LocationConstraint"] == "eu-north-1"
    with error("BucketAlreadyOwnedByYou", 409):
        client.create_bucket(Bucket="abc", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})


def test_a_place_that_this_is_not(client: Any) -> None:
    with error("IllegalLocationConstraintException", 400):
        client.create_bucket(Bucket="abroad", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert "abroad" not in names(client)


@pytest.mark.parametrize("name", ["Abc", "a_b", "ab", "192.168.1.1", "x" * 64])
def test_names_that_no_bucket_has(s3_server: Server, name: str) -> None:
    answer = send(s3_server, f"PUT /{name}")
    assert (answer.status_code, code_in(answer)) == (400, "InvalidBucketName")


def test_what_a_bucket_can_not_have(client: Any, s3_server: Server) -> None:
    answer = send(s3_server, "PUT /locked", headers={"x-amz-bucket-object-lock-enabled": "perhaps"})
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")
    with error("InvalidArgument", 400):
        client.create_bucket(Bucket="locked", ObjectOwnership="Nobody")
    with error("InvalidArgument", 400):
        client.create_bucket(Bucket="locked", ACL="nonsense")
    with error("InvalidBucketAclWithObjectOwnership", 400):
        client.create_bucket(Bucket="locked", ACL="public-read", ObjectOwnership="BucketOwnerEnforced")
    assert "locked" not in names(client)


def test_a_bucket_is_made_with_tags(client: Any) -> None:
    tags = [{"Key": "a.b", "Value": "c@d e"}]
    client.create_bucket(Bucket="tagged-at-once", CreateBucketConfiguration={"Tags": tags})
    assert client.get_bucket_tagging(Bucket="tagged-at-once")["TagSet"] == tags


def test_a_bucket_is_deleted_when_it_is_empty(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    with error("BucketNotEmpty", 409):
        client.delete_bucket(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="a")
    assert client.delete_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("404", 404):
        client.head_bucket(Bucket=bucket)
    with error("NoSuchBucket", 404):
        client.delete_bucket(Bucket=bucket)
    with error("NoSuchBucket", 404):
        client.list_objects_v2(Bucket=bucket)


def test_buckets_in_pages(client: Any, s3_server: Server) -> None:
    made = [f"paged-{number}" for number in range(5)]
    for name in reversed(made):
        client.create_bucket(Bucket=name)
    pages = client.get_paginator("list_buckets").paginate(Prefix="paged-", PaginationConfig={"PageSize": 2})
    listed = [[one["Name"] for one in page["Buckets"]] for page in pages]
    assert listed == [made[:2], made[2:4], made[4:]]
    assert names(client, Prefix="paged-", BucketRegion="us-east-1") == made
    assert names(client, Prefix="paged-", BucketRegion="eu-west-1") == []
    with error("InvalidArgument", 400):
        client.list_buckets(ContinuationToken="no token", MaxBuckets=2)
    assert code_in(send(s3_server, "GET /?max-buckets=0")) == "InvalidArgument"


def test_the_bucket_of_the_native_api(client: Any, s3_server: Server) -> None:
    assert NATIVE in names(client)
    client.head_bucket(Bucket=NATIVE)
    client.create_bucket(Bucket=NATIVE)
    with error("InvalidBucketState", 409):
        client.create_bucket(Bucket=NATIVE, ACL="public-read")
    with error("BucketNotEmpty", 409):
        client.delete_bucket(Bucket=NATIVE)
    with error("InvalidBucketState", 409):
        client.put_bucket_versioning(Bucket=NATIVE, VersioningConfiguration={"Status": "Enabled"})
    with error("InvalidBucketState", 409):
        client.put_bucket_tagging(Bucket=NATIVE, Tagging={"TagSet": []})
    assert "Status" not in client.get_bucket_versioning(Bucket=NATIVE)


def test_nobody_lists_or_makes_buckets_without_keys(anonymous: Any, bucket: str) -> None:
    with error("AccessDenied", 403):
        anonymous.list_buckets()
    with error("AccessDenied", 403):
        anonymous.create_bucket(Bucket="of-nobody")
    with error("403", 403):
        anonymous.head_bucket(Bucket=bucket)


NOT_THERE = {
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_policy_status": "NoSuchBucketPolicy",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_tagging": "NoSuchTagSet",
    "get_bucket_ownership_controls": "OwnershipControlsNotFoundError",
    "get_public_access_block": "NoSuchPublicAccessBlockConfiguration",
}


@pytest.mark.parametrize("call", NOT_THERE)
def test_what_is_not_configured(client: Any, bucket: str, call: str) -> None:
    with error(NOT_THERE[call], 404):
        getattr(client, call)(Bucket=bucket)
    with error("NoSuchBucket", 404):
        getattr(client, call)(Bucket="there-is-none")


@pytest.mark.parametrize(
    "call",
    [
        "get_bucket_accelerate_configuration",
        "get_bucket_logging",
        "get_bucket_notification_configuration",
        "delete_bucket_encryption",
        "delete_bucket_policy",
        "delete_bucket_replication",
        "delete_bucket_website",
    ],
)
def test_nothing_to_tell(client: Any, bucket: str, call: str) -> None:
    answer = getattr(client, call)(Bucket=bucket)
    assert answer.keys() == {"ResponseMetadata"}


@pytest.mark.parametrize("kind", ["analytics", "intelligent_tiering", "inventory", "metrics"])
def test_no_configurations(client: Any, bucket: str, kind: str) -> None:
    answer = getattr(client, f"list_bucket_{kind}_configurations")(Bucket=bucket)
    assert {key: value for key, value in answer.items() if key != "ResponseMetadata"} == {"IsTruncated": False}
    with error("NoSuchConfiguration", 404):
        getattr(client, f"get_bucket_{kind}_configuration")(Bucket=bucket, Id="a")


def test_who_pays(client: Any, bucket: str) -> None:
    assert client.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"


def test_what_can_not_be_configured(client: Any, bucket: str) -> None:
    with error("NotImplemented", 501):
        client.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
