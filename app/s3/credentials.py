"""The key that a request names, and its secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from app.errors import KeyDisabled, KeyExpired, UnknownKey
from app.s3.errors import S3Error
from app.store.access import Access, Credentials

T = TypeVar("T")


async def find_credentials(access: Access, access_key: str) -> Credentials:
    """Raises S3Error InvalidAccessKeyId."""
    try:
        return await access.credentials(access_key)
    except (UnknownKey, KeyDisabled, KeyExpired) as error:
        raise S3Error("InvalidAccessKeyId", error.message, AWSAccessKeyId=access_key) from error


def by_any(secrets: Iterable[str], verify: Callable[[str], T]) -> T:
    """What `verify` gives for the secret that is right: while one is being replaced, two are good. Raises what it
    raises."""
    *others, last = secrets
    for secret in others:
        try:
            return verify(secret)
        except S3Error as error:
            if error.code != "SignatureDoesNotMatch":
                raise
    return verify(last)
