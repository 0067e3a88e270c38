"""Bucket policies without a server: how they are read, what they say, and which are public."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.operations import ACTIONS
from app.s3.policy import Ask, Policy
from app.s3.policy_conditions import KEYS
from app.s3.policy_document import MAX_POLICY, parse_policy
from app.s3.policy_patterns import Pattern
from app.store.access import ANONYMOUS, LOCAL, PERMISSIONS, Caller
from tests.s3.tools import refused

ALICE = Caller("alice", "ALICEKEY", PERMISSIONS)
BOB = Caller("bob", "BOBKEY", PERMISSIONS)
BOB_TOO = Caller("bob", "OTHERKEY", PERMISSIONS)
ROOT = Caller(LOCAL, "root-key", PERMISSIONS, is_root=True)

OBJECTS = "arn:aws:s3:::b/*"
BUCKET = "arn:aws:s3:::b"


def statement(**elements: Any) -> dict[str, Any]:
    """One that allows everybody to read objects, but for these elements; those that are None are left away."""
    base = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": OBJECTS}
    return {name: value for name, value in (base | elements).items() if value is not None}


def policy(*statements: Any, **elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **elements})


def read(*statements: Any, **elements: Any) -> Policy:
    return parse_policy(policy(*statements, **elements), "b")


def ask(
    caller: Caller = ANONYMOUS, action: str = "s3:GetObject", resource: str = "b/k", **values: str | list[str]
) -> Ask:
    """`values` are those of condition keys, by their names without colons and slashes."""
    known = {name.replace("__", "/").replace("_", ":", 1).replace("_", "-"): value for name, value in values.items()}

    def lookup(key: str) -> list[str] | None:
        value = known.get(key)
        return [value] if isinstance(value, str) else value

    return Ask(caller, action, resource, lookup)


# Patterns


def matches_by_trying_all(pattern: str, text: str) -> bool:
    """What a pattern means, in the plainest way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches_by_trying_all(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and matches_by_trying_all(pattern[1:], text[1:])


def all_texts(signs: str, most: int) -> list[str]:
    return ["".join(one) for length in range(most + 1) for one in product(signs, repeat=length)]


def test_wildcards() -> None:
    texts = all_texts("ab", 5)
    for pattern in all_texts("a*?", 5):
        known = Pattern.read(pattern, wildcards=True, variables=False)
        matched = [text for text in texts if known.matches(text, lambda _: None)]
        assert matched == [text for text in texts if matches_by_trying_all(pattern, text)], pattern


def test_many_wildcards_are_no_more_work_than_few() -> None:
    for pattern in ("*a" * 5000 + "*b", "*" + "a?" * 400 + "b*"):
        assert not Pattern.read(pattern, wildcards=True, variables=False).matches("a" * 1024, lambda _: None)


@pytest.mark.parametrize(
    ("pattern", "text", "user"),
    [
        ("home/${aws:username}/*", "home/u/a", "u"),
        ("home/${AWS:UserName}/*", "home/u/a", "u"),
        ("${aws:username}", "a*", "a*"),
        ("a${*}b${?}c${$}", "a*b?c$", None),
        ("a$b${c", "a$b${c", None),
    ],
)
def test_variables(pattern: str, text: str, user: str | None) -> None:
    def lookup(key: str) -> list[str] | None:
        return [user] if user and key == "aws:username" else None

    known = Pattern.read(pattern, wildcards=True, variables=True)
    assert known.matches(text, lookup)
    assert Pattern.read(pattern, wildcards=False, variables=False).matches(pattern, lookup)


def test_a_variable_is_no_wildcard_and_without_a_value_matches_nothing() -> None:
    known = Pattern.read("home/${aws:username}", wildcards=True, variables=True)
    assert not known.matches("home/secret", lambda _: ["*"])
    assert not known.matches("home/", lambda _: None)


# Reading


@pytest.mark.parametrize(
    "elements",
    [
        {"Sid": "any text, also with spaces"},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"AWS": ["alice", "arn:aws:iam::bob@example.com:root", "arn:aws:iam::bob:user/KEY"]}},
        {"Principal": {"CanonicalUser": "alice"}},
        {"Action": ["S3:getobject", "s3:Get*", "s3:GetObjec?"]},
        {"Action": "*"},
        {"Action": None, "NotAction": ["s3:PutObject"]},
        {"Resource": [BUCKET, OBJECTS]},
        {"Resource": "arn:aws:s3:::b*"},
        {"Resource": None, "NotResource": "arn:aws:s3:::b/secret/*"},
        {"Resource": "arn:aws:s3:::b/${aws:username}/*"},
        {"Condition": {}},
        {"Condition": {"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"s3:signatureAge": 60000}}},
    ],
)
def test_what_is_a_policy(elements: dict[str, Any]) -> None:
    assert read(statement(**elements))
    assert parse_policy(json.dumps({"Id": "one", "Statement": statement(**elements)}), "b")


def condition(name: str, key: str, values: Any) -> dict[str, Any]:
    return {"Condition": {name: {key: values}}}


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Sid": ["a"]}, "Sid"),
        ({"Effect": None}, "Missing required field Effect"),
        ({"Effect": "allow"}, "Invalid effect"),
        ({"Principal": None}, "Missing required field Principal"),
        ({"NotPrincipal": "*"}, "not both"),
        ({"Principal": None, "NotPrincipal": {"AWS": "bob"}}, "NotPrincipal must be used with Effect Deny"),
        ({"Principal": "alice"}, "Invalid principal"),
        ({"Principal": {}}, "Invalid principal"),
        ({"Principal": {"AWS": []}}, "list of strings"),
        ({"Principal": {"AWS": "ali*"}}, "Invalid principal"),
        ({"Principal": {"AWS": "arn:aws:iam::alice:user/*"}}, "Invalid principal"),
        ({"Principal": {"AWS": "arn:aws:iam::alice:role/one"}}, "Invalid principal"),
        ({"Principal": {"Service": "logging.s3.amazonaws.com"}}, "Invalid principal"),
        ({"Action": None}, "Missing required field Action"),
        ({"Action": []}, "Action must be"),
        ({"Action": "s3:GetObjects"}, "invalid action"),
        ({"Action": "GetObject"}, "invalid action"),
        ({"Action": "s3:ListAllMyBuckets"}, "invalid action"),
        ({"Action": "sqs:SendMessage"}, "invalid action"),
        ({"Action": "s3:ListBucket"}, "Action does not apply"),
        ({"Action": ["s3:*", "s3:PutBucket*"]}, "Action does not apply"),
        ({"Resource": BUCKET}, "Action does not apply"),
        ({"Resource": None}, "Missing required field Resource"),
        ({"Resource": "*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::c/*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::bb/*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::b?/*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:us-east-1::b/*"}, "invalid resource"),
        ({"Resource": "b/*"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::b/${aws:PrincipalTag/team}"}, "invalid variable"),
        ({"Resource": "arn:aws:s3:::b/${aws:username, 'nobody'}"}, "invalid variable"),
        ({"Conditions": {}}, "Unknown field"),
        ({"Condition": []}, "Condition must be"),
        ({"Condition": {"StringEquals": {}}}, "needs an object"),
        (condition("StringIs", "aws:username", "a"), "Invalid Condition type"),
        (condition("stringequals", "aws:username", "a"), "Invalid Condition type"),
        (condition("ForSome:StringEquals", "aws:username", "a"), "Invalid Condition type"),
        (condition("NullIfExists", "aws:username", "true"), "Invalid Condition type"),
        (condition("BinaryEquals", "aws:username", "QQ=="), "Invalid Condition type"),
        (condition("Null", "aws:username", "perhaps"), "Null"),
        (condition("StringEquals", "aws:username", []), "needs a value"),
        (condition("StringEquals", "aws:username", None), "needs a value"),
        (condition("StringEquals", "aws:username", [["a"]]), "needs a value"),
        (condition("StringEquals", "aws:SourceVpc", "vpc-1"), "invalid condition key"),
        (condition("NumericLessThan", "s3:TlsVersion", 1.2), "invalid condition key"),
        (condition("StringEquals", "s3:ExistingObjectTag", "a"), "invalid condition key"),
        (condition("StringEquals", "s3:ExistingObjectTag/", "a"), "invalid condition key"),
        (condition("StringEquals", "s3:prefix/a", "a"), "invalid condition key"),
        (condition("StringEquals", "s3:prefix", "a"), "Conditions do not apply"),
        (condition("StringEquals", "s3:VersionId", "a"), "Conditions do not apply"),
        (condition("StringEquals", "aws:username", "${aws:userid}"), "invalid variable"),
        (condition("StringEquals", "aws:SourceIp", "10.0.0.1"), "does not go with"),
        (condition("IpAddress", "aws:UserAgent", "10.0.0.1"), "does not go with"),
        (condition("IpAddress", "aws:SourceIp", "10.0.0.256"), "Invalid IP address"),
        (condition("NumericEquals", "s3:signatureAge", "1e9"), "is no value"),
        (condition("DateLessThan", "aws:CurrentTime", "2026-13-01T00:00:00Z"), "is no value"),
        (condition("DateLessThan", "aws:CurrentTime", "-99999999999"), "is no value"),
        (condition("Bool", "aws:SecureTransport", "yes"), "is no value"),
        (condition("ArnLike", "aws:PrincipalArn", "alice"), "is no ARN"),
    ],
)
def test_what_is_none(elements: dict[str, Any], message: str) -> None:
    with refused("MalformedPolicy", message):
        read(statement(**elements))


def test_many_values_need_a_quantifier() -> None:
    for name, good in (("StringEquals", False), ("ForAllValues:StringEquals", True)):
        elements = statement(Action="s3:PutObject", **condition(name, "s3:RequestObjectTagKeys", ["a"]))
        if good:
            read(elements)
        else:
            with refused("MalformedPolicy", "ForAnyValue:StringEquals"):
                read(elements)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "valid JSON"),
        ("[]", "first byte"),
        ("{", "valid JSON"),
        ('{"Statement": NaN}', "valid JSON"),
        ("[" * 100_000, "valid JSON"),
        ('{"Statement":' * 2000, "valid JSON"),
        ('{"Id": "\\ud800", "Statement": []}', "valid JSON"),
        ('{"Statement": [], "Statement": []}', "twice"),
        (policy(), "Statement is empty"),
        (policy("no statement"), "Statement must be an object"),
        (policy(statement(), Version="2012-10-18"), "valid version"),
        (policy(statement(), Id=None), "Id must be"),
        (policy(statement(), Author="me"), "Unknown field"),
        (policy(statement(Sid="a"), statement(Sid="a")), "Each Sid"),
        ("{}", "Missing required field Statement"),
    ],
)
def test_what_is_no_policy_at_all(text: str, message: str) -> None:
    with refused("MalformedPolicy", message):
        parse_policy(text, "b")


