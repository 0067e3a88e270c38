"""Bucket policies on a server: how they are put, and what they give to whom and take from whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.s3.operations import OPERATIONS
from app.s3.policy_document import MAX_POLICY
from tests.e2e.helpers import KeyFor
from tests.s3.conftest import client_of
from tests.s3.signing import code_of
from tests.s3.test_access import KEY, SUPPORTED, call_of
from tests.s3.test_acls import block
from tests.s3.test_post import post, signed
from tests.s3.wire import code_in, error, send
from tests.support import Server

Keys = tuple[str, str]
Let = Callable[..., None]

PUBLIC = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}


def arn(bucket: str, path: str = "") -> str:
    return f"arn:aws:s3:::{bucket}{path}"


def written(bucket: str, *statements: dict[str, Any]) -> str:
    """A policy; a statement without resources is about the bucket and all that is in it."""
    both = {"Resource": [arn(bucket), arn(bucket, "/*")]}
    return json.dumps({"Version": "2012-10-17", "Statement": [both | one for one in statements]})


@pytest.fixture
def let(client: Any, bucket: str) -> Let:
    """Gives the bucket a policy: `let("stranger", "s3:GetObject", ...)`, or whole statements."""

    def put(who: str | dict[str, Any], *actions: str, **more: Any) -> None:
        if isinstance(who, dict):
            statements = [who]
        else:
            principal = "*" if who == "*" else {"AWS": who}
            statements = [{"Effect": "Allow", "Principal": principal, "Action": list(actions)} | more]
        client.put_bucket_policy(Bucket=bucket, Policy=written(bucket, *statements))

    return put


@pytest.fixture
def guest(s3_server: Server, stranger: Keys) -> Any:
    """A client of the other account."""
    return client_of(s3_server, stranger)


# Put, given back, and taken away


def test_a_policy_is_given_back_as_it_was_put(client: Any, bucket: str) -> None:
    text = json.dumps(json.loads(written(bucket, PUBLIC | {"Sid": "é"})), indent=4, ensure_ascii=False)
    put = client.put_bucket_policy(Bucket=bucket, Policy=text)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
    got = client.get_bucket_policy(Bucket=bucket)
    assert got["Policy"] == text
    assert got["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/json"
    gone = client.delete_bucket_policy(Bucket=bucket)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (client.get_bucket_policy, client.get_bucket_policy_status):
        with error("NoSuchBucketPolicy", 404):
            call(Bucket=bucket)


def test_what_is_no_policy_changes_nothing(client: Any, bucket: str, s3_server: Server) -> None:
    text = written(bucket, PUBLIC)
    client.put_bucket_policy(Bucket=bucket, Policy=text)
    for bad in (b"", b"{}", b"\xff", text.encode("utf-16"), b" " * (64 << 10) + text.encode(), b"[" * 20_000):
        answer = send(s3_server, f"PUT /{bucket}?policy", bad)
        assert (answer.status_code, code_in(answer)) == (400, "MalformedPolicy"), answer.text
    for statement in (PUBLIC | {"Sid": "a" * MAX_POLICY}, PUBLIC | {"Resource": arn("other", "/*")}):
        with error("MalformedPolicy", 400):
            client.put_bucket_policy(Bucket=bucket, Policy=written(bucket, statement))
    assert client.get_bucket_policy(Bucket=bucket)["Policy"] == text


def test_the_bucket_of_the_native_api_has_none(client: Any) -> None:
    with error("InvalidBucketState", 409):
        client.put_bucket_policy(Bucket="uploads", Policy=written("uploads", PUBLIC))
    with error("InvalidBucketState", 409):
        client.delete_bucket_policy(Bucket="uploads")
    with error("NoSuchBucketPolicy", 404):
        client.get_bucket_policy(Bucket="uploads")


def test_its_own_account_alone_handles_it(let: Let, bucket: str, guest: Any, anonymous: Any) -> None:
    let("*", "s3:*")
    guest.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []})
    for other in (guest, anonymous):
        assert other.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}
        with error("MethodNotAllowed", 405):
            other.get_bucket_policy(Bucket=bucket)
        with error("MethodNotAllowed", 405):
            other.put_bucket_policy(Bucket=bucket, Policy=written(bucket, PUBLIC))
        with error("MethodNotAllowed", 405):
            other.delete_bucket_policy(Bucket=bucket)


def test_root_is_not_locked_out(let: Let, client: Any, bucket: str) -> None:
    let({"Effect": "Deny", "Principal": "*", "Action": "*"})
    with error("AccessDenied", 403):
        client.list_objects_v2(Bucket=bucket)
    with error("403", 403):
        client.head_bucket(Bucket=bucket)
    with error("AccessDenied", 403):
        client.create_bucket(Bucket=bucket, ACL="public-read")
    with error("AccessDenied", 403):
        client.get_bucket_policy_status(Bucket=bucket)
    client.put_bucket_policy(Bucket=bucket, Policy=client.get_bucket_policy(Bucket=bucket)["Policy"])
    client.delete_bucket_policy(Bucket=bucket)
    client.list_objects_v2(Bucket=bucket)


# Each operation asks for its actions


@dataclass(frozen=True)
class House:
    """A bucket of an owner's, and keys: of its account, of another one, and of the other one to read only."""

    server: Server
    bucket: str
    owner: Keys
    other: Keys
    reader: Keys

    def put(self, *statements: dict[str, Any]) -> None:
        client_of(self.server).put_bucket_policy(Bucket=self.bucket, Policy=written(self.bucket, *statements))

    def tried(self, operation: str, keys: Keys | None) -> bool:
        """Whether they may: what comes of it does not matter."""
        answer = call_of(self.server, operation, self.bucket).by(keys).send()
        assert answer.status_code not in (401, 500, 501), answer.text
        if answer.status_code == 403:
            assert code_of(answer) == ("AccessDenied" if answer.content else "")
        return answer.status_code != 403 and "<Code>AccessDenied</Code>" not in answer.text


