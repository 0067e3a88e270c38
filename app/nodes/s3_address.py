"""URLs of nodes that are buckets:

    s3://bucket/optional/prefix?endpoint=http://host:9000&region=us-east-1

| parameter | meaning |
| --- | --- |
| endpoint | the engine's URL; without it, AWS |
| region | the one that requests are signed for; us-east-1 if not given |
| path_style | yes: the bucket stands in the path, the default with an endpoint; no: in the host's name |
| anonymous | yes: requests are not signed, for an engine that asks nobody |

A URL is kept and shown, so it never has keys in it: those come from the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from app.errors import ConfigError

_REGION = "us-east-1"
_PARAMETERS = ("endpoint", "region", "path_style", "anonymous")
_PORTS = {"http": 80, "https": 443}
_BUCKET = re.compile(r"[a-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_KEYS = "Keys do not belong in a node's URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead."


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket, and the prefix of a node's objects in it. `prefix` and `endpoint` may be empty."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    path_style: bool
    anonymous: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ConfigError, which does not repeat what may be a key."""
        try:
            parts = urlsplit(url)
            given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ConfigError(f"The URL of an S3 node is garbled. {_EXAMPLE}") from None
        if "@" in unquote(url):
            raise ConfigError(_KEYS)
        bucket, prefix = parts.netloc, unquote(parts.path).strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise ConfigError(f"s3://{bucket} names no bucket. {_EXAMPLE}")
        if (prefix and not _PREFIX.fullmatch(prefix)) or parts.fragment:
            raise ConfigError(
                f"s3://{bucket}: the path is to consist of letters, digits, '-', '_' and '.', "
                "in folders that do not begin with a '.'."
            )
        names = [name for name, _ in given]
        for name in names:
            if name not in _PARAMETERS or names.count(name) > 1:
                why = "given twice" if name in _PARAMETERS else "not known"
                raise ConfigError(f"s3://{bucket}: the parameter {name} is {why}. There are {', '.join(_PARAMETERS)}.")
        values = dict(given)
        endpoint = _endpoint(bucket, values["endpoint"]) if "endpoint" in values else ""
        return cls(
            bucket,
            prefix,
            endpoint,
            values.get("region") or _REGION,
            _yes(bucket, "path_style", values.get("path_style"), default=bool(endpoint)),
            _yes(bucket, "anonymous", values.get("anonymous"), default=False),
        )

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from others: the rest is how to get there."""
        return self.endpoint, self.bucket, self.prefix

    @property
    def location(self) -> str:
        """The same address always gives the same URL."""
        chosen = {
            "endpoint": self.endpoint,
            "region": self.region if self.region != _REGION else "",
            "path_style": "" if self.path_style == bool(self.endpoint) else _word(self.path_style),
            "anonymous": _word(self.anonymous) if self.anonymous else "",
        }
        query = urlencode({name: value for name, value in chosen.items() if value}, safe=":/[]")
        return f"s3://{self.bucket}{self.prefix and '/'}{self.prefix}{query and '?'}{query}"

    @property
    def service(self) -> str:
        """The URL that requests go to; where the bucket stands in the host's name, it is part of it."""
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        scheme, _, host = endpoint.partition("://")
        return endpoint if self.path_style else f"{scheme}://{self.bucket}.{host}"


_EXAMPLE = "It looks like s3://bucket/optional/prefix?endpoint=http://host:9000"


def _endpoint(bucket: str, url: str) -> str:
    """Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(f"s3://{bucket}: the endpoint is to look like http://host:9000 or https://host.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")


def _yes(bucket: str, name: str, value: str | None, *, default: bool) -> bool:
    if value not in (None, "yes", "no"):
        raise ConfigError(f"s3://{bucket}: the parameter {name} is to be yes or no.")
    return default if value is None else value == "yes"


def _word(value: bool) -> str:
    return "yes" if value else "no"
