"""The document of a bucket's policy, from JSON.

It is read strictly: what this server would overlook, it refuses, so that nobody believes in a limit that there is not.
Accounts are the owners of keys, and the users of an account are its access keys:

    "*", {"AWS": "*"}                       everybody, also without a key
    {"AWS": "alice"}, {"CanonicalUser": "alice"}, {"AWS": "arn:aws:iam::alice:root"}
                                            all keys of the account alice
    {"AWS": "arn:aws:iam::alice:user/KEY"}  the access key KEY of the account alice

Source: the IAM user guide, "Grammar of the IAM JSON policy language" and "Policy elements"; the S3 user guide, "Bucket
policies for Amazon S3".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NoReturn

from app.s3.operations import ACTIONS, Level
from app.s3.policy import Policy, Principals, Resources, Statement
from app.s3.policy_conditions import actions_of, read_conditions
from app.s3.policy_patterns import Pattern, malformed, shown

MAX_POLICY = 20_480
"""Bytes of a policy without the spaces between its elements (S3 user guide, "Adding a bucket policy")."""

_VARIABLES_SINCE = "2012-10-17"
_VERSIONS = ("2008-10-17", _VARIABLES_SINCE)

_OF_POLICY = ("Version", "Id", "Statement")
_OF_STATEMENT = (
    *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource"),
    "Condition",
)

_ARN = "arn:aws:s3:::"
_ACTION = re.compile(r"\*|s3:[a-z*?]+", re.IGNORECASE | re.ASCII)
_ACCOUNT = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_WHOLE_ACCOUNT = re.compile(rf"({_ACCOUNT})|arn:aws:iam::({_ACCOUNT}):root")
_USER = re.compile(rf"arn:aws:iam::({_ACCOUNT}):user/([A-Za-z0-9._-]{{1,128}})")


@lru_cache(maxsize=256)
def parse_policy(text: str, bucket: str) -> Policy:
    """The policy of the bucket with this name. Raises S3Error MalformedPolicy."""
    policy = _document(text)
    _only(policy, _OF_POLICY)
    version = policy.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise malformed(f"The policy must contain a valid version string: {' or '.join(_VERSIONS)}.")
    if not isinstance(policy.get("Id", ""), str):
        raise malformed("Id must be a string.")
    if "Statement" not in policy:
        raise malformed("Missing required field Statement")
    listed = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    if not listed:
        raise malformed("Could not parse the policy: Statement is empty!")
    reader = _Reader(bucket, variables=version == _VARIABLES_SINCE)
    statements = [reader.statement(one) for one in listed]
    sids = [one["Sid"] for one in listed if one.get("Sid")]
    if len(set(sids)) < len(sids):
        raise malformed("Each Sid may be that of one statement only.")
    return Policy(statements)


def _document(text: str) -> dict[str, Any]:
    """Numbers stay the text that they are."""
    try:
        document = json.loads(
            text, object_pairs_hook=_pairs, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, RecursionError):
        raise malformed("Policies must be valid JSON, in UTF-8, and the first byte must be '{'") from None
    if not isinstance(document, dict):
        raise malformed("Policies must be valid JSON and the first byte must be '{'")
    if size > MAX_POLICY:
        raise malformed(f"Normalized policy document exceeds the maximum allowed size of {MAX_POLICY} bytes")
    return document


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(name for name in document if sum(other == name for other, _ in pairs) > 1)
        raise malformed(f"Invalid policy syntax: {shown(twice)} stands there twice.")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


class _Reader:
    """Reads the statements of one policy."""

    def __init__(self, bucket: str, *, variables: bool) -> None:
        self._bucket = bucket
        self._variables = variables

    def statement(self, statement: object) -> Statement:
        if not isinstance(statement, dict):
            raise malformed("Invalid policy syntax: a Statement must be an object.")
        _only(statement, _OF_STATEMENT)
        if not isinstance(statement.get("Sid", ""), str):
            raise malformed("Sid must be a string.")
        effect = self._effect(statement)
        principals = self._principals(statement, effect)
        actions, levels = self._actions(statement)
        resources = self._resources(statement, levels)
        conditions = read_conditions(statement.get("Condition", {}), variables=self._variables)
        for condition in conditions:
            meant = actions_of(condition.key)
            if meant is not None and meant.isdisjoint(actions):
                message = "Conditions do not apply to combination of actions and resources in statement"
                raise malformed(f"{message}: {shown(condition.key)}")
        return Statement(effect, principals, actions, resources, conditions)

    @staticmethod
    def _effect(statement: Mapping[str, Any]) -> Literal["Allow", "Deny"]:
        match statement.get("Effect"):
            case "Allow":
                return "Allow"
            case "Deny":
                return "Deny"
            case None:
                raise malformed("Missing required field Effect")
            case other:
                raise malformed(f"Invalid effect: {shown(other)}. It must be Allow or Deny.")

    @staticmethod
    def _principals(statement: Mapping[str, Any], effect: str) -> Principals:
        name, value = _either(statement, "Principal")
        if name != "Principal" and effect == "Allow":
            raise malformed("NotPrincipal must be used with Effect Deny.")
        names: list[str] = []
        if value == "*":
            names = ["*"]
        elif isinstance(value, dict) and value and value.keys() <= {"AWS", "CanonicalUser"}:
            names = [one for kind, listed in value.items() for one in _texts(f"{name} {kind}", listed)]
        else:
            raise malformed(f'Invalid principal in policy: {name} must be "*", or an object with AWS or CanonicalUser.')
        accounts: set[str] = set()
        keys: set[tuple[str, str]] = set()
        for one in names:
            if account := _WHOLE_ACCOUNT.fullmatch(one):
                accounts.add(account[1] or account[2])
            elif user := _USER.fullmatch(one):
                keys.add((user[1], user[2]))
            elif one != "*":
                raise malformed(
                    f"Invalid principal in policy: {shown(one)}. It must be *, an account, arn:aws:iam::ACCOUNT:root "
                    "or arn:aws:iam::ACCOUNT:user/ACCESSKEY."
                )
        return Principals("*" in names, frozenset(accounts), frozenset(keys), inverted=name != "Principal")

    @staticmethod
    def _actions(statement: Mapping[str, Any]) -> tuple[frozenset[str], list[set[Level]]]:
        """The actions, and for each pattern that names some what these are about."""
        name, value = _either(statement, "Action")
        found: set[str] = set()
        levels: list[set[Level]] = []
        for text in _texts(name, value):
            named = _named(text)
            if not named:
                raise malformed(f"Policy has invalid action: this server knows no {shown(text)}.")
            found |= named
            levels.append({ACTIONS[action] for action in named})
        if name == "Action":
            return frozenset(found), levels
        others = frozenset(ACTIONS.keys() - found)
        return others, [{ACTIONS[action] for action in others}]

    def _resources(self, statement: Mapping[str, Any], levels: Collection[set[Level]]) -> Resources:
        """Each of `levels` must have something in common with what the resources are."""
        name, value = _either(statement, "Resource")
        texts = _texts(name, value)
        held: set[Level] = set()
        for text in texts:
            rest = text.removeprefix(f"{_ARN}{self._bucket}")
            if rest == text or rest[:1] not in ("", "/", "*"):
                wanted = f"{_ARN}{self._bucket} or {_ARN}{self._bucket}/KEY"
                raise malformed(f"Policy has invalid resource: {shown(text)}. It must be {wanted}.")
            held |= {"bucket"} if rest == "" else {"object"} if rest[0] == "/" else {"bucket", "object"}
        if name == "Resource" and not all(held & one for one in levels):
            raise malformed("Action does not apply to any resource(s) in statement")
        patterns = tuple(
            Pattern.read(text.removeprefix(_ARN), wildcards=True, variables=self._variables) for text in texts
        )
        return Resources(patterns, inverted=name != "Resource")


def _named(text: str) -> frozenset[str]:
    if not _ACTION.fullmatch(text):
        return frozenset()
    pattern = Pattern.read(text, wildcards=True, variables=False, ignore_case=True)
    return frozenset(action for action in ACTIONS if pattern.matches(action, lambda _: None))


def _either(statement: Mapping[str, Any], name: str) -> tuple[str, Any]:
    """An element, or its opposite, and which of them there is."""
    inverted = f"Not{name}"
    if name in statement and inverted in statement:
        raise malformed(f"Invalid policy syntax: a statement has {name} or {inverted}, not both.")
    if name not in statement and inverted not in statement:
        raise malformed(f"Missing required field {name}")
    return (name, statement[name]) if name in statement else (inverted, statement[inverted])


def _texts(name: str, value: object) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    texts = [text for text in listed if isinstance(text, str)]
    if not texts or len(texts) < len(listed):
        raise malformed(f"Invalid policy syntax: {name} must be a string, or a list of strings.")
    return texts


def _only(element: Mapping[str, Any], names: Collection[str]) -> None:
    if unknown := [name for name in element if name not in names]:
        raise malformed(f"Unknown field {shown(unknown[0])}. There are {', '.join(names)}.")
