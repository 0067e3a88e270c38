"""Whatever is asked, of whichever operation: the answer is one that the S3 API has, and never an error of ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.s3.operations import OPERATIONS
from tests.s3.wire import send
from tests.support import Server

ODD = [
    "",
    "0",
    "1",
    "-1",
    "10001",
    "99999999999999999999",
    "null",
    "*",
    "a b",
    "%",
    "../x",
    "\u00fc\U0001f600",
    '"',
    "&",
]
NUMBERS = st.integers(-3, 1 << 70).map(str)
TEXTS = st.one_of(st.sampled_from(ODD), NUMBERS, st.text(st.characters(codec="utf-8"), max_size=12))
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)

QUERIES = """
    versionId partNumber uploadId prefix delimiter marker max-keys continuation-token start-after encoding-type
    key-marker version-id-marker upload-id-marker max-uploads part-number-marker max-parts list-type fetch-owner
    response-content-type response-expires max-buckets x-id id
""".split()  # noqa: SIM905 - a line for each would be longer than the tests
HEADERS = """
    range if-match if-none-match if-modified-since if-unmodified-since content-md5 content-type x-amz-acl
    x-amz-copy-source x-amz-copy-source-range x-amz-copy-source-if-match x-amz-metadata-directive x-amz-tagging
    x-amz-checksum-crc32 x-amz-checksum-algorithm x-amz-sdk-checksum-algorithm x-amz-storage-class
    x-amz-object-attributes x-amz-max-parts x-amz-meta-a x-amz-website-redirect-location x-amz-mp-object-size
    x-amz-expected-bucket-owner x-amz-decoded-content-length x-amz-trailer x-amz-server-side-encryption
    x-amz-object-ownership x-amz-bypass-governance-retention x-amz-object-lock-mode cache-control expires origin
""".split()  # noqa: SIM905 - a line for each would be longer than the tests
PLAUSIBLE = """
    bytes=0-1 bytes=-5 bytes=5- bytes=2-1 bytes=0-0,2-2 bytes=0-999999999999999999999999999999 bytes=a-b /fuzzed/k
    fuzzed/k?versionId=null fuzzed 2026-11-21T00:00:00Z a=b&c=d CRC32 SHA256 AAAAAA== private public-read COPY
    REPLACE STANDARD AES256 ETag,ObjectParts true GOVERNANCE
""".split()  # noqa: SIM905 - a line for each would be longer than the tests
NAMES = """
    Delete Object Key VersionId Quiet Tagging TagSet Tag Value CompleteMultipartUpload Part PartNumber ETag
    ChecksumCRC32 VersioningConfiguration Status CORSConfiguration CORSRule AllowedMethod AllowedOrigin
    LifecycleConfiguration Rule ID Filter Prefix Expiration Days Date ObjectLockConfiguration ObjectLockEnabled
    DefaultRetention Mode Years Retention RetainUntilDate LegalHold AccessControlPolicy Owner AccessControlList
    Grant Grantee Permission OwnershipControls ObjectOwnership PublicAccessBlockConfiguration BlockPublicAcls
    CreateBucketConfiguration LocationConstraint
""".split()  # noqa: SIM905 - a line for each would be longer than the tests


def element(name: str, children: list[str]) -> str:
    return f"<{name}>{''.join(children)}</{name}>"


TEXT_ELEMENTS = st.builds(element, st.sampled_from(NAMES), st.lists(TEXTS.map(quote), max_size=1))
ELEMENTS = st.recursive(
    TEXT_ELEMENTS, lambda inner: st.builds(element, st.sampled_from(NAMES), st.lists(inner, max_size=4)), max_leaves=12
)
JSON = st.sampled_from(
    ['{"Statement":[]}', '{"Version":"2012-10-17","Statement":{"Effect":"Allow"}}', "[]", "{", '"a"', "1e999"]
)
BODIES = st.one_of(st.just(b""), ELEMENTS.map(str.encode), JSON.map(str.encode), st.binary(max_size=40))

ASKED = sorted(OPERATIONS.keys() - {"DeleteBucket", "CreateBucket"})
"""All but those that would take the bucket away, or leave others behind."""


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, str], bytes]:
    operation = OPERATIONS[draw(st.sampled_from(ASKED))]
    place = {"service": "", "bucket": "fuzzed", "object": "fuzzed/" + quote(draw(st.one_of(st.just("k"), TEXTS)))}
    asked = dict.fromkeys(operation.query, "")
    asked |= draw(st.dictionaries(st.sampled_from(QUERIES), TEXTS, max_size=3))
    terms = [name if "=" in name else f"{name}={quote(value, safe='')}" for name, value in asked.items()]
    headers = draw(
        st.dictionaries(
            st.sampled_from(HEADERS), st.one_of(st.sampled_from(PLAUSIBLE), LATIN.map(str.strip)), max_size=3
        )
    )
    for name in operation.headers:
        headers.setdefault(name, "fuzzed/k")
    return f"{operation.method} /{place[operation.level]}?{'&'.join(terms)}", headers, draw(BODIES)


@pytest.fixture(scope="module")
def fuzzed(s3_server: Server) -> Server:
    for request in ("PUT /fuzzed", "PUT /fuzzed/k"):
        assert send(s3_server, request).status_code == 200
    return s3_server


def check(answer: httpx.Response) -> None:
    if answer.status_code >= 400:
        assert answer.status_code < 500 or answer.status_code == 501, answer.text
        if answer.request.method != "HEAD":
            root = ET.fromstring(answer.text)
            assert root.tag == "Error"
            assert (root.findtext("Code") == "NotImplemented") == (answer.status_code == 501)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(call=calls())
def test_any_request(fuzzed: Server, call: Any) -> None:
    request, headers, body = call
    check(send(fuzzed, request, body, headers))