def test_a_policy_has_its_size_without_spaces() -> None:
    room = MAX_POLICY - len(json.dumps(json.loads(policy(statement(Sid=""))), separators=(",", ":")))
    assert parse_policy(json.dumps(json.loads(policy(statement(Sid="a" * room))), indent=8), "b")
    with refused("MalformedPolicy", "maximum allowed size"):
        read(statement(Sid="a" * (room + 1)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ELEMENTS = st.sampled_from(["Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"])
OPERATORS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]),
    st.sampled_from(["StringLike", "NumericEquals", "DateLessThan", "Bool", "IpAddress", "ArnLike", "Null"]),
    st.sampled_from(["", "", "IfExists"]),
)
NAMES = st.sampled_from([*KEYS, "s3:ExistingObjectTag/a"])
VALUES = st.text("0123456789.:-/*?${}aT", max_size=10) | st.integers() | st.floats() | st.booleans()


def read_or_malformed(text: str) -> None:
    """And if it is a policy, it says something of any request."""
    try:
        known = parse_policy(text, "b")
    except S3Error as error:
        if error.code != "MalformedPolicy":
            raise
        error.message.encode()
        return
    for value in ("", "a", "1", "10.0.0.1"):
        known.says(Ask(BOB, "s3:GetObject", "b/k", lambda _, value=value: [value]))  # type: ignore[misc]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(ELEMENTS, JSON, min_size=1, max_size=2))