@pytest.fixture(scope="module")
def house(s3_server: Server, key_for: KeyFor) -> House:
    made = House(
        s3_server,
        "policed",
        key_for("--owner", "policed"),
        key_for("--owner", "other"),
        key_for("--owner", "other", "--allow", "read,list"),
    )
    client_of(s3_server, made.owner).create_bucket(Bucket=made.bucket)
    return made


BY_POLICY = [name for name in SUPPORTED if name not in ("ListBuckets", "CreateBucket")]
MORE = {"CopyObject": ("s3:GetObject",)}
"""What it does with its source."""


@pytest.mark.parametrize("operation", BY_POLICY)
def test_an_operation_takes_its_actions_and_no_others(house: House, operation: str) -> None:
    actions = [*OPERATIONS[operation].actions, *MORE.get(operation, ())]
    other = {"Effect": "Allow", "Principal": {"AWS": "other"}}
    client_of(house.server, house.owner).put_object(Bucket=house.bucket, Key=KEY, Body=b"")
    house.put(other | {"Action": actions, "Resource": arn(house.bucket, "*")})
    try:
        assert house.tried(operation, house.other)
        reads = OPERATIONS[operation].method in ("GET", "HEAD")
        assert house.tried(operation, house.reader) is reads
        assert not house.tried(operation, None)
        for action in actions:
            house.put(other | {"NotAction": action})
            assert not house.tried(operation, house.other)
            house.put({"Effect": "Deny", "Principal": {"AWS": "policed"}, "Action": action,
                       "Resource": arn(house.bucket, "*")})  # fmt: skip
            assert not house.tried(operation, house.owner)
            house.put({"Effect": "Deny", "Principal": {"AWS": "policed"}, "NotAction": action})
            if len(actions) == 1:
                assert house.tried(operation, house.owner)
    finally:
        client_of(house.server).delete_bucket_policy(Bucket=house.bucket)


# What is given


def test_who_may_not_list_does_not_learn_what_is_not_there(
    let: Let, client: Any, bucket: str, anonymous: Any, guest: Any
) -> None:
    client.put_object(Bucket=bucket, Key="there", Body=b"abc")
    let("*", "s3:GetObject")
    for other in (anonymous, guest):
        assert other.get_object(Bucket=bucket, Key="there")["Body"].read() == b"abc"
        with error("AccessDenied", 403):
            other.get_object(Bucket=bucket, Key="none")
    pattern = {"StringLike": {"s3:prefix": "public/*"}}
    both = json.loads(written(bucket, PUBLIC, PUBLIC | {"Action": "s3:ListBucket", "Condition": pattern}))
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(both))
    with error("NoSuchKey", 404):
        anonymous.get_object(Bucket=bucket, Key="public/none")
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="private/none")


