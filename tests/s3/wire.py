"""Requests that no SDK would send, and what clients get to hear."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.e2e.helpers import result_of
from tests.s3.conftest import ROOT
from tests.s3.signing import client
from tests.support import Server


def send(
    server: Server,
    request: str,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
    keys: tuple[str, str] | None = ROOT,
) -> httpx.Response:
    """A request as "PUT /bucket/key?query", signed by these keys or by none; header values go out in UTF-8."""
    method, _, target = request.partition(" ")
    path, mark, query = target.partition("?")
    signed = AWSRequest(method, server.s3_url + quote(path, safe="/~%") + mark + query, dict(headers or {}), content)
    signed.context = {"payload_signing_enabled": True}
    if keys:
        S3SigV4Auth(Credentials(*keys), "s3", "us-east-1").add_auth(signed)
    raw = [(name.encode(), str(value).encode()) for name, value in signed.headers.items()]
    return client().request(method, signed.url, content=content, headers=raw)


def new_key(server: Server, *words: object) -> tuple[str, str]:
    """Make an access key, as `mini-s3 key create` with these words does."""
    where = ("--mongo-url", server.mongo_url, "--mongo-database", server.mongo_database, "--data-dir", server.data_dir)
    made = result_of("key", "create", *where, *words)
    return made["accessKey"], made["secretKey"]


def code_in(answer: httpx.Response) -> str:
    """The code of an error document."""
    found = re.search("<Code>(.*?)</Code>", answer.text)
    assert found, answer.text
    return found[1]


@contextmanager
def error(code: str, status: int) -> Iterator[None]:
    """A client hears of this error."""
    with pytest.raises(ClientError) as caught:
        yield
    told = caught.value.response
    assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), told
