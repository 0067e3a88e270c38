"""Canned ACLs: how they are written and read, what they give to whom, and what overrides them."""

from __future__ import annotations

from typing import Any

import pytest

from app.s3.acls import ALL_USERS, AUTHENTICATED_USERS, OBJECT_ACLS, Grant, Subject, of_bucket
from app.s3.authorize import ACLS
from app.s3.xml import document, parse
from tests.s3.conftest import client_of
from tests.s3.tools import refused
from tests.s3.wire import code_in, error, send
from tests.support import Server

OBJECT = Subject("alice", "bob", OBJECT_ACLS)
ENFORCED = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def grants(answer: Any) -> list[tuple[str, str]]:
    return [(one["Grantee"].get("ID") or one["Grantee"]["URI"], one["Permission"]) for one in answer["Grants"]]


def block(**on: bool) -> dict[str, bool]:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return {name: on.get(name, False) for name in names}


@pytest.mark.parametrize("acl", OBJECT_ACLS)
def test_a_canned_acl_is_read_as_it_was_written(acl: str) -> None:
    written = document("AccessControlPolicy", OBJECT.document(acl))
    assert OBJECT.read(parse(written, "AccessControlPolicy", 10_000)) == acl


def test_grants_in_headers() -> None:
    everybody = f'uri="{ALL_USERS}"'
    assert OBJECT.asked({"x-amz-grant-full-control": 'id="alice"', "x-amz-grant-read": everybody}) == "public-read"
    assert OBJECT.asked({"x-amz-grant-full-control": "id=alice"}) == "private"
    assert OBJECT.asked({"x-amz-grant-full-control": 'id="alice", id="bob"'}) == "bucket-owner-full-control"
    assert OBJECT.asked({}) is None
    with refused("NotImplemented"):
        OBJECT.asked({"x-amz-grant-read": 'id="carol"'})
    with refused("NotImplemented"):
        OBJECT.asked({"x-amz-grant-read": 'emailAddress="carol@example.com"'})
    with refused("InvalidArgument", ArgumentName="x-amz-grant-read"):
        OBJECT.asked({"x-amz-grant-read": "carol"})
    with refused("InvalidRequest"):
        OBJECT.asked({"x-amz-acl": "private", "x-amz-grant-read": everybody})


def test_names_of_canned_acls() -> None:
    assert OBJECT.asked({"x-amz-acl": "bucket-owner-read"}) == "bucket-owner-read"
    with refused("InvalidArgument"):
        of_bucket("alice").asked({"x-amz-acl": "bucket-owner-read"})
    with refused("NotImplemented"):
        of_bucket("alice").asked({"x-amz-acl": "log-delivery-write"})


def test_what_an_owner_of_all_gives_to_himself_is_nothing_more() -> None:
    assert Subject("alice", "alice", OBJECT_ACLS).grants("bucket-owner-read") == [Grant("alice", "FULL_CONTROL")]


@pytest.mark.parametrize(
    ("grants_element", "code"),
    [
        ("", "NotImplemented"),
        ("<Grant><Grantee type='CanonicalUser'><ID>carol</ID></Grantee><Permission>READ</Permission></Grant>",
         "NotImplemented"),
        ("<Grant><Grantee type='AmazonCustomerByEmail'/><Permission>READ</Permission></Grant>", "NotImplemented"),
        ("<Grant><Grantee><ID>alice</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>", "MalformedACLError"),
        ("<Grant><Grantee type='CanonicalUser'><ID>alice</ID></Grantee><Permission>ALL</Permission></Grant>",
         "MalformedXML"),
    ],
)  # fmt: skip
def test_documents_that_are_no_canned_acl(grants_element: str, code: str) -> None:
    text = f"<AccessControlPolicy><AccessControlList>{grants_element}</AccessControlList></AccessControlPolicy>"
    with refused(code):
        OBJECT.read(parse(text.encode(), "AccessControlPolicy", 10_000))


def test_the_owner_can_not_be_changed() -> None:
    text = "<AccessControlPolicy><Owner><ID>bob</ID></Owner><AccessControlList/></AccessControlPolicy>"
    with refused("AccessDenied"):
        OBJECT.read(parse(text.encode(), "AccessControlPolicy", 10_000))


# By a client


