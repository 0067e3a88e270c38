"""What tests of the S3 protocol share: the requests of the S3 API reference, and what a refusal looks like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from app.s3.errors import S3Error
from app.s3.sigrequest import SignedRequest

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
STAMP = "20130524T000000Z"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = f"20130524/{REGION}/s3/aws4_request"
HOST = "examplebucket.s3.amazonaws.com"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def request(method: str, target: str, headers: dict[str, str]) -> SignedRequest:
    path, _, query = target.partition("?")
    return SignedRequest(
        method, path.encode(), query.encode(), [(name.encode(), value.encode()) for name, value in headers.items()]
    )


def authorization_header(signed_headers: str, signature: str, scope: str = SCOPE) -> str:
    return f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},SignedHeaders={signed_headers},Signature={signature}"


@contextmanager
def refused(code: str, message: str = "", **details: str) -> Iterator[None]:
    """With this code, `message` in its message, and these among its details."""
    with pytest.raises(S3Error) as caught:
        yield
    assert caught.value.code == code, caught.value.message
    assert message in caught.value.message
    assert caught.value.details.items() >= details.items()