def test_any_elements_are_a_policy_or_malformed(elements: dict[str, Any]) -> None:
    read_or_malformed(policy({**statement(), **elements}))


@settings(max_examples=200, deadline=None)
@given(OPERATORS, NAMES, VALUES | st.lists(VALUES, max_size=3))
def test_any_condition_is_one_or_malformed(name: str, key: str, values: Any) -> None:
    read_or_malformed(policy(statement(Action="*", Resource="arn:aws:s3:::b*", **condition(name, key, values))))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(0, 3), st.text(max_size=3))
def test_any_damage_to_a_policy_leaves_one_or_it_is_malformed(place: int, gone: int, more: str) -> None:
    text = policy(statement(**condition("IpAddress", "aws:SourceIp", ["10.0.0.0/8"])))
    read_or_malformed(text[:place] + more + text[place + gone :])


# What a policy says


def test_nothing_of_what_it_does_not_name() -> None:
    known = read(statement())
    assert known.says(ask()) == "Allow"
    assert known.says(ask(action="s3:PutObject")) == ""
    assert known.says(ask(action="s3:ListBucket", resource="b")) == ""
    assert read(statement(Resource="arn:aws:s3:::b/a/*")).says(ask(resource="b/ab")) == ""


def test_denial_is_before_permission_whatever_their_order() -> None:
    both = [statement(), statement(Effect="Deny", Resource="arn:aws:s3:::b/secret/*")]
    for statements in (both, both[::-1]):
        assert read(*statements).says(ask(resource="b/secret/k")) == "Deny"
        assert read(*statements).says(ask(resource="b/k")) == "Allow"