@pytest.mark.parametrize("acl", ACLS)
def test_the_acl_of_a_bucket(client: Any, bucket: str, acl: str) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL=acl)
    told = client.get_bucket_acl(Bucket=bucket)
    assert told["Owner"]["ID"] == "local"
    assert grants(told) == [(grant.grantee, grant.permission) for grant in of_bucket("local").grants(acl)]
    client.put_bucket_acl(Bucket=bucket, ACL="private")
    policy = {"Owner": told["Owner"], "Grants": told["Grants"]}
    client.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    assert grants(client.get_bucket_acl(Bucket=bucket)) == grants(told)


def test_the_acl_of_an_object(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")
    assert grants(client.get_object_acl(Bucket=bucket, Key="a"))[1:] == [(ALL_USERS, "READ")]
    client.put_object_acl(Bucket=bucket, Key="a", ACL="authenticated-read")
    assert grants(client.get_object_acl(Bucket=bucket, Key="a"))[1:] == [(AUTHENTICATED_USERS, "READ")]
    client.put_object_acl(Bucket=bucket, Key="a", GrantFullControl="id=local")
    assert grants(client.get_object_acl(Bucket=bucket, Key="a")) == [("local", "FULL_CONTROL")]
    with error("NoSuchKey", 404):
        client.put_object_acl(Bucket=bucket, Key="none", ACL="private")


def test_the_acl_of_a_version(client: Any, bucket: str, anonymous: Any) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [client.put_object(Bucket=bucket, Key="a", Body=b"")["VersionId"] for _ in range(2)]
    client.put_object_acl(Bucket=bucket, Key="a", VersionId=ids[0], ACL="public-read")
    assert anonymous.get_object(Bucket=bucket, Key="a", VersionId=ids[0])["VersionId"] == ids[0]
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")


def test_requests_without_one_acl(client: Any, bucket: str, s3_server: Server) -> None:
    body = document("AccessControlPolicy", of_bucket("local").document("private"))
    for content, headers, code in (
        (b"", {}, "MissingSecurityHeader"),
        (body, {"x-amz-acl": "private"}, "UnexpectedContent"),
        (b"", {"x-amz-acl": "private", "x-amz-grant-read": "id=local"}, "InvalidRequest"),
        (b"", {"x-amz-acl": "nonsense"}, "InvalidArgument"),
        (b"<a/>", {}, "MalformedXML"),
    ):
        answer = send(s3_server, f"PUT /{bucket}?acl", content, headers)
        assert (answer.status_code, code_in(answer)) == (400, code)
    assert client.get_bucket_acl(Bucket=bucket)["Grants"][1:] == []


# What they give


def test_private_is_for_the_owner_only(
    client: Any, bucket: str, anonymous: Any, stranger: Any, s3_server: Server
) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    for other in (anonymous, client_of(s3_server, stranger)):
        for key in ("a", "none"):
            with error("AccessDenied", 403):
                other.get_object(Bucket=bucket, Key=key)
        with error("AccessDenied", 403):
            other.list_objects_v2(Bucket=bucket)
        with error("AccessDenied", 403):
            other.put_object(Bucket=bucket, Key="b", Body=b"")


def test_public_read_of_an_object(client: Any, bucket: str, anonymous: Any) -> None:
    for key in ("a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    client.put_object_acl(Bucket=bucket, Key="a", ACL="public-read")
    assert anonymous.get_object(Bucket=bucket, Key="a")["ContentLength"] == 0
    for call in (anonymous.get_object, anonymous.get_object_acl, anonymous.delete_object):
        with error("AccessDenied", 403):
            call(Bucket=bucket, Key="a" if call != anonymous.get_object else "b")


def test_public_read_of_a_bucket_is_its_list(client: Any, bucket: str, anonymous: Any) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert anonymous.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    anonymous.head_bucket(Bucket=bucket)
    with error("NoSuchKey", 404):
        anonymous.get_object(Bucket=bucket, Key="none")
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        anonymous.put_object(Bucket=bucket, Key="b", Body=b"")


def test_public_read_and_write(client: Any, bucket: str, anonymous: Any) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    anonymous.put_object(Bucket=bucket, Key="a", Body=b"abc")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"abc"
    assert client.get_object_acl(Bucket=bucket, Key="a")["Owner"]["ID"] == "local"
    anonymous.delete_object(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        anonymous.put_bucket_acl(Bucket=bucket, ACL="private")


def test_authenticated_read(
    client: Any, bucket: str, anonymous: Any, stranger: tuple[str, str], s3_server: Server
) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="authenticated-read")
    assert client_of(s3_server, stranger).get_object(Bucket=bucket, Key="a")["ContentLength"] == 0
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")


@pytest.mark.parametrize("acl", ["bucket-owner-read", "bucket-owner-full-control"])
def test_what_is_given_to_the_owner_of_the_bucket_is_for_nobody_else(
    client: Any, bucket: str, anonymous: Any, acl: str
) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL=acl)
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")


def test_a_bucket_that_is_made_again_has_the_acl_of_a_new_one(client: Any, bucket: str, anonymous: Any) -> None:
    client.create_bucket(Bucket=bucket, ACL="public-read")
    anonymous.list_objects_v2(Bucket=bucket)
    client.create_bucket(Bucket=bucket)
    with error("AccessDenied", 403):
        anonymous.list_objects_v2(Bucket=bucket)


# What overrides them


def test_who_owns_objects(client: Any, bucket: str) -> None:
    for ownership in ("BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced"):
        rules = {"Rules": [{"ObjectOwnership": ownership}]}
        client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=rules)
        assert client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == rules
    client.delete_bucket_ownership_controls(Bucket=bucket)
    with error("OwnershipControlsNotFoundError", 404):
        client.get_bucket_ownership_controls(Bucket=bucket)
    client.create_bucket(Bucket=f"{bucket}-2", ObjectOwnership="ObjectWriter")
    controls = client.get_bucket_ownership_controls(Bucket=f"{bucket}-2")["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}


def test_acls_are_off_where_the_bucket_owner_is_enforced(client: Any, bucket: str, anonymous: Any) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=ENFORCED)
    with error("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="a")
    assert grants(client.get_object_acl(Bucket=bucket, Key="a")) == [("local", "FULL_CONTROL")]
    for acl in ("private", "public-read"):
        with error("AccessControlListNotSupported", 400):
            client.put_bucket_acl(Bucket=bucket, ACL=acl)
        with error("AccessControlListNotSupported", 400):
            client.put_object_acl(Bucket=bucket, Key="a", ACL=acl)
        with error("AccessControlListNotSupported", 400):
            client.put_object(Bucket=bucket, Key="b", Body=b"", ACL=acl)
    with error("AccessControlListNotSupported", 400):
        client.create_bucket(Bucket=bucket, ACL="public-read")
    client.put_object(Bucket=bucket, Key="b", Body=b"", ACL="bucket-owner-full-control")
    client.create_bucket(Bucket=bucket)
    client.delete_bucket_ownership_controls(Bucket=bucket)
    anonymous.get_object(Bucket=bucket, Key="a")


def test_a_bucket_with_an_acl_can_not_be_without_acls(client: Any, bucket: str) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    with error("InvalidBucketAclWithObjectOwnership", 400):
        client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=ENFORCED)


