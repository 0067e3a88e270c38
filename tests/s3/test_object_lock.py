"""Object lock over HTTP: retention, legal holds, defaults of buckets; who may do what, and what is refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.object_lock import HOLD, MODE, UNTIL, lock_from
from app.types import UNLOCKED, Lock, Retention
from tests.e2e.helpers import KeyFor
from tests.s3.conftest import client_of
from tests.s3.test_post import post, signed
from tests.s3.tools import refused
from tests.s3.wire import code_in, error, send
from tests.support import Server

PART = 5 << 20
SOON, LATE = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (1, 2))
PAST = SOON - timedelta(days=9)
GOVERNED = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": SOON}
COMPLIANT = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": SOON}
HELD = {"ObjectLockLegalHoldStatus": "ON"}


@pytest.fixture
def locked(client: Any, request: pytest.FixtureRequest) -> str:
    """A bucket with object lock, of the test's own."""
    name = "l-" + sha256(request.node.nodeid.encode()).hexdigest()[:20]
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(client: Any, bucket: str, key: str = "a", **lock: Any) -> str:
    version: str = client.put_object(Bucket=bucket, Key=key, Body=b"abc", **lock)["VersionId"]
    return version


def set_default(client: Any, bucket: str, mode: str = "COMPLIANCE", **period: int) -> None:
    rule = {"Rule": {"DefaultRetention": {"Mode": mode, **period}}} if period else {}
    configuration = {"ObjectLockEnabled": "Enabled", **rule}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration


def retain(client: Any, bucket: str, mode: str, until: datetime, key: str = "a", **more: Any) -> None:
    retention = {"Mode": mode, "RetainUntilDate": until}
    client.put_object_retention(Bucket=bucket, Key=key, Retention=retention, **more)
    asked = {name: value for name, value in more.items() if name == "VersionId"}
    assert client.get_object_retention(Bucket=bucket, Key=key, **asked)["Retention"] == retention


def hold(client: Any, bucket: str, status: str, key: str = "a", **more: Any) -> None:
    client.put_object_legal_hold(Bucket=bucket, Key=key, LegalHold={"Status": status}, **more)
    assert client.get_object_legal_hold(Bucket=bucket, Key=key, **more)["LegalHold"] == {"Status": status}


def lock_of(client: Any, bucket: str, key: str = "a", **asked: Any) -> dict[str, Any]:
    """What HeadObject and GetObject tell of it."""
    told = [call(Bucket=bucket, Key=key, **asked) for call in (client.head_object, client.get_object)]
    locks = [{name: value for name, value in one.items() if name.startswith("ObjectLock")} for one in told]
    assert locks[0] == locks[1]
    return locks[0]


# Buckets


def test_a_bucket_with_object_lock(client: Any, locked: str) -> None:
    assert client.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    set_default(client, locked)
    set_default(client, locked, "GOVERNANCE", Days=36_500)
    set_default(client, locked, "COMPLIANCE", Years=100)
    set_default(client, locked)
    client.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Enabled"})
    with error("InvalidBucketState", 409):
        client.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Suspended"})


def test_object_lock_for_a_bucket_that_there_is(client: Any, bucket: str) -> None:
    for status in ("", "Suspended"):
        if status:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        with error("InvalidBucketState", 409):
            set_default(client, bucket)
        with error("ObjectLockConfigurationNotFoundError", 404):
            client.get_object_lock_configuration(Bucket=bucket)
    with error("BucketAlreadyOwnedByYou", 409):
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    client.put_object(Bucket=bucket, Key="a", Body=b"before")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    set_default(client, bucket, "GOVERNANCE", Days=1)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    assert lock_of(client, bucket) == {}
    retain(client, bucket, "COMPLIANCE", LATE, VersionId="null")
    put(client, bucket)
    with error("AccessDenied", 403):
        client.delete_object(Bucket=bucket, Key="a", VersionId="null", BypassGovernanceRetention=True)
    assert client.get_object(Bucket=bucket, Key="a", VersionId="null")["Body"].read() == b"before"


def test_the_bucket_of_the_native_api_has_none(client: Any) -> None:
    with error("InvalidBucketState", 409):
        set_default(client, "uploads")
    with error("ObjectLockConfigurationNotFoundError", 404):
        client.get_object_lock_configuration(Bucket="uploads")
    with error("InvalidRequest", 400):
        hold(client, "uploads", "ON")
    with error("BucketAlreadyOwnedByYou", 409):
        client.create_bucket(Bucket="uploads", ObjectLockEnabledForBucket=True)


