"""Uploads by a browser's form: the policy in it, which says what else the form may hold, and its signature.

Source: the S3 API reference, "Browser-Based Uploads Using POST (AWS Signature Version 4)" and "POST Policy". Names of
fields, and of kinds of conditions, are the same in upper and lower case.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from app.s3.errors import S3Error
from app.s3.sigkey import (
    ALGORITHM,
    PARAMETER,
    Credential,
    format_basic,
    mismatch,
    parse_basic,
    parse_extended,
    same,
    sign,
)

_EXEMPT = frozenset({"x-amz-signature", "file", "policy"})
_EXEMPT_PREFIX = "x-ignore-"

_NUMBER = re.compile(r"[0-9]{1,19}")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BEYOND_JSON = {"$": "$", "v": r"\u000b"}
"""Escapes that the reference allows in a policy, but JSON does not."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`kind` is eq or starts-with; `field` is in lower case and has no dollar sign. `shown` is for messages.

    Of a list of media types each must start with the value.
    """

    kind: str
    field: str
    value: str
    shown: str

    def holds(self, given: str) -> bool:
        if self.kind == "eq":
            return given == self.value
        values = given.split(",") if self.field == "content-type" else [given]
        return all(value.startswith(self.value) for value in values)


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Bytes that the file may have, both included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy as the form holds it, in base64: `text` is what its signature covers."""

    text: str
    expiration: datetime
    conditions: tuple[Condition, ...]
    sizes: tuple[SizeRange, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises S3Error: InvalidPolicyDocument."""
        document = _document(text)
        if not isinstance(document, dict):
            raise _invalid("It is to be a JSON object.")
        expiration = document.get("expiration")
        moment = parse_extended(expiration) if isinstance(expiration, str) else None
        if moment is None:
            raise _invalid("It is to have an 'expiration' like 2013-08-01T12:00:00.000Z.")
        entries = document.get("conditions")
        if not isinstance(entries, list):
            raise _invalid("It is to have a list of 'conditions'.")
        found = [one for place, entry in enumerate(entries, 1) for one in _entry(place, entry)]
        return cls(
            text,
            moment,
            tuple(one for one in found if isinstance(one, Condition)),
            tuple(one for one in found if isinstance(one, SizeRange)),
        )

    def verify(self, fields: Mapping[str, str], secret: str, now: datetime, region: str) -> datetime:
        """When this policy was signed, with the secret of the key that `access_key` found; it is still good.

        Raises S3Error: SignatureDoesNotMatch, AccessDenied, InvalidArgument, AuthorizationQueryParametersError.
        """
        given = _lower(fields)
        credential = _credential(given)
        moment = parse_basic(_need(given, "X-Amz-Date"))
        if moment is None:
            raise S3Error("InvalidArgument", "X-Amz-Date must be in the ISO8601 format yyyyMMdd'T'HHmmss'Z'.")
        credential.check(format_basic(moment), region)
        signature = _need(given, "X-Amz-Signature")
        if not same(sign(credential.signing_key(secret), self.text.encode()), signature):
            raise mismatch(AWSAccessKeyId=credential.access_key, StringToSign=self.text, SignatureProvided=signature)
        if now >= self.expiration:
            raise S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
        return moment

    def check(self, fields: Mapping[str, str], bucket: str, key: str, size: int | None) -> None:
        """Whether the form is one that the policy allows. `key` is that of the object, with the file's name in it.

        `size` is in bytes, None where the file was not read yet; then `check_size` is to follow. Raises S3Error:
        AccessDenied, EntityTooLarge, EntityTooSmall.
        """
        given = _lower(fields) | {"bucket": bucket, "key": key}
        covered = {condition.field for condition in self.conditions}
        extra = [
            name
            for name in given
            if name not in covered and name not in _EXEMPT and not name.startswith(_EXEMPT_PREFIX)
        ]
        if extra:
            raise S3Error("AccessDenied", f"Invalid according to Policy: Extra input fields: {', '.join(extra)}")
        for condition in self.conditions:
            if not condition.holds(given.get(condition.field, "")):
                raise S3Error(
                    "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {condition.shown}"
                )
        if size is not None:
            self.check_size(size)

    @property
    def max_size(self) -> int | None:
        """Bytes that the file may have at the most; None where the policy does not say."""
        return min((one.most for one in self.sizes), default=None)

    def check_size(self, size: int) -> None:
        """Raises S3Error: EntityTooLarge, EntityTooSmall."""
        for one in self.sizes:
            if size > one.most:
                raise S3Error(
                    "EntityTooLarge",
                    "Your proposed upload exceeds the maximum allowed size",
                    ProposedSize=str(size),
                    MaxSizeAllowed=str(one.most),
                )
            if size < one.least:
                raise S3Error(
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    ProposedSize=str(size),
                    MinSizeAllowed=str(one.least),
                )


def access_key(fields: Mapping[str, str]) -> str:
    """The key that a form with a policy says it is signed with.

    Raises S3Error: InvalidArgument, InvalidRequest, AuthorizationQueryParametersError.
    """
    return _credential(_lower(fields)).access_key


def _credential(given: Mapping[str, str]) -> Credential:
    if "awsaccesskeyid" in given or ("x-amz-algorithm" in given and given["x-amz-algorithm"] != ALGORITHM):
        raise S3Error(
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
        )
    _need(given, "X-Amz-Algorithm")
    return Credential.parse(_need(given, "X-Amz-Credential"), PARAMETER)


def _need(given: Mapping[str, str], name: str) -> str:
    if name.lower() not in given:
        raise S3Error(
            "InvalidArgument",
            f"Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the "
            "fields.",
            ArgumentName=name,
        )
    return given[name.lower()]


def _lower(fields: Mapping[str, str]) -> dict[str, str]:
    given = {name.lower(): value for name, value in fields.items()}
    if len(given) < len(fields):
        raise S3Error("InvalidArgument", "The form has a field twice, in upper and in lower case.")
    return given


def _document(text: str) -> Any:
    """The policy's JSON."""
    try:
        plain = b64decode("".join(text.split()), validate=True).decode()
        return json.loads(_ESCAPE.sub(lambda match: _BEYOND_JSON.get(match[1], match[0]), plain))
    except (ValueError, RecursionError):
        raise _invalid("It is to be JSON, in UTF-8, in base64.") from None


def _entry(place: int, entry: object) -> list[Condition | SizeRange]:
    """An entry of the list of conditions: {"field": "value"} or [kind, "$field", "value"]."""
    match entry:
        case {**pairs} if pairs:
            return [one for name, value in pairs.items() for one in _entry(place, ["eq", f"${name}", value])]
        case [str(kind), least, most] if kind.lower() == "content-length-range":
            return [SizeRange(_number(least), _number(most))]
        case [str(kind), str(field), str(value)] if kind.lower() in ("eq", "starts-with") and field.startswith("$"):
            return [_condition(kind.lower(), field, value)]
        case _:
            raise _invalid(f"Number {place} of its conditions is none.")


def _condition(kind: str, field: str, value: str) -> Condition:
    return Condition(kind, field[1:].lower(), value, json.dumps([kind, field, value]))


def _number(value: object) -> int:
    text = str(value) if isinstance(value, int | str) else ""
    if not _NUMBER.fullmatch(text):
        raise _invalid("A content-length-range is to have two numbers of bytes.")
    return int(text)


def _invalid(message: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {message}")
