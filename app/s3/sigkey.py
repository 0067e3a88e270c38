"""What all signatures of AWS Signature Version 4 have in common: credentials, times, keys, strings to sign.

Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from app.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"

_SERVICE = "s3"
_TERMINAL = "aws4_request"
_SHAPE = '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"'
_EMPTY = hashlib.sha256().hexdigest()

_BASIC = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_EXTENDED = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?Z")


@dataclass(frozen=True, slots=True)
class Form:
    """Where a credential stands in a request, which decides how a bad one is refused."""

    code: str
    opening: str

    def error(self, reason: str, **details: str) -> S3Error:
        return S3Error(self.code, f"{self.opening}; {reason}", **details)


HEADER = Form("AuthorizationHeaderMalformed", "The authorization header is malformed")
PARAMETER = Form("AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter")
"""In the query, and in a browser's form."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key, and the scope that its signature is said to be good for: a day, a region, a service."""

    access_key: str
    date: str
    region: str
    service: str
    terminal: str
    form: Form

    @classmethod
    def parse(cls, text: str, form: Form) -> Self:
        """Raises S3Error, by its form."""
        parts = text.rsplit("/", 4)
        if len(parts) != 5:
            raise form.error(f"the Credential is mal-formed; expecting {_SHAPE}.")
        access_key, date, region, service, terminal = parts
        if not access_key:
            raise form.error("a non-empty Access Key (AKID) must be provided in the credential.")
        return cls(access_key, date, region, service, terminal, form)

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{self.terminal}"

    def check(self, timestamp: str, region: str) -> None:
        """Raises S3Error, by its form, unless it is for this service in this region on the day of `timestamp`."""
        if self.date != timestamp[:8]:
            raise self.form.error(
                f'Invalid credential date "{self.date}". This date is not the same as X-Amz-Date: "{timestamp[:8]}".'
            )
        if self.region != region:
            raise self.form.error(f"the region '{self.region}' is wrong; expecting '{region}'", Region=region)
        if self.service != _SERVICE:
            raise self.form.error(f'incorrect service "{self.service}". This endpoint belongs to "{_SERVICE}".')
        if self.terminal != _TERMINAL:
            raise self.form.error(f'incorrect terminal "{self.terminal}". This endpoint uses "{_TERMINAL}".')

    def signing_key(self, secret: str) -> bytes:
        key = f"AWS4{secret}".encode()
        for part in (self.date, self.region, self.service, self.terminal):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


class ChunkSigner:
    """Signs the chunks of one body; each signature covers the one before it, the first one that of the request.

    Source: "Transferring Payload in Multiple Chunks" and "Signature calculations for trailing headers".
    """

    def __init__(self, key: bytes, scope: str, timestamp: str, seed: str) -> None:
        self._key = key
        self._about = f"{timestamp}\n{scope}"
        self._previous = seed

    def chunk(self, data_sha256_hex: str) -> str:
        """The signature of the next chunk."""
        text = f"{ALGORITHM}-PAYLOAD\n{self._about}\n{self._previous}\n{_EMPTY}\n{data_sha256_hex}"
        self._previous = sign(self._key, text.encode())
        return self._previous

    def trailer(self, data: bytes) -> str:
        """The signature of the trailing headers, of which each is a line `name:value\\n` of `data`."""
        text = f"{ALGORITHM}-TRAILER\n{self._about}\n{self._previous}\n{hashlib.sha256(data).hexdigest()}"
        return sign(self._key, text.encode())


def sign(key: bytes, text: bytes) -> str:
    return hmac.digest(key, text, "sha256").hex()


def same(expected: str, given: str) -> bool:
    """Whether two signatures are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(expected.encode(), given.encode(errors="replace"))


def mismatch(**details: str) -> S3Error:
    return S3Error(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        **details,
    )


def parse_basic(text: str) -> datetime | None:
    """A time in the basic format of ISO 8601, as all signatures write it: 20130524T000000Z."""
    if not _BASIC.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_extended(text: str) -> datetime | None:
    """A time in the extended format of ISO 8601, in UTC: 2013-05-24T00:00:00.000Z. Fractions are dropped."""
    match = _EXTENDED.fullmatch(text)
    return parse_basic("{}{}{}T{}{}{}Z".format(*match.groups())) if match else None


def format_basic(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def format_extended(moment: datetime) -> str:
    """A time as it stands in the document of an error: 2013-05-24T00:00:00Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