RULE = "<Rule><DefaultRetention>{}</DefaultRetention></Rule>"
ON = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
WRONG = [
    ("", "MalformedXML"),
    (RULE.format("<Mode>GOVERNANCE</Mode><Days>1</Days>"), "MalformedXML"),
    ("<ObjectLockEnabled>Disabled</ObjectLockEnabled>", "MalformedXML"),
    (f"{ON}<Rule/>", "MalformedXML"),
    (f"{ON}<Other/>", "MalformedXML"),
    (ON + RULE.format(""), "MalformedXML"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
    (ON + RULE.format("<Days>1</Days>"), "MalformedXML"),
    (ON + RULE.format("<Mode>governance</Mode><Days>1</Days>"), "MalformedXML"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), "MalformedXML"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Days>one</Days>"), "MalformedXML"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Days>0</Days>"), "InvalidArgument"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Years>-1</Years>"), "InvalidArgument"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Days>36501</Days>"), "InvalidArgument"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><Years>101</Years>"), "InvalidArgument"),
    (ON + RULE.format("<Mode>GOVERNANCE</Mode><DefaultEventHold/>"), "NotImplemented"),
]


@pytest.mark.parametrize(("content", "code"), WRONG)
def test_configurations_that_there_can_not_be(
    s3_server: Server, client: Any, locked: str, content: str, code: str
) -> None:
    document = f"<ObjectLockConfiguration>{content}</ObjectLockConfiguration>".encode()
    answer = send(s3_server, f"PUT /{locked}?object-lock", document)
    assert (answer.status_code, code_in(answer)) == (501 if code == "NotImplemented" else 400, code)
    assert client.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"].keys() == {
        "ObjectLockEnabled"
    }


# Objects that are put


def by_put(client: Any, bucket: str, lock: Mapping[str, Any]) -> None:
    put(client, bucket, **lock)


def by_copy(client: Any, bucket: str, lock: Mapping[str, Any]) -> None:
    """The source is locked otherwise, which its copy does not take over."""
    put(client, bucket, "source", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=LATE, **HELD)
    copy(client, bucket, lock)


def copy(client: Any, bucket: str, lock: Mapping[str, Any]) -> None:
    client.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/source", **lock)


def by_parts(client: Any, bucket: str, lock: Mapping[str, Any]) -> None:
    where = {"Bucket": bucket, "Key": "a"}
    where["UploadId"] = client.create_multipart_upload(**where, **lock)["UploadId"]
    part = client.upload_part(**where, PartNumber=1, Body=b"abc")
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})


PUTS = [by_put, by_copy, by_parts]


@pytest.mark.parametrize("way", PUTS)
def test_an_object_is_locked_when_it_is_put(client: Any, locked: str, way: Any) -> None:
    for lock in ({}, GOVERNED, HELD, {**COMPLIANT, **HELD}, {"ObjectLockLegalHoldStatus": "OFF"}):
        way(client, locked, lock)
        assert lock_of(client, locked) == lock