def test_lists_of_a_prefix(let: Let, client: Any, bucket: str, guest: Any) -> None:
    for key in ("home/a", "other/b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    conditions = {
        "StringLike": {"s3:prefix": ["home/*"]},
        "StringEquals": {"s3:delimiter": "/"},
        "NumericLessThanEquals": {"s3:max-keys": "10"},
    }
    let("stranger", "s3:ListBucket", Condition=conditions)
    good = {"Bucket": bucket, "Prefix": "home/", "Delimiter": "/", "MaxKeys": 10}
    assert guest.list_objects_v2(**good)["KeyCount"] == 1
    assert len(guest.list_objects(**good)["Contents"]) == 1
    for bad in ({"Prefix": "hom"}, {"Prefix": ""}, {"Delimiter": "-"}, {"MaxKeys": 11}):
        with error("AccessDenied", 403):
            guest.list_objects_v2(**good | bad)
    with error("AccessDenied", 403):
        guest.list_objects_v2(Bucket=bucket, Prefix="home/", Delimiter="/")
    with error("AccessDenied", 403):
        guest.list_object_versions(**good)


def test_each_key_that_is_deleted(let: Let, client: Any, bucket: str, guest: Any) -> None:
    for key in ("a/1", "b/1"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    let("stranger", "s3:DeleteObject", Resource=arn(bucket, "/a/*"))
    told = guest.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a/1"}, {"Key": "b/1"}]})
    assert [one["Key"] for one in told["Deleted"]] == ["a/1"]
    assert [(one["Key"], one["Code"]) for one in told["Errors"]] == [("b/1", "AccessDenied")]


def test_versions_have_actions_of_their_own(let: Let, client: Any, bucket: str, guest: Any) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = (client.put_object(Bucket=bucket, Key="a", Body=one)["VersionId"] for one in (b"1", b"2"))
    let("stranger", "s3:GetObjectVersion", Condition={"StringEquals": {"s3:VersionId": first}},
        Resource=arn(bucket, "/*"))  # fmt: skip
    assert guest.get_object(Bucket=bucket, Key="a", VersionId=first)["Body"].read() == b"1"
    for refused in ({"VersionId": second}, {}):
        with error("AccessDenied", 403):
            guest.get_object(Bucket=bucket, Key="a", **refused)
    guest.create_bucket(Bucket=f"{bucket}-guest")
    source = {"Bucket": bucket, "Key": "a"}
    guest.copy_object(Bucket=f"{bucket}-guest", Key="a", CopySource=source | {"VersionId": first})
    with error("AccessDenied", 403):
        guest.copy_object(Bucket=f"{bucket}-guest", Key="a", CopySource=source)
    let("stranger", "s3:DeleteObjectVersion")
    guest.delete_object(Bucket=bucket, Key="a", VersionId=second)
    told = guest.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a", "VersionId": first}, {"Key": "a"}]})
    assert [len(told[outcome]) for outcome in ("Deleted", "Errors")] == [1, 1]


def test_sources_of_copies(let: Let, client: Any, bucket: str, guest: Any, stranger: Keys, s3_server: Server) -> None:
    for key in ("public/a", "private/a"):
        client.put_object(Bucket=bucket, Key=key, Body=b"abc")
    put = {"Effect": "Allow", "Principal": {"AWS": "stranger"}, "Action": ["s3:PutObject", "s3:GetObject"]}
    elsewhere = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": arn(bucket, "/*"),
        "Condition": {
            "StringNotLike": {"s3:x-amz-copy-source": f"{bucket}/public/*"},
            "Null": {"s3:x-amz-copy-source": "false"},
        },
    }
    client.put_bucket_policy(Bucket=bucket, Policy=written(bucket, put, elsewhere))
    guest.put_object(Bucket=bucket, Key="b", Body=b"")
    upload = guest.create_multipart_upload(Bucket=bucket, Key="c")["UploadId"]
    for target in ("b", f"c?partNumber=1&uploadId={upload}"):
        for path, status in (("public/a", 200), ("%70ublic/a", 200), ("private/a", 403), ("%70rivate/a", 403)):
            for slash in ("", "/"):
                headers = {"x-amz-copy-source": f"{slash}{bucket}/{path}"}
                answer = send(s3_server, f"PUT /{bucket}/{target}", headers=headers, keys=stranger)
                assert answer.status_code == status, answer.text


def test_parts_of_uploads(let: Let, bucket: str, guest: Any) -> None:
    let("stranger", "s3:PutObject", "s3:ListMultipartUploadParts", Resource=arn(bucket, "/up/*"))
    place = {"Bucket": bucket, "Key": "up/a"}
    upload = guest.create_multipart_upload(**place)["UploadId"]
    etag = guest.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"abc")["ETag"]
    assert len(guest.list_parts(**place, UploadId=upload)["Parts"]) == 1
    with error("AccessDenied", 403):
        guest.abort_multipart_upload(**place, UploadId=upload)
    parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    guest.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    with error("AccessDenied", 403):
        guest.create_multipart_upload(Bucket=bucket, Key="a")


# What is given of an object beside its bytes


def test_an_acl_for_others_takes_a_right_of_its_own(let: Let, client: Any, bucket: str, guest: Any) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=b"")
    calls: list[Callable[..., Any]] = [
        lambda acl: guest.put_object(Bucket=bucket, Key="a", Body=b"", ACL=acl),
        lambda acl: guest.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/source", ACL=acl),
        lambda acl: guest.create_multipart_upload(Bucket=bucket, Key="a", ACL=acl),
    ]
    let("stranger", "s3:PutObject", "s3:GetObject")
    for call in calls:
        call("bucket-owner-full-control")
        with error("AccessDenied", 403):
            call("public-read")
    let("stranger", "s3:PutObject", "s3:GetObject", "s3:PutObjectAcl")
    for call in calls:
        call("public-read")


def test_conditions_on_acls(let: Let, client: Any, bucket: str) -> None:
    let({"Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject", "s3:PutObjectAcl"],
         "Resource": arn(bucket, "/*"), "Condition": {"StringLike": {"s3:x-amz-acl": "public*"}}})  # fmt: skip
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="private")
    with error("AccessDenied", 403):
        client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")
    with error("AccessDenied", 403):
        client.put_object_acl(Bucket=bucket, Key="a", ACL="public-read-write")


def tag_set(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}


def test_tags_take_a_right_of_their_own(let: Let, client: Any, bucket: str, guest: Any) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=b"", Tagging="kind=x")
    let("stranger", "s3:PutObject", "s3:GetObject", "s3:GetObjectTagging")
    calls: list[Callable[[], Any]] = [
        lambda: guest.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="kind=x"),
        lambda: guest.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/source"),
        lambda: guest.create_multipart_upload(Bucket=bucket, Key="a", Tagging="kind=x"),
        lambda: guest.put_object_tagging(Bucket=bucket, Key="source", Tagging=tag_set(kind="x")),
    ]
    for call in calls:
        with error("AccessDenied", 403):
            call()
    let("stranger", "s3:PutObject", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObjectTagging")
    for call in calls:
        call()


def test_the_tags_of_a_version(let: Let, client: Any, bucket: str, guest: Any) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="kind=x")["VersionId"]
    copy = {"Bucket": bucket, "Key": "b", "CopySource": {"Bucket": bucket, "Key": "a", "VersionId": first}}
    let("stranger", "s3:PutObject", "s3:PutObjectTagging", "s3:GetObjectVersion", "s3:GetObjectTagging")
    with error("AccessDenied", 403):
        guest.copy_object(**copy)
    let("stranger", "s3:PutObject", "s3:PutObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging")
    guest.copy_object(**copy)


def test_conditions_on_tags_to_be(let: Let, client: Any, bucket: str, guest: Any) -> None:
    client.put_object(Bucket=bucket, Key="closed", Body=b"", Tagging="kind=closed")
    conditions = {
        "StringEquals": {"s3:RequestObjectTag/kind": "open"},
        "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["kind", "other"]},
    }
    tagged = {"Effect": "Allow", "Principal": {"AWS": "stranger"}, "Action": "s3:PutObject*", "Condition": conditions}
    reads = {"Effect": "Allow", "Principal": {"AWS": "stranger"}, "Action": "s3:Get*"}
    client.put_bucket_policy(Bucket=bucket, Policy=written(bucket, tagged | {"Resource": arn(bucket, "/*")}, reads))
    guest.put_object(Bucket=bucket, Key="a", Body=b"", Tagging="kind=open")
    guest.put_object_tagging(Bucket=bucket, Key="a", Tagging=tag_set(kind="open", other="x"))
    for tagging in ("", "kind=closed", "kind=open&more=x"):
        with error("AccessDenied", 403):
            guest.put_object(Bucket=bucket, Key="a", Body=b"", Tagging=tagging)
    for tags in ({}, {"kind": "closed"}, {"kind": "open", "more": "x"}):
        with error("AccessDenied", 403):
            guest.put_object_tagging(Bucket=bucket, Key="a", Tagging=tag_set(**tags))
    copy = {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/closed", "Tagging": "kind=open"}
    guest.copy_object(**copy, TaggingDirective="REPLACE")
    with error("AccessDenied", 403):
        guest.copy_object(**copy)


def test_conditions_on_tags_that_are_there(let: Let, client: Any, bucket: str, guest: Any) -> None:
    for key, kind in (("open", "open"), ("closed", "closed")):
        client.put_object(Bucket=bucket, Key=key, Body=b"", Tagging=f"kind={kind}")
    client.put_object(Bucket=bucket, Key="plain", Body=b"")
    let("stranger", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObject",
        Condition={"StringEquals": {"s3:ExistingObjectTag/kind": "open"}}, Resource=arn(bucket, "/*"))  # fmt: skip
    guest.get_object(Bucket=bucket, Key="open")
    guest.get_object_tagging(Bucket=bucket, Key="open")
    for key in ("closed", "plain", "none"):
        for call in (guest.get_object, guest.get_object_tagging, guest.delete_object):
            with error("AccessDenied", 403):
                call(Bucket=bucket, Key=key)
    # The tags from before the change decide.
    with error("AccessDenied", 403):
        guest.put_object_tagging(Bucket=bucket, Key="closed", Tagging=tag_set(kind="open"))
    guest.put_object_tagging(Bucket=bucket, Key="open", Tagging=tag_set(kind="closed"))
    with error("AccessDenied", 403):
        guest.get_object(Bucket=bucket, Key="open")


# How a request comes


def test_addresses_transport_and_agents(let: Let, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": arn(bucket, "/*")}
    for condition, denied in (
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, True),
        ({"StringLike": {"aws:UserAgent": "Boto3/*"}}, True),
        ({"StringLike": {"aws:Referer": "*"}}, False),
        ({"StringEquals": {"s3:authType": "REST-HEADER"}}, True),
        ({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "local"}}, True),
    ):
        let(deny | {"Condition": condition})
        if denied:
            with error("AccessDenied", 403):
                client.get_object(Bucket=bucket, Key="a")
        else:
            client.get_object(Bucket=bucket, Key="a")


def test_presigned_requests(let: Let, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"abc")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"}, ExpiresIn=600)
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": arn(bucket, "/*")}
    with httpx.Client(trust_env=False) as http:
        for condition, status in (
            ({"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}, 403),
            ({"StringEquals": {"s3:authType": "REST-HEADER"}}, 200),
            ({"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}, 403),
            ({"NumericGreaterThan": {"s3:signatureAge": 550_000}}, 200),
            ({"NumericLessThan": {"s3:signatureAge": 550_000}}, 403),
        ):
            let(deny | {"Condition": condition})
            assert http.get(url).status_code == status


def test_forms(let: Let, client: Any, bucket: str, s3_server: Server, guest: Any) -> None:
    let("*", "s3:PutObject", Resource=arn(bucket, "/in/*"))
    assert post(s3_server, bucket, {"key": "in/a"}).status_code == 204
    assert post(s3_server, bucket, {"key": "out/a"}).status_code == 403
    assert post(s3_server, bucket, signed(guest, bucket, "in/b")).status_code == 204
    assert post(s3_server, bucket, {"key": "in/a", "acl": "public-read"}).status_code == 403
    tagging = "<Tagging><TagSet><Tag><Key>kind</Key><Value>open</Value></Tag></TagSet></Tagging>"
    assert post(s3_server, bucket, {"key": "in/a", "tagging": tagging}).status_code == 403
    let("*", "s3:PutObject", "s3:PutObjectTagging", Resource=arn(bucket, "/*"),
        Condition={"StringEquals": {"s3:RequestObjectTag/kind": "open"}})  # fmt: skip
    assert post(s3_server, bucket, {"key": "in/c", "tagging": tagging}).status_code == 204
    assert post(s3_server, bucket, {"key": "in/c", "tagging": tagging.replace("open", "closed")}).status_code == 403
    assert post(s3_server, bucket, {"key": "in/c"}).status_code == 403
    for condition in (
        {"StringEquals": {"s3:authType": "POST"}},
        {"StringEquals": {"s3:x-amz-acl": "public-read"}},
        {"StringEquals": {"s3:x-amz-storage-class": "GLACIER"}},
    ):
        let({"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": arn(bucket, "/*"),
             "Condition": condition})  # fmt: skip
        fields = signed(client, bucket, "d", {"acl": "public-read", "x-amz-storage-class": "GLACIER"})
        assert post(s3_server, bucket, fields).status_code == 403


def test_a_field_of_a_form_is_no_header_of_the_request(let: Let, bucket: str, s3_server: Server) -> None:
    let("*", "s3:PutObject", Resource=arn(bucket, "/*"), Condition={"StringEquals": {"aws:Referer": "https://a/"}})
    assert post(s3_server, bucket, {"key": "a", "referer": "https://a/"}).status_code == 403


def test_a_home_for_each_account(let: Let, bucket: str, guest: Any, stranger: Keys) -> None:
    resources = [arn(bucket, "/${aws:PrincipalAccount}/*"), arn(bucket, "/keys/${aws:username}/*")]
    let("*", "s3:PutObject", "s3:GetObject", Resource=resources)
    for key in ("stranger/a", f"keys/{stranger[0]}/a"):
        guest.put_object(Bucket=bucket, Key=key, Body=b"")
    for key in ("local/a", "keys/a", "a"):
        with error("AccessDenied", 403):
            guest.put_object(Bucket=bucket, Key=key, Body=b"")


def test_one_key_of_an_account(let: Let, client: Any, bucket: str, stranger: Keys, key_for: KeyFor,
                               s3_server: Server) -> None:  # fmt: skip
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    let(f"arn:aws:iam::stranger:user/{stranger[0]}", "s3:GetObject")
    client_of(s3_server, stranger).get_object(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        client_of(s3_server, key_for("--owner", "stranger")).get_object(Bucket=bucket, Key="a")


def test_a_key_that_is_limited_stays_so(let: Let, client: Any, bucket: str, key_for: KeyFor,
                                        s3_server: Server) -> None:  # fmt: skip
    limited = client_of(s3_server, key_for("--owner", "stranger", "--bucket", bucket, "--prefix", "a/"))
    let("stranger", "s3:PutObject", "s3:ListBucket")
    limited.put_object(Bucket=bucket, Key="a/k", Body=b"")
    limited.list_objects_v2(Bucket=bucket, Prefix="a/")
    with error("AccessDenied", 403):
        limited.put_object(Bucket=bucket, Key="b/k", Body=b"")
    with error("AccessDenied", 403):
        limited.list_objects_v2(Bucket=bucket)


# Public access


def test_public_policies_are_refused(let: Let, client: Any, bucket: str) -> None:
    configuration = block(BlockPublicPolicy=True)
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=configuration)
    with error("AccessDenied", 403):
        let("*", "s3:GetObject")
    with error("NoSuchBucketPolicy", 404):
        client.get_bucket_policy(Bucket=bucket)
    let("stranger", "s3:GetObject")
    assert client.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": False}
    let("*", "s3:GetObject", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}})


def test_public_policies_are_restricted_to_the_account(
    let: Let, client: Any, bucket: str, guest: Any, anonymous: Any
) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    configuration = block(RestrictPublicBuckets=True)
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=configuration)
    let("stranger", "s3:GetObject")
    guest.get_object(Bucket=bucket, Key="a")
    both = written(bucket, PUBLIC, PUBLIC | {"Principal": {"AWS": "stranger"}})
    client.put_bucket_policy(Bucket=bucket, Policy=both)
    for other in (guest, anonymous):
        with error("AccessDenied", 403):
            other.get_object(Bucket=bucket, Key="a")
    client.get_object(Bucket=bucket, Key="a")
    client.delete_public_access_block(Bucket=bucket)
    for other in (guest, anonymous):
        other.get_object(Bucket=bucket, Key="a")


def test_what_acls_give_a_policy_takes(let: Let, client: Any, bucket: str, anonymous: Any) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")
    anonymous.get_object(Bucket=bucket, Key="a")
    let({"Effect": "Deny", "NotPrincipal": {"AWS": "local"}, "Action": "s3:GetObject"})
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")
    client.get_object(Bucket=bucket, Key="a")
