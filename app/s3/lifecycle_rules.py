"""Lifecycle rules as S3 writes them (PutBucketLifecycleConfiguration of the API reference; S3 user guide, "Lifecycle
configuration elements"). What neither names an error for is refused as S3 was seen to refuse it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from app.models.lifecycle import Filter, Rule
from app.s3.errors import S3Error
from app.s3.tagging import OBJECT_TAGS, checked_tags
from app.s3.xml import Element, Value, parse

MAX_CONFIGURATION = 1 << 20
"""Bytes of a configuration."""
MAX_RULES = 1000
MAX_ID = 255
"""Characters of a rule's ID."""
MAX_NEWER = 100
"""Noncurrent versions that a rule may keep."""
MAX_SIZE = 1_099_511_627_776_000
"""Bytes that a filter may ask for."""

_MAX_DAYS = (1 << 31) - 1
_STATUS = {"Enabled": True, "Disabled": False}
_PREDICATES = ("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
_TRANSITIONS = ("Transition", "NoncurrentVersionTransition")
_ACTIONS = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")


def read_rules(body: bytes) -> list[Rule]:
    """The rules of a configuration; those without an ID get one. Raises S3Error MalformedXML, InvalidRequest,
    InvalidArgument, InvalidTag, NotImplemented."""
    root = parse(body, "LifecycleConfiguration", MAX_CONFIGURATION)
    root.only("Rule")
    if not root.children:
        raise S3Error("InvalidRequest", "At least one lifecycle rule must be specified.")
    if len(root.children) > MAX_RULES:
        message = f"The number of lifecycle rules must not exceed the allowed limit of {MAX_RULES} rules."
        raise S3Error("InvalidRequest", message)
    rules = list(map(_read, root.children))
    _check_together(rules)
    return rules


def written_rule(rule: Rule) -> Mapping[str, Value]:
    """The content of a Rule, as it was read."""
    noncurrent, days = rule.noncurrent_days, rule.upload_days
    expiration = {"Date": rule.date, "Days": rule.days, "ExpiredObjectDeleteMarker": rule.lone_markers}
    return {
        "ID": rule.id,
        **({"Prefix": rule.filter.prefix} if rule.legacy else {"Filter": _written_filter(rule.filter)}),
        "Status": next(status for status, enabled in _STATUS.items() if enabled == rule.enabled),
        "Expiration": expiration if any(value is not None for value in expiration.values()) else None,
        "NoncurrentVersionExpiration": None
        if noncurrent is None
        else {"NoncurrentDays": noncurrent, "NewerNoncurrentVersions": rule.newer_noncurrent},
        "AbortIncompleteMultipartUpload": None if days is None else {"DaysAfterInitiation": days},
    }


def _written_filter(wanted: Filter) -> Mapping[str, Value]:
    tags: list[Value] = [{"Key": name, "Value": value} for name, value in wanted.tags]
    values: tuple[Value, ...] = (wanted.prefix, tags or None, wanted.over, wanted.under)
    predicates = {name: value for name, value in zip(_PREDICATES, values, strict=True) if value is not None}
    return {"And": predicates} if len(predicates) - bool(tags) + len(tags) > 1 else predicates


# Reading


def _read(element: Element) -> Rule:
    element.only("ID", "Status", "Prefix", "Filter", *_ACTIONS, *_TRANSITIONS)
    for name in _TRANSITIONS:
        if element.all(name):
            raise S3Error("NotImplemented", f"{name} is not implemented: there is one storage class here.")
    rule = Rule(
        element.maybe_text("ID") or str(uuid4()),
        _STATUS[element.choice("Status", tuple(_STATUS))],
        _filter(element),
        legacy=element.maybe("Prefix") is not None,
        **_expiration(element.maybe("Expiration")),
        **_noncurrent(element.maybe("NoncurrentVersionExpiration")),
        **_abortion(element.maybe("AbortIncompleteMultipartUpload")),
    )
    _check(element, rule)
    return rule


def _filter(rule: Element) -> Filter:
    wanted = rule.maybe("Filter")
    if (wanted is None) == (rule.maybe("Prefix") is None):
        raise _malformed("A Rule needs a Filter, or else a Prefix.")
    if wanted is None:
        return Filter(rule.text("Prefix"))
    wanted.only(*_PREDICATES, "And")
    if len(wanted.children) > 1:
        raise _malformed("What a Filter asks for beside something else stands in an And.")
    several = wanted.maybe("And")
    if several is None:
        return _predicates(wanted)
    several.only(*_PREDICATES)
    if len(several.children) < 2:
        raise _malformed("An And asks for two things or more.")
    return _predicates(several)


def _predicates(element: Element) -> Filter:
    over = _size(element, "ObjectSizeGreaterThan", 0)
    under = _size(element, "ObjectSizeLessThan", 1)
    if over is not None and under is not None and over >= under:
        message = "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."
        raise S3Error("InvalidRequest", message)
    return Filter(element.maybe_text("Prefix"), _tags(element.all("Tag")), over, under)


def _tags(elements: Sequence[Element]) -> Sequence[Sequence[str]]:
    """One without a value is one whose value is empty."""
    for element in elements:
        element.only("Key", "Value")
    pairs = [(element.text("Key"), element.maybe_text("Value") or "") for element in elements]
    if len({name for name, _ in pairs}) < len(pairs):
        raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    return [list(pair) for pair in checked_tags(pairs, OBJECT_TAGS).items()]


def _size(element: Element, name: str, least: int) -> int | None:
    size = element.maybe_integer(name)
    if size is not None and not least <= size <= MAX_SIZE:
        raise S3Error("InvalidRequest", f"'{name}' should be between {least} and {MAX_SIZE}.")
    return size


def _expiration(element: Element | None) -> dict[str, Any]:
    if element is None:
        return {}
    element.only("Date", "Days", "ExpiredObjectDeleteMarker")
    if len(element.children) != 1:
        raise _malformed("An Expiration needs a Date, or Days, or an ExpiredObjectDeleteMarker, and only one of them.")
    if element.maybe("Days"):
        return {"days": _count(element, "Days")}
    if element.maybe("Date"):
        return {"date": _date(element)}
    return {"lone_markers": element.flag("ExpiredObjectDeleteMarker")}


def _date(element: Element) -> datetime:
    try:
        date = element.moment("Date").astimezone(UTC)
    except OverflowError:
        raise _malformed("The Date is beyond all calendars.") from None
    if (date.hour, date.minute, date.second, date.microsecond) != (0, 0, 0, 0):
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    return date


def _noncurrent(element: Element | None) -> dict[str, Any]:
    if element is None:
        return {}
    element.only("NoncurrentDays", "NewerNoncurrentVersions")
    newer = None
    if element.maybe("NewerNoncurrentVersions"):
        newer = _count(element, "NewerNoncurrentVersions")
        if newer > MAX_NEWER:
            raise S3Error("InvalidArgument", f"'NewerNoncurrentVersions' must be from 1 to {MAX_NEWER}.")
    return {"noncurrent_days": _count(element, "NoncurrentDays"), "newer_noncurrent": newer}


def _abortion(element: Element | None) -> dict[str, Any]:
    if element is None:
        return {}
    element.only("DaysAfterInitiation")
    return {"upload_days": _count(element, "DaysAfterInitiation")}


def _count(element: Element, name: str) -> int:
    count = element.integer(name)
    if count > _MAX_DAYS:
        raise _malformed(f"{name} must be up to {_MAX_DAYS}.")
    if count < 1:
        raise S3Error("InvalidArgument", f"'{name}' for {element.name} action must be a positive integer")
    return count


# What goes together


def _check(element: Element, rule: Rule) -> None:
    if len(rule.id) > MAX_ID:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {MAX_ID}")
    if not any(map(element.maybe, _ACTIONS)):
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    choosy = {
        "ExpiredObjectDeleteMarker": rule.lone_markers is not None,
        "AbortIncompleteMultipartUpload": rule.upload_days is not None,
    }
    for name in (name for name, is_there in choosy.items() if is_there):
        if rule.filter.tags:
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Tags.")
        if (rule.filter.over, rule.filter.under) != (None, None):
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Object Size.")


def _check_together(rules: Sequence[Rule]) -> None:
    if len({rule.id for rule in rules}) < len(rules):
        ((twice, _),) = Counter(rule.id for rule in rules).most_common(1)
        message = "Rule ID must be unique. Found same ID for more than one rule"
        raise S3Error("InvalidArgument", message, ArgumentName="ID", ArgumentValue=twice)
    legacy = rules[0].legacy
    if any(rule.legacy != legacy for rule in rules):
        message = "Base level prefix cannot be used in Lifecycle V2, prefixes are only supported in the Filter."
        raise S3Error("InvalidRequest", "Filter element can only be used in Lifecycle V2." if legacy else message)
    if legacy and any(rule.newer_noncurrent for rule in rules):
        raise S3Error("InvalidRequest", "NewerNoncurrentVersions element can only be used in Lifecycle V2.")


def _malformed(reason: str) -> S3Error:
    return S3Error("MalformedXML", reason)
