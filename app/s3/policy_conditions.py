"""Conditions of bucket policies: keys, operators, and when a condition holds.

Source: the IAM user guide, "Policy elements: Condition operators" and "Conditions with multiple context keys or
values"; the Service Authorization Reference, "Condition keys for Amazon S3".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, TypeVar

from app.s3.operations import ACTIONS
from app.s3.policy_patterns import Lookup, Pattern, malformed, shown

Kind = Literal["text", "number", "moment", "flag", "address", "arn"]
Quantifier = Literal["", "ForAllValues", "ForAnyValue"]
Test = Callable[[str, Lookup], bool]
"""Whether a value of a request, in text, is as one of the policy's says."""

T = TypeVar("T", Decimal, datetime)

_EACH_TAG = ("s3:existingobjecttag", "s3:requestobjecttag")
"""Keys that go on with a slash and the name of a tag."""

EXISTING_TAG = _EACH_TAG[0]

_OF_OBJECTS = frozenset(action for action, level in ACTIONS.items() if level == "object")
_UPLOADS = frozenset({"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"})
_LISTS = frozenset({"s3:ListBucket", "s3:ListBucketVersions"})
_PUTS = frozenset({"s3:PutObject"})
_ACLS = _PUTS | {"s3:PutObjectAcl", "s3:PutObjectVersionAcl", "s3:PutBucketAcl"}
_TAGS = _PUTS | {"s3:PutObjectTagging", "s3:PutObjectVersionTagging"}


@dataclass(frozen=True, slots=True)
class Key:
    """What a condition key may be compared as, and the actions that it says something of: all where that is None.
    `many`: it may have several values."""

    kinds: tuple[Kind, ...]
    actions: frozenset[str] | None = None
    many: bool = False


_TEXT: tuple[Kind, ...] = ("text",)

_GRANTS = ("full-control", "read", "write", "read-acp", "write-acp")

KEYS: Mapping[str, Key] = {
    **dict.fromkeys(("aws:username", "aws:principalaccount", "aws:principaltype"), Key(_TEXT)),
    **dict.fromkeys(("aws:referer", "aws:useragent"), Key(_TEXT)),
    **dict.fromkeys(("s3:authtype", "s3:signatureversion", "s3:x-amz-content-sha256"), Key(_TEXT)),
    "aws:principalarn": Key(("text", "arn")),
    "aws:sourceip": Key(("address",)),
    "aws:securetransport": Key(("flag", "text")),
    "aws:currenttime": Key(("moment",)),
    "aws:epochtime": Key(("moment", "number")),
    "s3:signatureage": Key(("number",)),
    "s3:prefix": Key(_TEXT, _LISTS),
    "s3:delimiter": Key(_TEXT, _LISTS),
    "s3:max-keys": Key(("number",), _LISTS),
    "s3:versionid": Key(_TEXT, frozenset(action for action in _OF_OBJECTS if "Version" in action)),
    EXISTING_TAG: Key(_TEXT, _OF_OBJECTS - _UPLOADS),
    "s3:requestobjecttag": Key(_TEXT, _TAGS),
    "s3:requestobjecttagkeys": Key(_TEXT, _TAGS, many=True),
    **dict.fromkeys(("s3:x-amz-acl", *(f"s3:x-amz-grant-{name}" for name in _GRANTS)), Key(_TEXT, _ACLS)),
    "s3:x-amz-copy-source": Key(_TEXT, _PUTS),
    "s3:x-amz-metadata-directive": Key(_TEXT, _PUTS),
    "s3:x-amz-storage-class": Key(_TEXT, _PUTS),
    "s3:x-amz-server-side-encryption": Key(_TEXT, _PUTS),
}
"""By their names in lower case."""