EVERYBODY = {"anonymous": ANONYMOUS, "alice": ALICE, "bob": BOB, "bob too": BOB_TOO, "root": ROOT}


@pytest.mark.parametrize(
    ("principal", "meant"),
    [
        ("*", EVERYBODY.keys()),
        ({"AWS": "*"}, EVERYBODY.keys()),
        ({"AWS": "bob"}, {"bob", "bob too"}),
        ({"AWS": "arn:aws:iam::bob:root"}, {"bob", "bob too"}),
        ({"CanonicalUser": ["bob", "alice"]}, {"alice", "bob", "bob too"}),
        ({"AWS": "arn:aws:iam::bob:user/BOBKEY"}, {"bob"}),
        ({"AWS": "arn:aws:iam::alice:user/BOBKEY"}, set()),
        ({"AWS": "arn:aws:iam::local:root"}, {"root"}),
        ({"AWS": ["bob", "*"]}, EVERYBODY.keys()),
    ],
)
def test_principals(principal: Any, meant: Any) -> None:
    known = read(statement(Principal=principal))
    assert {name for name, caller in EVERYBODY.items() if known.says(ask(caller))} == set(meant)
    inverted = read(statement(Effect="Deny", Principal=None, NotPrincipal=principal))
    assert {name for name, caller in EVERYBODY.items() if not inverted.says(ask(caller))} == set(meant)


def test_actions() -> None:
    for named, meant in (
        ("*", set(ACTIONS)),
        ("s3:GetObjectVersio?", {"s3:GetObjectVersion"}),
        ("s3:getBUCKET*", {action for action in ACTIONS if action.startswith("s3:GetBucket")}),
    ):
        of_all = {"Effect": "Deny", "Resource": [BUCKET, OBJECTS]}
        known = read(statement(Action=named, **of_all))
        assert {action for action in ACTIONS if known.says(ask(action=action))} == meant
        if meant != set(ACTIONS):
            others = read(statement(Action=None, NotAction=named, **of_all))
            assert {action for action in ACTIONS if not others.says(ask(action=action))} == meant


def test_resources() -> None:
    inverted = read(statement(Resource=None, NotResource="arn:aws:s3:::b/secret/*"))
    assert [inverted.says(ask(resource=one)) for one in ("b/secret/k", "b/k")] == ["", "Allow"]
    both = read(statement(Action="*", Resource="arn:aws:s3:::b*"))
    assert [both.says(ask(resource=one)) for one in ("b", "b/k")] == ["Allow"] * 2


def test_variables_are_known_since_2012() -> None:
    home = statement(Resource="arn:aws:s3:::b/${aws:username}/*")
    asked = ask(resource="b/BOBKEY/k", aws_username="BOBKEY")
    assert read(home).says(asked) == "Allow"
    assert read(home, Version="2008-10-17").says(asked) == ""
    assert read(home, Version="2008-10-17").says(ask(resource="b/${aws:username}/k")) == "Allow"


AGENT = "aws:UserAgent"
TEXT = {"aws_useragent": "Curl/8"}
SIZE = {"s3_signatureage": "600"}
TIME = {"aws_currenttime": "2026-05-05T12:00:00+00:00"}
ADDRESS = {"aws_sourceip": "10.1.2.3"}
ARN = {"aws_principalarn": "arn:aws:iam::alice:user/KEY"}

