"""Continuation tokens: where a list goes on, as text that clients only hand back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from app.s3.errors import S3Error


def to_token(place: str) -> str:
    """ASCII that needs no escape in a query or in XML."""
    return urlsafe_b64encode(place.encode()).decode()


def from_token(token: str) -> str:
    """What `to_token` was given. Raises S3Error InvalidArgument."""
    try:
        place = urlsafe_b64decode(token.encode()).decode()
    except ValueError:
        place = ""
    if to_token(place) != token:
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
            ArgumentValue=token[:100],
        )
    return place
