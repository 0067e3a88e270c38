"""Policies of browsers' forms: the example of the S3 API reference, botocore's forms, and every way to be refused."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore.auth import S3SigV4PostAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.post_policy import PostPolicy, access_key
from tests.s3.tools import ACCESS_KEY, NOW, REGION, SCOPE, SECRET, STAMP, refused

EXAMPLE = "\r\n".join(
    [
        '{ "expiration": "2015-12-30T12:00:00.000Z",',
        '  "conditions": [',
        '    {"bucket": "sigv4examplebucket"},',
        '    ["starts-with", "$key", "user/user1/"],',
        '    {"acl": "public-read"},',
        '    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
        '    ["starts-with", "$Content-Type", "image/"],',
        '    {"x-amz-meta-uuid": "14365123651274"},',
        '    {"x-amz-server-side-encryption": "AES256"},',
        '    ["starts-with", "$x-amz-meta-tag", ""],',
        "",
        '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
        '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
        '    {"x-amz-date": "20151229T000000Z" }',
        "  ]",
        "}",
    ]
)
EXAMPLE_FIELDS = {
    "key": "user/user1/${filename}",
    "acl": "public-read",
    "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
    "Content-Type": "image/jpeg",
    "x-amz-meta-uuid": "14365123651274",
    "x-amz-server-side-encryption": "AES256",
    "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Date": "20151229T000000Z",
    "x-amz-meta-tag": "",
    "Policy": b64encode(EXAMPLE.encode()).decode(),
    "X-Amz-Signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
}
EXAMPLE_DAY = datetime(2015, 12, 29, tzinfo=UTC)

CREDENTIAL = f"{ACCESS_KEY}/{SCOPE}"


def encode(document: Any) -> str:
    return b64encode(json.dumps(document).encode()).decode()


def policy(*conditions: Any) -> PostPolicy:
    return PostPolicy.parse(encode({"expiration": "2013-05-25T00:00:00Z", "conditions": list(conditions)}))


BASE: list[Any] = [{"bucket": "bucket"}, ["starts-with", "$key", ""]]


@time_machine.travel(NOW, tick=False)
def by_botocore(*conditions: Any, **fields: str) -> dict[str, str]:
    """The fields of a signed form."""
    made = AWSRequest(method="POST", url="https://s3.amazonaws.com/bucket")
    document = {"expiration": "2013-05-25T00:00:00Z", "conditions": [*BASE, *conditions]}
    made.context["s3-presign-post-fields"] = fields
    made.context["s3-presign-post-policy"] = document
    S3SigV4PostAuth(Credentials(ACCESS_KEY, SECRET), "s3", REGION).add_auth(made)
    return {name: str(value) for name, value in made.context["s3-presign-post-fields"].items()}


def test_the_example_of_the_reference() -> None:
    form = PostPolicy.parse(EXAMPLE_FIELDS["Policy"])
    assert access_key(EXAMPLE_FIELDS) == ACCESS_KEY
    form.verify(EXAMPLE_FIELDS, SECRET, EXAMPLE_DAY, REGION)
    form.check(EXAMPLE_FIELDS, "sigv4examplebucket", "user/user1/photo.jpg", 5)


def test_a_form_as_botocore_signs_it() -> None:
    fields = by_botocore(["content-length-range", 1, 10], {"acl": "private"}, acl="private")
    form = PostPolicy.parse(fields["policy"])
    form.verify(fields, SECRET, NOW, REGION)
    form.check(fields, "bucket", "any", 10)


# --- signatures -------------------------------------------------------------------------------------------------


def test_tampering_is_refused() -> None:
    fields = by_botocore()
    form = PostPolicy.parse(fields["policy"])
    shown = {"AWSAccessKeyId": ACCESS_KEY, "StringToSign": fields["policy"]}
    with refused("SignatureDoesNotMatch", **shown):
        form.verify(fields, SECRET + "x", NOW, REGION)
    with refused("SignatureDoesNotMatch", SignatureProvided="\N{GRINNING FACE}"):
        form.verify(fields | {"x-amz-signature": "\N{GRINNING FACE}"}, SECRET, NOW, REGION)
    with refused("SignatureDoesNotMatch"):
        policy(*BASE).verify(fields, SECRET, NOW, REGION)


@pytest.mark.parametrize(
    ("scope", "message"),
    [("20130525/us-east-1/s3/aws4_request", "credential date"),
     ("20130524/eu/s3/aws4_request", "expecting 'us-east-1'"),
     ("20130524/us-east-1/iam/aws4_request", "incorrect service"), ("", "mal-formed")],
)  # fmt: skip
def test_another_scope_is_refused(scope: str, message: str) -> None:
    fields = by_botocore() | {"x-amz-credential": f"{ACCESS_KEY}/{scope}"}
    with refused("AuthorizationQueryParametersError", message):
        PostPolicy.parse(fields["policy"]).verify(fields, SECRET, NOW, REGION)


def test_a_policy_expires() -> None:
    fields = by_botocore()
    form = PostPolicy.parse(fields["policy"])
    form.verify(fields, SECRET, NOW + timedelta(hours=23), REGION)
    with refused("AccessDenied", "Invalid according to Policy: Policy expired."):
        form.verify(fields, SECRET, NOW + timedelta(hours=24), REGION)


@pytest.mark.parametrize("name", ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"])
def test_a_signed_form_has_all_fields(name: str) -> None:
    fields = by_botocore()
    form = PostPolicy.parse(fields["policy"])
    fields.pop(name)
    with refused("InvalidArgument", "Bucket POST must contain a field named"):
        form.verify(fields, SECRET, NOW, REGION)


def test_names_of_fields_are_the_same_in_upper_case() -> None:
    fields = {name.upper(): value for name, value in by_botocore().items()}
    form = PostPolicy.parse(fields["POLICY"])
    form.verify(fields, SECRET, NOW, REGION)
    form.check(fields, "bucket", "key", 1)
    with refused("InvalidArgument", "twice"):
        form.check(fields | {"policy": ""}, "bucket", "key", 1)


@pytest.mark.parametrize(
    "fields", [{"AWSAccessKeyId": "a", "signature": "b"}, {"x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}]
)
def test_other_versions_are_refused(fields: dict[str, str]) -> None:
    with refused("InvalidRequest", "Please use AWS4-HMAC-SHA256"):
        access_key(fields)


def test_a_date_that_can_not_be_read() -> None:
    fields = by_botocore() | {"x-amz-date": "2013-05-24"}
    with refused("InvalidArgument", "X-Amz-Date must be"):
        PostPolicy.parse(fields["policy"]).verify(fields, SECRET, NOW, REGION)


# --- conditions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "fields"),
    [
        ({"acl": "private"}, {"acl": "private"}),
        (["eq", "$acl", "private"], {"acl": "private"}),
        (["EQ", "$ACL", "private"], {"acl": "private"}),
        ({"aCl": "private"}, {"AcL": "private"}),
        (["starts-with", "$x-amz-meta-a", "b"], {"x-amz-meta-a": "bc"}),
        (["starts-with", "$x-amz-meta-a", ""], {"x-amz-meta-a": "anything"}),
        (["starts-with", "$x-amz-meta-a", ""], {}),
        (["starts-with", "$Content-Type", "image/"], {"Content-Type": "image/png,image/gif"}),
        (["starts-with", "$x-amz-meta-a", "b"], {"x-amz-meta-a": "b,c"}),
        (["eq", "$Content-Type", "a/b,c/d"], {"Content-Type": "a/b,c/d"}),
    ],
)
def test_conditions_that_hold(condition: Any, fields: dict[str, str]) -> None:
    policy(*BASE, condition).check(fields, "bucket", "key", 1)


@pytest.mark.parametrize(
    ("condition", "fields", "shown"),
    [
        ({"acl": "private"}, {"acl": "Private"}, '["eq", "$acl", "private"]'),
        ({"acl": "private"}, {}, '["eq", "$acl", "private"]'),
        (["eq", "$acl", "private"], {"acl": "privates"}, '["eq", "$acl", "private"]'),
        (["starts-with", "$X-Amz-Meta-A", "b"], {"x-amz-meta-a": "ab"}, '["starts-with", "$X-Amz-Meta-A", "b"]'),
        (
            ["starts-with", "$Content-Type", "image/"],
            {"Content-Type": "image/a,b/c"},
            '["starts-with", "$Content-Type", "image/"]',
        ),
        (["eq", "$key", "other"], {"key": "other"}, '["eq", "$key", "other"]'),
        ({"bucket": "other"}, {"bucket": "other"}, '["eq", "$bucket", "other"]'),
    ],
)
def test_conditions_that_fail(condition: Any, fields: dict[str, str], shown: str) -> None:
    with refused("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {shown}"):
        policy(*BASE, condition).check(fields, "bucket", "key", 1)


def test_several_conditions_on_a_field_must_all_hold() -> None:
    form = policy(*BASE, ["starts-with", "$key", "a"], ["starts-with", "$key", "ab"])
    form.check({}, "bucket", "abc", 1)
    with refused("AccessDenied", "Policy Condition failed"):
        form.check({}, "bucket", "acb", 1)


@pytest.mark.parametrize("conditions", [[BASE[0]], [BASE[1]], []])
def test_bucket_and_key_must_be_covered(conditions: list[Any]) -> None:
    with refused("AccessDenied", "Invalid according to Policy: Extra input fields: "):
        policy(*conditions).check({}, "bucket", "key", 1)


@pytest.mark.parametrize("name", ["acl", "x-amz-meta-a", "X-Amz-Date", "submit", "success_action_status"])
def test_every_field_must_be_covered(name: str) -> None:
    with refused("AccessDenied", f"Invalid according to Policy: Extra input fields: {name.lower()}"):
        policy(*BASE).check({name: ""}, "bucket", "key", 1)


@pytest.mark.parametrize("name", ["x-amz-signature", "X-Amz-Signature", "file", "policy", "x-ignore-this"])
def test_fields_that_need_not_be_covered(name: str) -> None:
    policy(*BASE).check({name: "x"}, "bucket", "key", 1)


@pytest.mark.parametrize("most", [10, "10"])
def test_the_size_of_the_file(most: int | str) -> None:
    form = policy(*BASE, ["content-length-range", 5, most])
    assert form.max_size == 10
    form.check({}, "bucket", "key", None)
    for size in (5, 10):
        form.check({}, "bucket", "key", size)
    with refused("EntityTooSmall", ProposedSize="4", MinSizeAllowed="5"):
        form.check({}, "bucket", "key", 4)
    with refused("EntityTooLarge", ProposedSize="11", MaxSizeAllowed="10"):
        form.check_size(11)


def test_without_a_range_any_size_will_do() -> None:
    form = policy(*BASE)
    assert form.max_size is None
    form.check({}, "bucket", "key", 1 << 60)


# --- documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"conditions": []},
        {"expiration": "2013-05-25T00:00:00Z"},
        {"expiration": "2013-05-25T00:00:00Z", "conditions": {}},
        {"expiration": "2013-05-25T00:00:00Z", "CONDITIONS": []},
        {"EXPIRATION": "2013-05-25T00:00:00Z", "conditions": []},
        {"expiration": "2013-05-25 00:00:00", "conditions": []},
        {"expiration": "2013-05-25T00:00:00+01:00", "conditions": []},
        {"expiration": "2013-13-25T00:00:00Z", "conditions": []},
        {"expiration": 1369440000, "conditions": []},
    ],
)
def test_a_document_that_is_no_policy(document: Any) -> None:
    with refused("InvalidPolicyDocument"):
        PostPolicy.parse(encode(document))


@pytest.mark.parametrize(
    "text",
    ["", "!", "bm8ganNvbg==", "/w==", "é", "W" * 9, b64encode(b"[" * 100_000).decode(), "!" + EXAMPLE_FIELDS["Policy"]],
)
def test_a_text_that_is_no_document(text: str) -> None:
    with refused("InvalidPolicyDocument"):
        PostPolicy.parse(text)


@pytest.mark.parametrize(
    "condition",
    [{}, [], "acl", None, {"acl": 1}, {"acl": {}}, ["eq", "$acl"], ["eq", "acl", "x"], ["eq", "$acl", 1],
     ["ends-with", "$key", "x"], [1, 2, 3], ["content-length-range", 0], ["content-length-range", -1, 0],
     ["content-length-range", 0, 1.5], ["content-length-range", True, 2], ["content-length-range", 0, "x"],
     ["content-length-range", 0, 10**20]],
)  # fmt: skip
def test_what_is_no_condition(condition: Any) -> None:
    with refused("InvalidPolicyDocument"):
        policy(*BASE, condition)


def test_escapes_beyond_those_of_json() -> None:
    text = r'{"expiration": "2013-05-25T00:00:00Z", "conditions": [["eq", "$key", "\$a\\$b\v\u0041\n"]]}'
    (condition,) = PostPolicy.parse(b64encode(text.encode()).decode()).conditions
    assert condition.value == "$a\\$b\vA\n"


def test_the_text_may_be_wrapped() -> None:
    text = encode({"expiration": "2013-05-25T00:00:00Z", "conditions": []})
    wrapped = text[:20] + "\r\n" + text[20:]
    assert PostPolicy.parse(wrapped).text == wrapped


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["eq", "$key", "bucket"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["bucket", "key"]), inner),
)
POLICY = st.text() | st.one_of(
    st.binary().map(lambda raw: b64encode(raw).decode()),
    JSON.map(encode),
    st.lists(JSON).map(lambda some: encode({"expiration": "2013-05-25T00:00:00Z", "conditions": some})),
)
NAMES = ["x-amz-algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature", "AWSAccessKeyId"]
FIELDS = st.dictionaries(
    st.text() | st.sampled_from(NAMES), st.text() | st.sampled_from(["AWS4-HMAC-SHA256", CREDENTIAL, STAMP])
)


@given(text=POLICY, fields=FIELDS)
def test_any_form_is_good_or_refused(text: str, fields: dict[str, str]) -> None:
    try:
        form = PostPolicy.parse(text)
        form.check(fields, "bucket", "key", 1)
        form.verify(fields, SECRET, NOW, REGION)
    except S3Error:
        return
    raise AssertionError("a signature was guessed")