@pytest.mark.parametrize("way", PUTS)
def test_by_default_an_object_is_kept_from_when_it_was_put(client: Any, locked: str, way: Any) -> None:
    set_default(client, locked, "COMPLIANCE", Days=3)
    for lock in ({}, HELD):
        way(client, locked, lock)
        told = client.head_object(Bucket=locked, Key="a")
        age = told["ObjectLockRetainUntilDate"] - told["LastModified"]
        assert (told["ObjectLockMode"], age // timedelta(days=1)) == ("COMPLIANCE", 3)
        assert age < timedelta(days=3, seconds=1)
        assert told.get("ObjectLockLegalHoldStatus") == lock.get("ObjectLockLegalHoldStatus")
    way(client, locked, GOVERNED)
    assert lock_of(client, locked) == GOVERNED


def test_a_form_locks_its_object(s3_server: Server, client: Any, locked: str) -> None:
    until = SOON.isoformat().replace("+00:00", "Z")
    fields = {MODE: "GOVERNANCE", UNTIL: until, HOLD: "ON", "Content-MD5": b64encode(md5(b"abc").digest()).decode()}
    assert post(s3_server, locked, signed(client, locked, "a", fields)).status_code == 204
    assert lock_of(client, locked) == {**GOVERNED, **HELD}
    for name, value, code in ((HOLD, "on", "InvalidArgument"), ("Content-MD5", "", "InvalidDigest")):
        answer = post(s3_server, locked, signed(client, locked, "b", {**fields, name: value}))
        assert (answer.status_code, code_in(answer)) == (400, code)
    del fields["Content-MD5"]
    answer = post(s3_server, locked, signed(client, locked, "b", fields))
    assert (answer.status_code, code_in(answer)) == (400, "InvalidRequest")


def headers(mode: str | None = "GOVERNANCE", until: str | None = SOON.isoformat(), **more: str) -> dict[str, str]:
    named = {MODE: mode, UNTIL: until}
    return {name: text for name, text in named.items() if text is not None} | more


WRONG_HEADERS = [
    (headers(mode=None), "InvalidArgument"),
    (headers(until=None), "InvalidArgument"),
    (headers(mode="governance"), "InvalidArgument"),
    (headers(mode=""), "InvalidArgument"),
    (headers(until="tomorrow"), "InvalidArgument"),
    (headers(until=PAST.isoformat()), "InvalidArgument"),
    (headers(until="0001-01-01T00:00:00+10:00"), "InvalidArgument"),
    (headers(until="9999-12-31T23:59:59-10:00"), "InvalidArgument"),
    ({HOLD: "on"}, "InvalidArgument"),
    ({"x-amz-object-lock-legal-hold-status": "ON"}, "NotImplemented"),
]


@pytest.mark.parametrize("how", ["put", "copied", "begun"])
def test_locks_that_there_can_not_be(s3_server: Server, client: Any, locked: str, how: str) -> None:
    put(client, locked, "source")
    source = {"x-amz-copy-source": f"{locked}/source"} if how == "copied" else {}
    line = f"POST /{locked}/a?uploads" if how == "begun" else f"PUT /{locked}/a"
    for wrong, code in WRONG_HEADERS:
        answer = send(s3_server, line, headers={**wrong, **source})
        status = 501 if code == "NotImplemented" else 400
        assert (answer.status_code, code_in(answer)) == (status, code), wrong
    assert send(s3_server, f"HEAD /{locked}/a").status_code == 404


@pytest.mark.parametrize("way", [by_put, copy, by_parts])
def test_a_bucket_without_object_lock_takes_no_locked_object(client: Any, bucket: str, way: Any) -> None:
    client.put_object(Bucket=bucket, Key="source", Body=b"")
    for lock in (GOVERNED, HELD):
        with error("InvalidRequest", 400):
            way(client, bucket, lock)
    with error("404", 404):
        client.head_object(Bucket=bucket, Key="a")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


DIGESTS = [{"content-md5": b64encode(md5(b"a").digest()).decode()}, {"x-amz-checksum-crc32": "6Le+Qw=="}]


def test_bytes_that_are_to_be_locked_come_with_a_digest(s3_server: Server, client: Any, locked: str) -> None:
    plain = headers()
    assert send(s3_server, f"PUT /{locked}/free", b"a").status_code == 200
    for lock in (plain, {HOLD: "ON"}):
        answer = send(s3_server, f"PUT /{locked}/a", b"a", lock)
        assert (answer.status_code, code_in(answer)) == (400, "InvalidRequest")
        for digest in DIGESTS:
            assert send(s3_server, f"PUT /{locked}/a", b"a", {**lock, **digest}).status_code == 200
    upload = client.create_multipart_upload(Bucket=locked, Key="a", **HELD)["UploadId"]
    free = client.create_multipart_upload(Bucket=locked, Key="a")["UploadId"]
    part = f"PUT /{locked}/a?partNumber=1&uploadId="
    assert send(s3_server, part + free, b"a").status_code == 200
    assert code_in(send(s3_server, part + upload, b"a")) == "InvalidRequest"
    set_default(client, locked, "GOVERNANCE", Days=1)
    for line in (part + free, part + upload, f"PUT /{locked}/free"):
        assert code_in(send(s3_server, line, b"a")) == "InvalidRequest"
        for digest in DIGESTS:
            assert send(s3_server, line, b"a", digest).status_code == 200


# Versions that there are


def test_retention_becomes_longer(client: Any, locked: str) -> None:
    first, second = put(client, locked), put(client, locked, **COMPLIANT)
    with error("NoSuchObjectLockConfiguration", 404):
        client.get_object_retention(Bucket=locked, Key="a", VersionId=first)
    retain(client, locked, "GOVERNANCE", SOON, VersionId=first)
    retain(client, locked, "GOVERNANCE", LATE, VersionId=first)
    retain(client, locked, "COMPLIANCE", LATE)
    for asked, mode, until in (
        ({"VersionId": first}, "GOVERNANCE", SOON),
        ({"VersionId": first}, "COMPLIANCE", LATE),
        ({}, "COMPLIANCE", SOON),
        ({}, "GOVERNANCE", LATE),
        ({"VersionId": second, "BypassGovernanceRetention": True}, "COMPLIANCE", SOON),
    ):
        with error("AccessDenied", 403):
            retain(client, locked, mode, until, **asked)
    retain(client, locked, "GOVERNANCE", SOON, VersionId=first, BypassGovernanceRetention=True)
    for more, allowed in ({}, False), ({"BypassGovernanceRetention": True}, True):
        for version, mine in ((first, allowed), (second, False)):
            end = {"Bucket": locked, "Key": "a", "VersionId": version, "Retention": {}, **more}
            if mine:
                client.put_object_retention(**end)
                with error("NoSuchObjectLockConfiguration", 404):
                    client.get_object_retention(Bucket=locked, Key="a", VersionId=first)
            else:
                with error("AccessDenied", 403):
                    client.put_object_retention(**end)


def test_a_legal_hold_is_a_thing_of_its_own(client: Any, locked: str) -> None:
    version = put(client, locked)
    with error("NoSuchObjectLockConfiguration", 404):
        client.get_object_legal_hold(Bucket=locked, Key="a")
    hold(client, locked, "ON")
    retain(client, locked, "GOVERNANCE", SOON)
    assert lock_of(client, locked) == {**GOVERNED, **HELD}
    with error("AccessDenied", 403):
        client.delete_object(Bucket=locked, Key="a", VersionId=version, BypassGovernanceRetention=True)
    hold(client, locked, "OFF", VersionId=version)
    with error("AccessDenied", 403):
        client.delete_object(Bucket=locked, Key="a", VersionId=version)
    assert lock_of(client, locked) == {**GOVERNED, "ObjectLockLegalHoldStatus": "OFF"}
    client.delete_object(Bucket=locked, Key="a", VersionId=version, BypassGovernanceRetention=True)
    with error("404", 404):
        client.head_object(Bucket=locked, Key="a")


def test_what_has_no_lock(client: Any, locked: str, bucket: str) -> None:
    put(client, locked)
    marker = client.delete_object(Bucket=locked, Key="a")["VersionId"]
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    for call, change in (
        ("retention", {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": SOON}}),
        ("legal_hold", {"LegalHold": {"Status": "ON"}}),
    ):
        for name, more in ((f"get_object_{call}", {}), (f"put_object_{call}", change)):
            ask = getattr(client, name)
            with error("InvalidRequest", 400):
                ask(Bucket=bucket, Key="a", **more)
            with error("NoSuchKey", 404):
                ask(Bucket=locked, Key="a", **more)
            with error("MethodNotAllowed", 405):
                ask(Bucket=locked, Key="a", VersionId=marker, **more)
            with error("NoSuchVersion", 404):
                ask(Bucket=locked, Key="a", VersionId="0" * 24, **more)


RETENTION = "<Retention>{}</Retention>"
UNTIL_SOON = f"<RetainUntilDate>{SOON.isoformat()}</RetainUntilDate>"
WRONG_LOCKS = [
    ("retention", "", "MalformedXML"),
    ("retention", RETENTION.format("none"), "MalformedXML"),
    ("retention", RETENTION.format("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
    ("retention", RETENTION.format(UNTIL_SOON), "MalformedXML"),
    ("retention", RETENTION.format(f"<Mode>governance</Mode>{UNTIL_SOON}"), "MalformedXML"),
    ("retention", RETENTION.format(f"<Mode>GOVERNANCE</Mode>{UNTIL_SOON}<Other/>"), "MalformedXML"),
    ("retention", RETENTION.format(f"<EventHold>ON</EventHold><Mode>GOVERNANCE</Mode>{UNTIL_SOON}"), "NotImplemented"),
    *(
        ("retention", RETENTION.format(f"<Mode>GOVERNANCE</Mode><RetainUntilDate>{date}</RetainUntilDate>"), code)
        for date, code in (
            ("soon", "MalformedXML"),
            (PAST.isoformat(), "InvalidArgument"),
            ("0001-01-01T00:00:00+10:00", "MalformedXML"),
            ("9999-12-31T23:59:59-10:00", "MalformedXML"),
        )
    ),
    ("legal-hold", "", "MalformedXML"),
    ("legal-hold", "<LegalHold/>", "MalformedXML"),
    ("legal-hold", "<LegalHold><Status>on</Status></LegalHold>", "MalformedXML"),
]


def test_documents_that_are_no_locks(s3_server: Server, client: Any, locked: str) -> None:
    put(client, locked)
    for resource, document, code in WRONG_LOCKS:
        answer = send(s3_server, f"PUT /{locked}/a?{resource}", document.encode())
        status = 501 if code == "NotImplemented" else 400
        assert (answer.status_code, code_in(answer)) == (status, code), document
    assert lock_of(client, locked) == {}


# Deletions


def test_what_is_locked_stays(s3_server: Server, client: Any, locked: str) -> None:
    """By whatever door."""
    versions = [put(client, locked, **lock) for lock in (COMPLIANT, HELD, {**GOVERNED, **HELD})]
    doomed = [{"Key": "a", "VersionId": version} for version in versions]
    for version in versions:
        with error("AccessDenied", 403):
            client.delete_object(Bucket=locked, Key="a", VersionId=version, BypassGovernanceRetention=True)
        answer = s3_server.client.delete(f"/api/files/{version}", auth=("root-key", "root-secret-0123"))
        assert (answer.status_code, answer.json()["code"]) == (403, "object-locked")
    answer = client.delete_objects(Bucket=locked, Delete={"Objects": doomed}, BypassGovernanceRetention=True)
    assert [(one["VersionId"], one["Code"]) for one in answer["Errors"]] == [(one, "AccessDenied") for one in versions]
    assert "Deleted" not in answer
    with error("BucketNotEmpty", 409):
        client.delete_bucket(Bucket=locked)
    client.delete_object(Bucket=locked, Key="a")
    put(client, locked)
    client.copy_object(Bucket=locked, Key="a", CopySource=f"{locked}/a", MetadataDirective="REPLACE")
    left = {one["VersionId"] for one in client.list_object_versions(Bucket=locked)["Versions"]}
    assert left > set(versions)
    for version in versions:
        assert client.get_object(Bucket=locked, Key="a", VersionId=version)["Body"].read() == b"abc"


def test_of_several_only_those_that_are_not_locked_go(client: Any, locked: str) -> None:
    free, governed = put(client, locked, "free"), put(client, locked, "governed", **GOVERNED)
    doomed = [{"Key": "free", "VersionId": free}, {"Key": "governed", "VersionId": governed}]
    answer = client.delete_objects(Bucket=locked, Delete={"Objects": doomed})
    assert [one["Key"] for one in answer["Deleted"]] == ["free"]
    assert [one["Key"] for one in answer["Errors"]] == ["governed"]
    answer = client.delete_objects(Bucket=locked, Delete={"Objects": doomed}, BypassGovernanceRetention=True)
    assert "Errors" not in answer
    client.delete_bucket(Bucket=locked)


def test_only_object_lock_is_bypassed(s3_server: Server, client: Any, bucket: str, locked: str) -> None:
    document = b"<Delete><Object><Key>a</Key></Object></Delete>"
    digest = {"content-md5": b64encode(md5(document).digest()).decode()}
    for where, value in ((bucket, "true"), (bucket, "false"), (locked, "perhaps")):
        bypass = {"x-amz-bypass-governance-retention": value}
        for answer in (
            send(s3_server, f"DELETE /{where}/a", headers=bypass),
            send(s3_server, f"POST /{where}?delete", document, {**bypass, **digest}),
        ):
            assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")
    put(client, locked)
    bypass = {"x-amz-bypass-governance-retention": "perhaps"}
    answer = send(s3_server, f"PUT /{locked}/a?retention", b"<Retention/>", bypass)
    assert (answer.status_code, code_in(answer)) == (400, "InvalidArgument")


# Rights


@pytest.fixture(scope="session")
def plain(key_for: KeyFor) -> tuple[str, str]:
    """Keys of the owner of the buckets that allow all but `admin`."""
    return key_for("--owner", "local", "--allow", "read,write,list,delete")


@pytest.fixture(scope="session")
def admin(key_for: KeyFor) -> tuple[str, str]:
    return key_for("--owner", "somebody", "--allow", "read,write,list,delete,admin")


def test_governance_is_bypassed_by_keys_with_admin_only(
    s3_server: Server, client: Any, locked: str, plain: tuple[str, str], admin: tuple[str, str]
) -> None:
    limited, free = client_of(s3_server, plain), client_of(s3_server, admin)
    version = put(limited, locked, **GOVERNED)
    bypass = {"BypassGovernanceRetention": True}
    retain(limited, locked, "GOVERNANCE", LATE)
    for more in ({}, bypass):
        with error("AccessDenied", 403):
            limited.delete_object(Bucket=locked, Key="a", VersionId=version, **more)
        doomed = {"Objects": [{"Key": "a", "VersionId": version}]}
        answer = limited.delete_objects(Bucket=locked, Delete=doomed, **more)
        assert [one["Code"] for one in answer["Errors"]] == ["AccessDenied"]
        with error("AccessDenied", 403):
            retain(limited, locked, "GOVERNANCE", SOON, **more)
        with error("AccessDenied", 403):
            limited.put_object_retention(Bucket=locked, Key="a", Retention={}, **more)
    # The right is asked for also where there is nothing to bypass.
    with error("AccessDenied", 403):
        limited.delete_object(Bucket=locked, Key="b", **bypass)
    retain(free, locked, "GOVERNANCE", SOON, **bypass)
    free.delete_object(Bucket=locked, Key="a", VersionId=version, **bypass)


def test_what_an_acl_gives_is_not_to_lock_or_to_see_locks(
    s3_server: Server, client: Any, locked: str, stranger: tuple[str, str]
) -> None:
    client.put_bucket_acl(Bucket=locked, ACL="public-read-write")
    other = client_of(s3_server, stranger)
    put(other, locked, "b")
    for lock in (GOVERNED, HELD):
        with error("AccessDenied", 403):
            put(other, locked, "b", **lock)
        fields = {"key": "b", HOLD: "ON", "content-md5": b64encode(md5(b"abc").digest()).decode()}
        answer = post(s3_server, locked, fields)
        assert (answer.status_code, code_in(answer)) == (403, "AccessDenied")
    put(client, locked, **GOVERNED, **HELD, ACL="public-read")
    assert lock_of(other, locked) == {}
    assert lock_of(client, locked) == {**GOVERNED, **HELD}
    for change in (lambda: retain(other, locked, "GOVERNANCE", LATE), lambda: hold(other, locked, "OFF")):
        with error("AccessDenied", 403):
            change()


# Headers


def test_headers_as_they_are_read() -> None:
    until = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    for text in ("2031-01-02T03:04:05Z", "2031-01-02T03:04:05.000Z", "2031-01-02T05:04:05+02:00"):
        assert lock_from({MODE: "COMPLIANCE", UNTIL: text}) == Lock(Retention("COMPLIANCE", until))
    assert lock_from({HOLD: "OFF"}) == Lock(hold=False)
    assert lock_from({}) == UNLOCKED
    with refused("InvalidArgument", "must both be supplied", ArgumentName=UNTIL):
        lock_from({MODE: "COMPLIANCE"})
    with refused("InvalidArgument", "must both be supplied", ArgumentName=MODE):
        lock_from({UNTIL: "2031-01-02T03:04:05Z"})
    with refused("InvalidArgument", "wormMode", ArgumentName=MODE, ArgumentValue="x"):
        lock_from({MODE: "x", UNTIL: "2031-01-02T03:04:05Z"})


texts = st.text(max_size=40) | st.datetimes().map(datetime.isoformat) | st.sampled_from(["GOVERNANCE", "ON", ""])


@given(st.dictionaries(st.sampled_from([MODE, UNTIL, HOLD]), texts))
def test_any_headers_make_a_lock_or_are_refused(given_headers: dict[str, str]) -> None:
    read: Lock | str
    try:
        read = lock_from(given_headers)
    except S3Error as refusal:
        read = refusal.code
    if isinstance(read, Lock) and read.retention:
        assert read.retention.until.utcoffset() == timedelta(0)
    else:
        assert read == "InvalidArgument" or given_headers.keys() <= {HOLD}
