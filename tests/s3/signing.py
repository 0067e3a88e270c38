"""Requests that botocore signs, and that nothing else of it touches: any method, path, query and body."""

from __future__ import annotations

import atexit
import functools
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx
import time_machine
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support import Server


@functools.cache
def client() -> httpx.Client:
    """One for all: it takes longer to make one than to send a request."""
    made = httpx.Client(timeout=60, trust_env=False)
    atexit.register(made.close)
    return made


@dataclass(frozen=True)
class Call:
    """A request on a server, and the keys that it is signed with; without keys it is anonymous."""

    server: Server
    method: str
    target: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, str] | None = None
    age: timedelta = timedelta()

    def by(self, keys: tuple[str, str] | None) -> Self:
        return replace(self, keys=keys)

    def signed(self) -> AWSRequest:
        sent = {"x-amz-content-sha256": hashlib.sha256(self.body).hexdigest()} | self.headers
        request = AWSRequest(self.method, self.server.s3_url + self.target, sent, self.body)
        if self.keys:
            with time_machine.travel(datetime.now(UTC) - self.age, tick=False):
                S3SigV4Auth(Credentials(*self.keys), "s3", "us-east-1").add_auth(request)
        return request

    def send(self, **instead: Any) -> httpx.Response:
        """Send it; a `target` or a `body` that is given here takes the place of the one that was signed, `headers` are
        set after that."""
        headers = httpx.Headers(dict(self.signed().headers.items()))
        headers.update(instead.get("headers", {}))
        where = self.server.s3_url + instead.get("target", self.target)
        return client().request(self.method, where, headers=headers, content=instead.get("body", self.body))


def code_of(answer: httpx.Response) -> str:
    """The code of an error's document, or empty."""
    text = answer.text
    return text.partition("<Code>")[2].partition("</Code>")[0] if answer.status_code >= 300 else ""