def test_the_block_of_public_access_is_kept(client: Any, bucket: str) -> None:
    wanted = block(IgnorePublicAcls=True, BlockPublicPolicy=True)
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
    assert client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == wanted
    client.delete_public_access_block(Bucket=bucket)
    with error("NoSuchPublicAccessBlockConfiguration", 404):
        client.get_public_access_block(Bucket=bucket)


@pytest.mark.parametrize("name", ["IgnorePublicAcls", "RestrictPublicBuckets"])
def test_acls_are_overlooked(client: Any, bucket: str, anonymous: Any, name: str) -> None:
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    client.put_object(Bucket=bucket, Key="a", Body=b"", ACL="public-read")
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block(**{name: True}))
    for call in (anonymous.get_object, anonymous.put_object):
        with error("AccessDenied", 403):
            call(Bucket=bucket, Key="a")
    with error("AccessDenied", 403):
        anonymous.list_objects_v2(Bucket=bucket)
    client.get_object(Bucket=bucket, Key="a")
    client.delete_public_access_block(Bucket=bucket)
    anonymous.get_object(Bucket=bucket, Key="a")


def test_public_acls_are_refused(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    configuration = block(BlockPublicAcls=True)
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=configuration)
    for acl in ACLS[1:]:
        with error("AccessDenied", 403):
            client.put_bucket_acl(Bucket=bucket, ACL=acl)
        with error("AccessDenied", 403):
            client.put_object_acl(Bucket=bucket, Key="a", ACL=acl)
        with error("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="b", Body=b"", ACL=acl)
        with error("AccessDenied", 403):
            client.create_bucket(Bucket=bucket, ACL=acl)
    client.put_object_acl(Bucket=bucket, Key="a", ACL="private")
    client.put_bucket_acl(Bucket=bucket, ACL="private")