HOLDING = [
    ("StringEquals", AGENT, ["wget", "Curl/8"], TEXT),
    ("StringEqualsIgnoreCase", AGENT, "cURL/8", TEXT),
    ("StringLike", AGENT, "C?rl/*", TEXT),
    ("StringNotEquals", AGENT, ["curl/8", "Curl/*"], TEXT),
    ("StringNotEqualsIgnoreCase", AGENT, "wget", TEXT),
    ("StringNotLike", AGENT, ["wget*", "curl*"], TEXT),
    ("StringEqualsIfExists", AGENT, "Curl/8", TEXT),
    ("StringEqualsIfExists", AGENT, "Curl/8", {}),
    ("StringNotEquals", AGENT, "Curl/8", {}),
    ("StringEquals", AGENT, "${aws:username}", {"aws_useragent": "u", "aws_username": "u"}),
    ("NumericEquals", "s3:signatureAge", [1, "600.0"], SIZE),
    ("NumericNotEquals", "s3:signatureAge", ["1", "2"], SIZE),
    ("NumericLessThan", "s3:signatureAge", "601", SIZE),
    ("NumericLessThanEquals", "s3:signatureAge", "600", SIZE),
    ("NumericGreaterThan", "s3:signatureAge", "599.5", SIZE),
    ("NumericGreaterThanEquals", "s3:signatureAge", "600", SIZE),
    ("DateEquals", "aws:CurrentTime", "2026-05-05T14:00:00+02:00", TIME),
    ("DateNotEquals", "aws:CurrentTime", "2026-05-05", TIME),
    ("DateLessThan", "aws:CurrentTime", "2026-05-05T12:00:00.5Z", TIME),
    ("DateLessThanEquals", "aws:CurrentTime", "2026-05-05T12:00Z", TIME),
    ("DateGreaterThan", "aws:CurrentTime", "2026-05-05", TIME),
    ("DateGreaterThanEquals", "aws:CurrentTime", str(int(datetime(2026, 5, 5, 12, tzinfo=UTC).timestamp())), TIME),
    ("DateGreaterThan", "aws:EpochTime", "2026-05-05T12:00:00Z", {"aws_epochtime": "1900000000"}),
    ("Bool", "aws:SecureTransport", "True", {"aws_securetransport": "true"}),
    ("Bool", "aws:SecureTransport", False, {"aws_securetransport": "false"}),
    ("IpAddress", "aws:SourceIp", ["192.0.2.0/24", "10.1.0.0/16"], ADDRESS),
    ("IpAddress", "aws:SourceIp", "10.1.2.3", ADDRESS),
    ("IpAddress", "aws:SourceIp", "10.0.0.0/8", {"aws_sourceip": "::ffff:10.1.2.3"}),
    ("IpAddress", "aws:SourceIp", "2001:db8::/32", {"aws_sourceip": "2001:db8::1"}),
    ("NotIpAddress", "aws:SourceIp", ["10.2.0.0/16", "2001:db8::/32"], ADDRESS),
    ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", {}),
    ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::ali*:user/*", ARN),
    ("ArnEquals", "aws:PrincipalArn", "arn:*:iam:*:alice:*", ARN),
    ("ArnNotLike", "aws:PrincipalArn", "arn:*:KEY:a:b:c", ARN),
    ("Null", AGENT, "true", {}),
    ("Null", AGENT, False, TEXT),
    ("ForAllValues:StringEquals", AGENT, "a", {}),
    ("ForAllValues:StringEquals", AGENT, "Curl/8", TEXT),
    ("ForAnyValue:StringNotEquals", AGENT, "a", TEXT),
]
BREAKING = [
    ("StringEquals", AGENT, ["curl/8", "Curl/?"], TEXT),
    ("StringEquals", AGENT, "Curl/8", {}),
    ("StringLike", AGENT, "curl/*", TEXT),
    ("StringNotEquals", AGENT, ["a", "Curl/8"], TEXT),
    ("StringNotLike", AGENT, ["a", "C*"], TEXT),
    ("StringEqualsIfExists", AGENT, "a", TEXT),
    ("NumericLessThan", "s3:signatureAge", "600", SIZE),
    ("NumericLessThan", "s3:signatureAge", "601", {"s3_signatureage": "many"}),
    ("DateLessThan", "aws:CurrentTime", "2026-05-05T12:00:00Z", TIME),
    ("Bool", "aws:SecureTransport", "true", {"aws_securetransport": "false"}),
    ("IpAddress", "aws:SourceIp", "10.1.2.4/32", ADDRESS),
    ("IpAddress", "aws:SourceIp", "10.0.0.0/8", {}),
    ("NotIpAddress", "aws:SourceIp", ["192.0.2.0/24", "10.0.0.0/8"], ADDRESS),
    ("ArnLike", "aws:PrincipalArn", "arn:aws:s3:*:*:*", ARN),
    ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:root", ARN),
    ("Null", AGENT, "true", TEXT),
    ("Null", AGENT, "false", {}),
    ("ForAnyValue:StringEquals", AGENT, "a", {}),
    ("ForAnyValue:StringNotEquals", AGENT, "a", {}),
    ("ForAllValues:StringNotEquals", AGENT, "Curl/8", TEXT),
]
CASES = [(*case, True) for case in HOLDING] + [(*case, False) for case in BREAKING]


@pytest.mark.parametrize(("name", "key", "values", "given_values", "holds"), CASES)
def test_conditions(name: str, key: str, values: Any, given_values: dict[str, str], holds: bool) -> None:
    known = read(statement(**condition(name, key, values)))
    assert known.says(ask(**given_values)) == ("Allow" if holds else "")


@pytest.mark.parametrize(
    ("name", "tags", "holds"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "c"], False),
        ("ForAnyValue:StringEquals", ["a", "c"], True),
        ("ForAnyValue:StringEquals", ["c"], False),
        ("ForAllValues:StringNotEquals", ["a", "c"], False),
        ("ForAnyValue:StringNotEquals", ["a", "c"], True),
        ("ForAllValues:StringEquals", [], True),
    ],
)
def test_conditions_on_several_values(name: str, tags: list[str], holds: bool) -> None:
    elements = condition(name, "s3:RequestObjectTagKeys", ["a", "b"])
    known = read(statement(Action="s3:PutObject", **elements))
    assert known.says(ask(action="s3:PutObject", s3_requestobjecttagkeys=tags)) == ("Allow" if holds else "")


def test_all_conditions_must_hold() -> None:
    block = {"StringEquals": {AGENT: "a", "aws:Referer": "b"}, "Null": {"aws:username": "true"}}
    known = read(statement(Condition=block))
    fitting = {"aws_useragent": "a", "aws_referer": "b"}
    assert known.says(ask(**fitting)) == "Allow"
    for other in ({"aws_useragent": "b"}, {"aws_referer": "a"}, {"aws_username": "u"}):
        assert known.says(ask(**(fitting | other))) == ""


def test_tags_are_asked_for_where_they_matter() -> None:
    tag = condition("StringEquals", "s3:ExistingObjectTag/Class", "open")
    known = read(statement(**tag), statement(Action="s3:PutObject"))
    assert known.asks_for_tags("s3:GetObject")
    assert not known.asks_for_tags("s3:PutObject")
    assert known.says(ask(s3_existingobjecttag__Class="open")) == "Allow"


# Public


@pytest.mark.parametrize(
    ("elements", "public"),
    [
        ({}, True),
        ({"Principal": {"AWS": ["alice", "*"]}}, True),
        ({"Principal": {"AWS": "alice"}}, False),
        ({"Effect": "Deny"}, False),
        (condition("IpAddress", "aws:SourceIp", "10.0.0.0/32"), False),
        (condition("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "2001:db8::/32"]), False),
        (condition("ForAnyValue:IpAddress", "aws:SourceIp", "10.0.0.0/8"), False),
        (condition("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "0.0.0.0/1"]), True),
        (condition("IpAddress", "aws:SourceIp", "2000::/31"), True),
        (condition("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"), True),
        (condition("IpAddressIfExists", "aws:SourceIp", "10.0.0.0/8"), True),
        (condition("ForAllValues:IpAddress", "aws:SourceIp", "10.0.0.0/8"), True),
        (condition("StringEquals", "aws:PrincipalAccount", "alice"), False),
        (condition("StringLike", "aws:PrincipalAccount", "*"), True),
        (condition("ArnLike", "aws:PrincipalArn", "arn:aws:iam::alice:user/KEY"), False),
        (condition("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:user/KEY"), True),
        (condition("StringEquals", "aws:Referer", "https://example.com/"), True),
        (condition("Null", "aws:SourceIp", "false"), True),
    ],
)
def test_which_are_public(elements: dict[str, Any], public: bool) -> None:
    assert read(statement(Principal={"AWS": "bob"}), statement(**elements)).is_public is public
