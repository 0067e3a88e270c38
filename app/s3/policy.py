"""The policy of a bucket, read already: what it says of a request, and whether it is public.

Source: the IAM user guide, "Policy evaluation logic"; the S3 user guide, "The meaning of public".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app.s3.policy_conditions import EXISTING_TAG, Condition, Presence
from app.s3.policy_patterns import Lookup, Pattern
from app.store.access import Caller

Verdict = Literal["Allow", "Deny", ""]
"""Empty where a policy says nothing."""


@dataclass(frozen=True, slots=True)
class Principals:
    """Who a statement is about: everybody, all keys of some accounts, and single keys as (account, access key).
    `inverted`: everybody but these."""

    everybody: bool
    accounts: frozenset[str]
    keys: frozenset[tuple[str, str]]
    inverted: bool = False

    def have(self, caller: Caller) -> bool:
        """Somebody without a key is among everybody only."""
        named = self.everybody or caller.owner in self.accounts or (caller.owner, user_of(caller)) in self.keys
        return named is not self.inverted


@dataclass(frozen=True, slots=True)
class Resources:
    """What a statement is about: patterns of `bucket` or `bucket/key`. `inverted`: all but these."""

    patterns: tuple[Pattern, ...]
    inverted: bool = False

    def have(self, resource: str, lookup: Lookup) -> bool:
        return any(pattern.matches(resource, lookup) for pattern in self.patterns) is not self.inverted


@dataclass(frozen=True, slots=True)
class Ask:
    """Whether somebody may do `action` with `resource`, which is `bucket` or `bucket/key`."""

    caller: Caller
    action: str
    resource: str
    lookup: Lookup


@dataclass(frozen=True, slots=True)
class Statement:
    effect: Literal["Allow", "Deny"]
    principals: Principals
    actions: frozenset[str]
    resources: Resources
    conditions: tuple[Condition | Presence, ...]

    def applies(self, ask: Ask) -> bool:
        return (
            ask.action in self.actions
            and self.principals.have(ask.caller)
            and self.resources.have(ask.resource, ask.lookup)
            and all(condition.holds(ask.lookup) for condition in self.conditions)
        )

    @property
    def is_public(self) -> bool:
        """Whether it allows something to whoever comes, from wherever."""
        named = not self.principals.everybody or any(condition.narrows for condition in self.conditions)
        return self.effect == "Allow" and not named


def user_of(caller: Caller) -> str:
    """His access key; empty where he has none, and for the root key, which is its account itself."""
    return "" if caller.is_root else caller.key_id


class Policy:
    def __init__(self, statements: Iterable[Statement]) -> None:
        self._statements = tuple(sorted(statements, key=lambda one: one.effect, reverse=True))
        self._tagged = frozenset(action for one in self._statements if _asks_for_tags(one) for action in one.actions)
        self.is_public = any(one.is_public for one in self._statements)

    def says(self, ask: Ask) -> Verdict:
        """What denies counts before what allows."""
        return next((one.effect for one in self._statements if one.applies(ask)), "")

    def asks_for_tags(self, action: str) -> bool:
        """Whether what it says of this action may depend on the tags that the object has."""
        return action in self._tagged


def _asks_for_tags(statement: Statement) -> bool:
    return any(condition.key.startswith(EXISTING_TAG) for condition in statement.conditions)
