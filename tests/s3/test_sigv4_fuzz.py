"""Whatever is sent, it is either understood or refused by the S3 API's own errors."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.sigrequest import SignedRequest
from app.s3.sigv4 import anonymous_payload, authorization
from tests.s3.tools import ACCESS_KEY, EMPTY, HOST, NOW, REGION, SCOPE, SECRET, STAMP

GOOD = {
    b"Credential": f"{ACCESS_KEY}/{SCOPE}".encode(),
    b"SignedHeaders": b"host;x-amz-content-sha256;x-amz-date",
    b"Signature": EMPTY.encode(),
    b"X-Amz-Algorithm": b"AWS4-HMAC-SHA256",
    b"X-Amz-Credential": f"{ACCESS_KEY}%2F{SCOPE}".encode(),
    b"X-Amz-Date": STAMP.encode(),
    b"X-Amz-Expires": b"60",
    b"X-Amz-SignedHeaders": b"host",
    b"X-Amz-Signature": EMPTY.encode(),
}
"""So that some of what is tried gets far."""


def pairs(names: list[bytes], separator: bytes) -> st.SearchStrategy[bytes]:
    """Each of the names with its good value or with any; now and then without one."""
    each = [st.one_of(st.just(name + b"=" + GOOD[name]), st.binary().map((name + b"=").__add__)) for name in names]
    return st.tuples(*each).map(separator.join) | st.lists(st.one_of(*each)).map(separator.join)


QUERY = st.binary() | pairs([name for name in GOOD if name.startswith(b"X-")], b"&")
AUTHORIZATION = pairs([b"Credential", b"SignedHeaders", b"Signature"], b",").map(b"AWS4-HMAC-SHA256 ".__add__)
HEADER = st.one_of(
    st.tuples(st.just(b"authorization"), AUTHORIZATION | st.binary()),
    st.tuples(st.just(b"x-amz-date"), st.just(STAMP.encode()) | st.binary()),
    st.tuples(st.just(b"date"), st.from_regex(rb"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d{1,5} [\d:+ ]*") | st.binary()),
    st.tuples(st.just(b"x-amz-content-sha256"), st.sampled_from([b"UNSIGNED-PAYLOAD", EMPTY.encode()]) | st.binary()),
    st.tuples(st.just(b"host"), st.just(HOST.encode()) | st.binary()),
    st.tuples(st.binary(), st.binary()),
)
REQUEST = st.builds(SignedRequest, st.text(), st.binary(), QUERY, st.lists(HEADER))


def outcome(request: SignedRequest, now: datetime) -> str:
    """The code of the refusal, "" where the request is good, "anonymous" where it claims nothing."""
    try:
        claim = authorization(request)
        if claim is None:
            return "anonymous"
        claim.verify(SECRET, now, REGION)
    except S3Error as error:
        return error.code
    return ""


@given(request=REQUEST, now=st.just(NOW) | st.datetimes(timezones=st.just(UTC)))
def test_anything_is_a_claim_or_refused(request: SignedRequest, now: datetime) -> None:
    assert outcome(request, now)


@given(request=REQUEST)
def test_any_payload_is_known_or_refused(request: SignedRequest) -> None:
    try:
        payload = anonymous_payload(request)
    except S3Error:
        return
    assert payload.chunked or payload.sha256 or payload.text == "UNSIGNED-PAYLOAD"


@given(
    headers=st.lists(HEADER.filter(lambda header: header[0] not in (b"x-amz-content-sha256", b"authorization"))),
    path=st.binary(),
)
def test_what_can_be_read_is_refused_by_its_signature(headers: list[tuple[bytes, bytes]], path: bytes) -> None:
    names = {name for name, _ in headers if name.startswith(b"x-amz-")} | {b"host"}
    parameters = GOOD | {b"X-Amz-SignedHeaders": b";".join(sorted(names))}
    query = b"&".join(name + b"=" + value for name, value in parameters.items() if name.startswith(b"X-"))
    assert outcome(SignedRequest("GET", path, query, headers), NOW) == "SignatureDoesNotMatch"
