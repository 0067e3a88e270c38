"""Lifecycle rules: how they are written, which ones there can't be, and what answers say of what will expire. That they
are carried out is tested in `tests/upkeep/test_expiring.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from app.models.lifecycle import Rule
from app.s3.lifecycle_rules import MAX_CONFIGURATION, read_rules, written_rule
from app.s3.xml import document
from tests.s3.test_post import post, signed
from tests.s3.tools import refused
from tests.s3.wire import error, send
from tests.support import Server

MIDNIGHT = datetime(2030, 1, 1, tzinfo=UTC)
EXPIRATION = "<Expiration><Days>3</Days></Expiration>"
MARKERS = "<Expiration><ExpiredObjectDeleteMarker>false</ExpiredObjectDeleteMarker></Expiration>"
ABORT = "AbortIncompleteMultipartUpload"
UPLOADS = f"<{ABORT}><DaysAfterInitiation>7</DaysAfterInitiation></{ABORT}>"
TAG = "<Tag><Key>a</Key><Value>b</Value></Tag>"


def rule(**more: Any) -> dict[str, Any]:
    return {"ID": "one", "Filter": {}, "Status": "Enabled", "Expiration": {"Days": 1}} | more


def configure(client: Any, bucket: str, *rules: dict[str, Any], **options: Any) -> Any:
    configuration = {"Rules": list(rules)}
    return client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=configuration, **options)


def written(*rules: str) -> bytes:
    """A configuration of rules with these elements."""
    elements = "".join(f"<Rule>{one}</Rule>" for one in rules)
    return f"<LifecycleConfiguration>{elements}</LifecycleConfiguration>".encode()


def with_filter(predicates: str, action: str = EXPIRATION) -> str:
    return f"<Status>Enabled</Status><Filter>{predicates}</Filter>{action}"


def with_action(action: str) -> str:
    return with_filter("", action)


# What there can be

ALL_KINDS = [
    rule(ID="all"),
    rule(ID="prefix", Filter={"Prefix": "logs/"}, Status="Disabled"),
    rule(ID="empty prefix", Filter={"Prefix": ""}, Expiration={"Date": MIDNIGHT}),
    rule(ID="tag", Filter={"Tag": {"Key": "a", "Value": ""}}),
    rule(ID="larger", Filter={"ObjectSizeGreaterThan": 0}),
    rule(ID="smaller", Filter={"ObjectSizeLessThan": 1}),
    rule(ID="tags", Filter={"And": {"Tags": [{"Key": "b", "Value": "1"}, {"Key": "a", "Value": "2"}]}}),
    rule(ID="sizes", Filter={"And": {"Prefix": "", "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 7}}),
    rule(ID="markers", Expiration={"ExpiredObjectDeleteMarker": True}),
    rule(ID="nothing", Expiration={"ExpiredObjectDeleteMarker": False}),
    {
        "ID": 'a "b" & ü',
        "Filter": {"Prefix": "x"},
        "Status": "Enabled",
        "Expiration": {"Days": 2_147_483_647},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 100},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
]


def test_rules_are_given_back_as_they_were_put(client: Any, bucket: str) -> None:
    with error("NoSuchLifecycleConfiguration", 404):
        client.get_bucket_lifecycle_configuration(Bucket=bucket)
    configure(client, bucket, *ALL_KINDS)
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == ALL_KINDS
    legacy = [{"ID": prefix, "Prefix": prefix, "Status": "Enabled", "Expiration": {"Days": 1}} for prefix in ("a", "b")]
    configure(client, bucket, *legacy)
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == legacy
    for _ in range(2):
        gone = client.delete_bucket_lifecycle(Bucket=bucket)
        assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    with error("NoSuchLifecycleConfiguration", 404):
        client.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_a_rule_without_an_id_gets_one(client: Any, bucket: str) -> None:
    without = {name: value for name, value in rule().items() if name != "ID"}
    configure(client, bucket, without, without, without | {"ID": ""})
    ids = [one["ID"] for one in client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]]
    assert len(set(ids)) == 3
    assert all(ids)


def test_the_smallest_size_of_transitions_is_kept(client: Any, bucket: str) -> None:
    name = "TransitionDefaultMinimumObjectSize"
    assert configure(client, bucket, rule())[name] == "all_storage_classes_128K"
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)[name] == "all_storage_classes_128K"
    assert configure(client, bucket, rule(), **{name: "varies_by_storage_class"})[name] == "varies_by_storage_class"
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)[name] == "varies_by_storage_class"
    with error("InvalidRequest", 400):
        configure(client, bucket, rule(), **{name: "none"})


def test_the_bucket_of_the_native_api_has_no_rules(client: Any) -> None:
    with error("InvalidBucketState", 409):
        configure(client, "uploads", rule())


@pytest.mark.parametrize("one", ALL_KINDS, ids=lambda one: one["ID"])
def test_a_rule_is_written_as_it_was_read(one: dict[str, Any]) -> None:
    """Also what clients write, and read, as the same: an And, a date."""
    tags = [one["Filter"]["Tag"]] if "Tag" in one["Filter"] else []
    element: dict[str, Any] = dict(one)
    if "And" in one["Filter"]:
        predicates = dict(one["Filter"]["And"])
        tags = predicates.pop("Tags", [])
        element["Filter"] = {"And": {"Tag": tags, **predicates}}
    body = document("LifecycleConfiguration", {"Rule": element})
    (read,) = read_rules(body)
    again = document("LifecycleConfiguration", {"Rule": written_rule(read)})
    assert read_rules(again) == [read]
    assert [list(pair) for pair in read.filter.tags] == [[tag["Key"], tag["Value"]] for tag in tags]
    assert again.count(b"<And>") == body.count(b"<And>")


def read_one(text: str) -> Rule:
    (read,) = read_rules(written(text))
    return read


def test_dates_are_of_any_zone() -> None:
    read = read_one(with_action("<Expiration><Date>2030-01-01T02:00:00+02:00</Date></Expiration>"))
    assert read.date == MIDNIGHT
    assert read_one(with_action("<Expiration><Date>2030-01-01</Date></Expiration>")).date == MIDNIGHT


def test_a_tag_without_a_value_is_one_whose_value_is_empty() -> None:
    assert read_one(with_filter("<Tag><Key>a</Key></Tag>")).filter.tags == [["a", ""]]


def test_a_thousand_rules(client: Any, bucket: str) -> None:
    rules = [rule(ID=f"{number}", Filter={"Prefix": f"{number}/"}) for number in range(1000)]
    configure(client, bucket, *rules)
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    with refused("InvalidRequest", "1000 rules"):
        read_rules(written(*[with_filter("")] * 1001))


# What there can't be

MALFORMED = {
    "no XML": b"Rule",
    "another root": b"<Lifecycle/>",
    "another element": b"<LifecycleConfiguration><Other/></LifecycleConfiguration>",
    "too long": b" " * (MAX_CONFIGURATION + 1),
    "no status": written(f"<Filter/>{EXPIRATION}"),
    "another status": written(f"<Status>enabled</Status><Filter/>{EXPIRATION}"),
    "twice": written(with_filter("") + "<Status>Enabled</Status>"),
    "no filter": written(f"<Status>Enabled</Status>{EXPIRATION}"),
    "two filters": written(with_filter("<Prefix>a</Prefix>") + "<Prefix>a</Prefix>"),
    "unknown action": written(with_action("<Archive/>")),
    "unknown predicate": written(with_filter("<Suffix>a</Suffix>")),
    "two predicates": written(with_filter(f"<Prefix>a</Prefix>{TAG}")),
    "two tags": written(with_filter(TAG + "<Tag><Key>b</Key><Value/></Tag>")),
    "an And beside": written(with_filter(f"<Prefix>a</Prefix><And>{TAG}<Prefix>a</Prefix></And>")),
    "an And of one": written(with_filter("<And><Prefix>a</Prefix></And>")),
    "an And in an And": written(with_filter("<And><And/><Prefix/></And>")),
    "a tag without a key": written(with_filter("<Tag><Value>a</Value></Tag>")),
    "a size in words": written(with_filter("<ObjectSizeLessThan>big</ObjectSizeLessThan>")),
    "empty": written(with_action("<Expiration/>")),
    "days and date": written(with_action("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>")),
    "days and markers": written(
        with_action(
            "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        )
    ),
    "half a day": written(with_action("<Expiration><Days>0.5</Days></Expiration>")),
    "too many days": written(with_action("<Expiration><Days>2147483648</Days></Expiration>")),
    "no date": written(with_action("<Expiration><Date>soon</Date></Expiration>")),
    "a date beyond": written(with_action("<Expiration><Date>0001-01-01T00:00:00+05:00</Date></Expiration>")),
    "no days": written(
        with_action(
            "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions>"
            "</NoncurrentVersionExpiration>"
        )
    ),
    "no initiation": written(with_action("<AbortIncompleteMultipartUpload/>")),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_configuration(what: str) -> None:
    with refused("MalformedXML"):
        read_rules(MALFORMED[what])


def days(action: str, element: str, count: int) -> str:
    return with_action(f"<{action}><{element}>{count}</{element}></{action}>")


NONCURRENT = "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>{}</NewerNoncurrentVersions>"


def noncurrent(newer: int) -> str:
    return f"<NoncurrentVersionExpiration>{NONCURRENT.format(newer)}</NoncurrentVersionExpiration>"


LEGACY = f"<Status>Enabled</Status><Prefix>a</Prefix>{EXPIRATION}"

INVALID = {
    "no rules": ([], "InvalidRequest", "At least one lifecycle rule"),
    "no action": ([with_action("")], "InvalidRequest", "At least one action"),
    "long id": ([with_filter("") + f"<ID>{'i' * 256}</ID>"], "InvalidArgument", "allowed limit of 255"),
    "same id": ([with_filter("") + "<ID>i</ID>"] * 2, "InvalidArgument", "must be unique"),
    "zero days": ([days("Expiration", "Days", 0)], "InvalidArgument", "'Days' for Expiration action"),
    "negative days": ([days("Expiration", "Days", -1)], "InvalidArgument", "'Days' for Expiration action"),
    "zero noncurrent days": (
        [days("NoncurrentVersionExpiration", "NoncurrentDays", 0)],
        "InvalidArgument",
        "'NoncurrentDays' for NoncurrentVersionExpiration action",
    ),
    "zero days of uploads": (
        [days("AbortIncompleteMultipartUpload", "DaysAfterInitiation", 0)],
        "InvalidArgument",
        "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action",
    ),
    "no newer versions": ([with_action(noncurrent(0))], "InvalidArgument", "NewerNoncurrentVersions"),
    "too many newer versions": ([with_action(noncurrent(101))], "InvalidArgument", "from 1 to 100"),
    "not midnight": (
        [with_action("<Expiration><Date>2030-01-01T00:00:01Z</Date></Expiration>")],
        "InvalidArgument",
        "must be at midnight GMT",
    ),
    "midnight elsewhere": (
        [with_action("<Expiration><Date>2030-01-01T00:00:00+01:00</Date></Expiration>")],
        "InvalidArgument",
        "must be at midnight GMT",
    ),
    "less than nothing": (
        [with_filter("<ObjectSizeLessThan>0</ObjectSizeLessThan>")],
        "InvalidRequest",
        "'ObjectSizeLessThan' should be between 1 and",
    ),
    "more than less than nothing": (
        [with_filter("<ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan>")],
        "InvalidRequest",
        "'ObjectSizeGreaterThan' should be between 0 and",
    ),
    "no size": (
        [
            with_filter(
                "<And><ObjectSizeGreaterThan>7</ObjectSizeGreaterThan><ObjectSizeLessThan>7</ObjectSizeLessThan></And>"
            )
        ],
        "InvalidRequest",
        "has to be a value greater",
    ),
    "same tag": ([with_filter(f"<And>{TAG}{TAG}</And>")], "InvalidRequest", "Duplicate Tag Keys"),
    "bad tag": ([with_filter("<Tag><Key>?</Key></Tag>")], "InvalidTag", "TagKey"),
    "markers and tags": ([with_filter(TAG, MARKERS)], "InvalidRequest", "cannot be specified with Tags."),
    "uploads and tags": ([with_filter(TAG, UPLOADS)], "InvalidRequest", "cannot be specified with Tags."),
    "markers and sizes": (
        [with_filter("<ObjectSizeLessThan>1</ObjectSizeLessThan>", MARKERS)],
        "InvalidRequest",
        "cannot be specified with Object Size.",
    ),
    "uploads and sizes": (
        [with_filter("<ObjectSizeGreaterThan>1</ObjectSizeGreaterThan>", UPLOADS)],
        "InvalidRequest",
        "cannot be specified with Object Size.",
    ),
    "filter after prefix": ([LEGACY, with_filter("")], "InvalidRequest", "Filter element can only be used"),
    "prefix after filter": ([with_filter(""), LEGACY], "InvalidRequest", "Base level prefix cannot be used"),
    "versions counted beside a prefix": (
        [f"<Status>Enabled</Status><Prefix>a</Prefix>{noncurrent(1)}"],
        "InvalidRequest",
        "NewerNoncurrentVersions element can only be used",
    ),
    "transition": (
        [with_action("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>")],
        "NotImplemented",
        "Transition is not implemented",
    ),
    "transition of versions": (
        [with_filter("") + "<NoncurrentVersionTransition/>"],
        "NotImplemented",
        "NoncurrentVersionTransition is not implemented",
    ),
}


@pytest.mark.parametrize("what", INVALID)
def test_rules_that_there_can_not_be(what: str) -> None:
    rules, code, message = INVALID[what]
    with refused(code, message):
        read_rules(written(*rules))


def test_a_refused_configuration_changes_nothing(client: Any, bucket: str, s3_server: Server) -> None:
    configure(client, bucket, rule())
    with error("InvalidArgument", 400):
        configure(client, bucket, rule(Expiration={"Days": 0}))
    with error("NotImplemented", 501):
        configure(client, bucket, rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]))
    assert send(s3_server, f"PUT /{bucket}?lifecycle", b"").status_code == 400
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [rule()]


# What answers say


def midnight_after(moment: datetime, days: int) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days + 1)


def expiration(answer: dict[str, Any]) -> tuple[datetime, str]:
    date, _, name = answer["Expiration"].removeprefix('expiry-date="').partition('", rule-id="')
    return parsedate_to_datetime(date), name.removesuffix('"')


def test_who_puts_and_who_reads_learns_when_the_object_expires(client: Any, bucket: str, s3_server: Server) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    configure(client, bucket, rule(ID="in two days", Filter={"Prefix": "a"}, Expiration={"Days": 2}))
    where = {"Bucket": bucket, "Key": "a"}
    upload = client.create_multipart_upload(**where)
    made = {**where, "UploadId": upload["UploadId"]}
    part = client.upload_part(**made, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    answers = [
        client.complete_multipart_upload(**made, MultipartUpload=parts),
        client.copy_object(**where, CopySource=f"{bucket}/a", MetadataDirective="REPLACE"),
        client.put_object(**where, Body=b"x"),
        client.get_object(**where),
        client.head_object(**where),
    ]
    expected = midnight_after(client.head_object(**where)["LastModified"], 2), "in two days"
    # Another one of them may have been there before a midnight that has gone by since.
    assert {expiration(answer) for answer in answers} <= {expected, (expected[0] - timedelta(days=1), expected[1])}
    assert expiration(answers[-1]) == expected
    assert "Expiration" not in client.head_object(**where, VersionId=answers[2]["VersionId"])
    assert "Expiration" not in client.put_object(Bucket=bucket, Key="b")
    assert "in two days" in post(s3_server, bucket, signed(client, bucket, "a")).headers["x-amz-expiration"]


def test_the_rule_that_comes_first_counts(client: Any, bucket: str) -> None:
    tagged = {"Tag": {"Key": "a", "Value": "b"}}
    configure(
        client,
        bucket,
        rule(ID="late", Expiration={"Days": 9}),
        rule(ID='ü "quoted" 50%', Filter=tagged, Expiration={"Date": datetime(2020, 1, 1, tzinfo=UTC)}),
        rule(ID="disabled", Status="Disabled"),
        rule(ID="markers", Expiration={"ExpiredObjectDeleteMarker": True}),
        rule(ID="small", Filter={"ObjectSizeLessThan": 2}, Expiration={"Days": 3}),
        rule(ID="also small", Filter={"ObjectSizeLessThan": 2}, Expiration={"Days": 3}),
    )
    assert expiration(client.put_object(Bucket=bucket, Key="a", Body=b"xx"))[1] == "late"
    assert expiration(client.put_object(Bucket=bucket, Key="a", Body=b"x"))[1] == "small"
    client.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert client.head_object(Bucket=bucket, Key="a")["Expiration"] == (
        'expiry-date="Wed, 01 Jan 2020 00:00:00 GMT", rule-id="%C3%BC %22quoted%22 50%25"'
    )


def test_more_days_than_any_calendar_has(client: Any, bucket: str) -> None:
    configure(client, bucket, rule(Expiration={"Days": 2_147_483_647}))
    assert expiration(client.put_object(Bucket=bucket, Key="a"))[0].year == 9999


def test_who_uploads_in_parts_learns_when_the_upload_expires(client: Any, bucket: str) -> None:
    action = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}
    configure(client, bucket, {"ID": "no parts", "Filter": {"Prefix": "a"}, "Status": "Enabled", **action})
    begun = client.create_multipart_upload(Bucket=bucket, Key="a")
    (upload,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    expected = (midnight_after(upload["Initiated"], 2), "no parts")
    for answer in (begun, client.list_parts(Bucket=bucket, Key="a", UploadId=begun["UploadId"])):
        assert (answer["AbortDate"], answer["AbortRuleId"]) == expected
    assert "AbortDate" not in client.create_multipart_upload(Bucket=bucket, Key="b")
