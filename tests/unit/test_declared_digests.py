"""Digests that headers tell of a body, in all the ways that there are."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from app.errors import BadRequest
from app.http.digest import declared_digests

BODY = b"some bytes"
DIGESTS = {kind: hashlib.new(kind, BODY).digest() for kind in ("md5", "sha256", "sha512")}
MD5, SHA256, SHA512 = (b64encode(digest).decode() for digest in DIGESTS.values())


@pytest.mark.parametrize(
    ("headers", "kinds"),
    [
        ({}, []),
        ({"content-md5": MD5}, ["md5"]),
        ({"content-md5": f" {MD5} "}, ["md5"]),
        ({"content-digest": f"sha-256=:{SHA256}:"}, ["sha256"]),
        ({"content-digest": f"sha-512=:{SHA512}:, sha-256=:{SHA256}:"}, ["sha512", "sha256"]),
        ({"content-digest": f"unixsum=:AAA=:,sha-256=:{SHA256}:;a=1"}, ["sha256"]),
        ({"content-digest": "crc32c=:AAAAAA==:"}, []),
        ({"repr-digest": f"md5=:{MD5}:"}, ["md5"]),
        ({"digest": f"sha-256={SHA256}"}, ["sha256"]),
        ({"digest": f"SHA-256={SHA256},MD5={MD5}"}, ["sha256", "md5"]),
        (
            {"content-md5": MD5, "content-digest": f"sha-256=:{SHA256}:", "digest": f"md5={MD5}"},
            ["md5", "sha256", "md5"],
        ),
    ],
)
def test_what_is_told_is_found(headers: dict[str, str], kinds: list[str]) -> None:
    assert declared_digests(headers) == [(kind, DIGESTS[kind]) for kind in kinds]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-md5": ""},
        {"content-md5": "nothing"},
        {"content-md5": SHA256},
        {"content-md5": DIGESTS["md5"].hex()},
        {"content-digest": "sha-256"},
        {"content-digest": f"sha-256={SHA256}"},
        {"content-digest": f"sha-256=:{SHA256}"},
        {"content-digest": f"sha-256=:{SHA256[:-2]}:"},
        {"content-digest": f"sha-256=:{MD5}:"},
        {"content-digest": f"sha-256=:{SHA256}:,,"},
        {"repr-digest": "md5=::"},
        {"digest": "sha-256"},
        {"digest": "sha-256=?"},
        {"digest": f"sha-256=:{SHA256}:"},
    ],
)
def test_what_can_not_be_read_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        declared_digests(headers)