_PRINCIPALS = ("aws:principalaccount", "aws:principalarn")
_BROADEST = {4: 8, 6: 32}
"""Bits of a prefix, by version of IP: addresses that have less in common are anybody's (S3 user guide, "The meaning
of public")."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Of a key's values, those that a request has are compared with those of the policy. `narrows`: it holds only for
    callers that the policy names, or for addresses of a network."""

    key: str
    tests: tuple[Test, ...]
    negated: bool
    quantifier: Quantifier
    if_exists: bool
    narrows: bool

    def holds(self, lookup: Lookup) -> bool:
        values = lookup(self.key)
        if not values:
            absent = {"": self.negated, "ForAllValues": True, "ForAnyValue": False}
            return self.if_exists or absent[self.quantifier]
        passed = (any(test(value, lookup) for test in self.tests) is not self.negated for value in values)
        return any(passed) if self.quantifier == "ForAnyValue" else all(passed)


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a request has a key at all: the operator Null."""

    key: str
    absent: bool
    narrows: bool = False

    def holds(self, lookup: Lookup) -> bool:
        return (not lookup(self.key)) is self.absent


def read_conditions(block: object, *, variables: bool) -> tuple[Condition | Presence, ...]:
    """From the element Condition of a statement. Raises S3Error MalformedPolicy."""
    if not isinstance(block, dict):
        raise malformed("Condition must be an object of operators.")
    conditions: list[Condition | Presence] = []
    for name, compared in block.items():
        if not isinstance(compared, dict) or not compared:
            raise malformed(f"The operator {shown(name)} needs an object of condition keys and their values.")
        conditions += [_condition(name, key, _values(key, values), variables) for key, values in compared.items()]
    return tuple(conditions)


def actions_of(key: str) -> frozenset[str] | None:
    """The actions that a key of a condition says something of; None for all."""
    return KEYS[_plain(key)].actions


def _values(key: str, values: object) -> list[str]:
    listed = values if isinstance(values, list) else [values]
    texts = [one if isinstance(one, str) else str(one).lower() for one in listed if isinstance(one, str | bool)]
    if not texts or len(texts) < len(listed):
        raise malformed(f"The condition key {shown(key)} needs a value, or a list of values.")
    return texts


def _condition(name: str, key: str, values: Sequence[str], variables: bool) -> Condition | Presence:
    known, found = _key(key)
    if name == "Null":
        return Presence(known, _flag_of_null(values))
    prefix, colon, rest = name.rpartition(":")
    if colon and prefix not in ("ForAllValues", "ForAnyValue"):
        raise _no_operator(name)
    quantifier: Quantifier = "ForAllValues" if prefix == "ForAllValues" else "ForAnyValue" if colon else ""
    base = rest.removesuffix("IfExists")
    if base not in _OPERATORS:
        raise _no_operator(name)
    one = _OPERATORS[base]
    if one.kind not in found.kinds:
        raise malformed(f"The operator {name} does not go with the condition key {shown(key)}.")
    if found.many and not quantifier:
        raise malformed(f"The condition key {key} has many values: use ForAllValues:{name} or ForAnyValue:{name}.")
    if_exists = base != rest
    sure = not (one.negated or if_exists or quantifier == "ForAllValues")
    narrows = sure and _narrows(known, one.kind, values)
    tests = tuple(one.read(value, variables) for value in values)
    return Condition(known, tests, one.negated, quantifier, if_exists, narrows)


def _key(key: str) -> tuple[str, Key]:
    """The key in lower case, but for the name of a tag, and what is known of it."""
    name, slash, tag = key.partition("/")
    found = KEYS.get(name.lower())
    if found is None or (name.lower() in _EACH_TAG) != bool(slash and tag) or (slash and not tag):
        raise malformed(f"Policy has an invalid condition key: this server knows no {shown(key)}.")
    return f"{name.lower()}{slash}{tag}", found


def _plain(key: str) -> str:
    return key.partition("/")[0]


def _no_operator(name: str) -> Exception:
    known = ", ".join([*_OPERATORS, "Null"])
    return malformed(f"Invalid Condition type : {shown(name)}. It must be one of {known}.")


def _flag_of_null(values: Sequence[str]) -> bool:
    if len(values) != 1 or values[0].lower() not in ("true", "false"):
        raise malformed("The operator Null needs true or false.")
    return values[0].lower() == "true"


def _narrows(key: str, kind: Kind, values: Sequence[str]) -> bool:
    if key == "aws:sourceip":
        return all(network.prefixlen >= _BROADEST[network.version] for network in map(_network, values))
    return key in _PRINCIPALS and kind in ("text", "arn") and not any(one in text for text in values for one in "*?$")


# Operators


@dataclass(frozen=True, slots=True)
class _Operator:
    """`read` makes a test of a value, for a policy in which variables are known or not; it raises S3Error
    MalformedPolicy."""

    kind: Kind
    read: Callable[[str, bool], Test]
    negated: bool = False


def _text(*, wildcards: bool = False, ignore_case: bool = False) -> Callable[[str, bool], Test]:
    def read(value: str, variables: bool) -> Test:
        return Pattern.read(value, wildcards=wildcards, variables=variables, ignore_case=ignore_case).matches

    return read


def _ordered(parse: Callable[[str], T | None], compare: Callable[[T, T], bool]) -> Callable[[str, bool], Test]:
    def read(value: str, _: bool) -> Test:
        wanted = parse(value)
        if wanted is None:
            raise malformed(f"{shown(value)} is no value for its operator: it must be a number, or a date in ISO 8601.")

        def test(given: str, _: Lookup) -> bool:
            found = parse(given)
            return found is not None and compare(found, wanted)

        return test

    return read


_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?", re.ASCII)
_EPOCH = re.compile(r"-?[0-9]{1,11}", re.ASCII)
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?"
)


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _moment(text: str) -> datetime | None:
    try:
        if _EPOCH.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
        if _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _bool(value: str, _: bool) -> Test:
    if value.lower() not in ("true", "false"):
        raise malformed(f"{shown(value)} is no value for Bool: it must be true or false.")
    return lambda given, _: given == value.lower()


@lru_cache(maxsize=1024)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address is one also where it came through a socket for both; None where the text is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise malformed(f"Invalid IP address in Conditions: {shown(text)}") from None


def _address(value: str, _: bool) -> Test:
    network = _network(value)

    def test(given: str, _: Lookup) -> bool:
        address = parse_address(given)
        return address is not None and address in network

    return test


def _arn(value: str, variables: bool) -> Test:
    """Each of the six parts of an ARN is compared for itself."""
    parts = value.split(":", 5)
    if len(parts) != 6:
        raise malformed(f"{shown(value)} is no ARN: it must have six parts with colons between.")
    patterns = [Pattern.read(part, wildcards=True, variables=variables) for part in parts]

    def test(given: str, lookup: Lookup) -> bool:
        found = given.split(":", 5)
        return len(found) == 6 and all(
            pattern.matches(part, lookup) for pattern, part in zip(patterns, found, strict=True)
        )

    return test


def _all_ordered(name: str, kind: Kind, parse: Callable[[str], T | None]) -> dict[str, _Operator]:
    compared = {
        "Equals": operator.eq,
        "LessThan": operator.lt,
        "LessThanEquals": operator.le,
        "GreaterThan": operator.gt,
        "GreaterThanEquals": operator.ge,
    }
    operators = {f"{name}{word}": _Operator(kind, _ordered(parse, compare)) for word, compare in compared.items()}
    return operators | {f"{name}NotEquals": _Operator(kind, _ordered(parse, operator.eq), negated=True)}


_OPERATORS: Mapping[str, _Operator] = {
    "StringEquals": _Operator("text", _text()),
    "StringNotEquals": _Operator("text", _text(), negated=True),
    "StringEqualsIgnoreCase": _Operator("text", _text(ignore_case=True)),
    "StringNotEqualsIgnoreCase": _Operator("text", _text(ignore_case=True), negated=True),
    "StringLike": _Operator("text", _text(wildcards=True)),
    "StringNotLike": _Operator("text", _text(wildcards=True), negated=True),
    **_all_ordered("Numeric", "number", _number),
    **_all_ordered("Date", "moment", _moment),
    "Bool": _Operator("flag", _bool),
    "IpAddress": _Operator("address", _address),
    "NotIpAddress": _Operator("address", _address, negated=True),
    **dict.fromkeys(("ArnEquals", "ArnLike"), _Operator("arn", _arn)),
    **dict.fromkeys(("ArnNotEquals", "ArnNotLike"), _Operator("arn", _arn, negated=True)),
}
