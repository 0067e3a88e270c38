"""Signed requests: the examples of the S3 API reference, another implementation, and every way to be refused."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
import time_machine
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from app.s3.sigrequest import SignedRequest, parse_query
from app.s3.sigv4 import MAX_EXPIRES, Claim, Payload, anonymous_payload, authorization
from tests.s3.tools import (
    ACCESS_KEY,
    EMPTY,
    HOST,
    NOW,
    REGION,
    SCOPE,
    SECRET,
    STAMP,
    authorization_header,
    refused,
    request,
)

PLAIN = "host;range;x-amz-content-sha256;x-amz-date"


def claimed(signed: SignedRequest) -> Claim:
    claim = authorization(signed)
    assert claim is not None
    return claim


def verify(signed: SignedRequest, now: datetime = NOW) -> Claim:
    claim = claimed(signed)
    claim.verify(SECRET, now, REGION)
    return claim


def get_object(**headers: str) -> SignedRequest:
    """The reference's "GET Object", with other headers where they are given."""
    signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    given = {
        "authorization": authorization_header(PLAIN, signature),
        "host": HOST,
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": STAMP,
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return request("GET", "/test.txt", {name: value for name, value in given.items() if value})


def put_object() -> SignedRequest:
    signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    return request(
        "PUT",
        "/test$file.text",
        {
            "host": HOST,
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "authorization": authorization_header(
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", signature
            ),
            "x-amz-date": STAMP,
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
        },
    )


def of_bucket(query: str, signature: str) -> SignedRequest:
    signed = authorization_header("host;x-amz-content-sha256;x-amz-date", signature)
    headers = {"host": HOST, "x-amz-date": STAMP, "x-amz-content-sha256": EMPTY, "authorization": signed}
    return request("GET", f"/?{query}", headers)


PRESIGNED = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": f"{ACCESS_KEY}/{SCOPE}",
    "X-Amz-Date": STAMP,
    "X-Amz-Expires": "86400",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
}


def presigned(given: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> SignedRequest:
    """The reference's presigned request, with other parameters where they are given."""
    parameters = {name: value for name, value in (PRESIGNED | (given or {})).items() if value}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return request("GET", f"/test.txt?{query}", {"host": HOST} | (headers or {}))


LIFECYCLE = of_bucket("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
LISTING = of_bucket("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
EXAMPLES = {
    "get": get_object(), "put": put_object(), "lifecycle": LIFECYCLE, "listing": LISTING, "presigned": presigned()
}  # fmt: skip


@pytest.mark.parametrize("signed", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_the_examples_of_the_reference(signed: SignedRequest) -> None:
    assert verify(signed).access_key == ACCESS_KEY


def test_an_anonymous_request_claims_nothing() -> None:
    assert authorization(request("GET", "/bucket/key?prefix=a", {"host": HOST})) is None


# --- another implementation -------------------------------------------------------------------------------------

KEYS = [
    "plain", "with space", "plus+plus", "percent%20", "a//b", "a/../b/./c", "/first", "last/", "\N{GRINNING FACE}",
    "~tilde-._", "!*'();:@&=$,?#[]", "é\N{COMBINING ACUTE ACCENT}", "back\\slash", 'quo"te', "line\nbreak",
    "%", "a%2Fb",
]  # fmt: skip
QUERIES = [
    "", "lifecycle", "prefix=a%20b&delimiter=%2F", "b=2&a=1&a=0&B=3", "x=%E2%82%AC&y=~._-", "list-type=2&prefix=",
    "a=b%3Dc&a-=1&a.=2", "prefix=%2B%25", "key=%ff",
]  # fmt: skip


def target(key: str, query: str) -> str:
    return f"https://{HOST}:9000/{quote(key, safe='/~')}" + (f"?{query}" if query else "")


def as_sent(prepared: AWSRequest) -> SignedRequest:
    parts = urlsplit(str(prepared.url))
    headers = {"host": parts.netloc} | {name.lower(): str(value) for name, value in prepared.headers.items()}
    path = str(prepared.url).partition(parts.netloc)[2].partition("?")[0]
    return request(str(prepared.method), path + "?" + parts.query, headers)


@time_machine.travel(NOW, tick=False)
def by_botocore(
    signer: Callable[..., S3SigV4Auth], url: str, method: str = "PUT", headers: dict[str, str] | None = None
) -> SignedRequest:
    data = b"body" if signer is S3SigV4Auth else None
    made = AWSRequest(method=method, url=url, headers=headers or {}, data=data)
    signer(Credentials(ACCESS_KEY, SECRET), "s3", REGION).add_auth(made)
    return as_sent(made)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("signer", [S3SigV4Auth, S3SigV4QueryAuth])
def test_keys_as_botocore_signs_them(signer: Callable[..., S3SigV4Auth], key: str) -> None:
    verify(by_botocore(signer, target(key, "")))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("signer", [S3SigV4Auth, S3SigV4QueryAuth])
def test_queries_as_botocore_signs_them(signer: Callable[..., S3SigV4Auth], query: str) -> None:
    verify(by_botocore(signer, target("key", query).replace("%ff", "%FF"), "GET"))


def test_headers_as_botocore_signs_them() -> None:
    headers = {"x-amz-meta-a": "  two   spaces  ", "X-Amz-Meta-B": "", "Content-Type": "text/plain; charset=utf-8"}
    claim = verify(by_botocore(S3SigV4Auth, target("key", ""), headers=headers))
    assert claim.payload.sha256 == hashlib.sha256(b"body").hexdigest()


@given(key=st.text(min_size=1), value=st.text())
def test_any_key_and_value_as_botocore_signs_them(key: str, value: str) -> None:
    verify(by_botocore(S3SigV4Auth, target(key, f"prefix={quote(value, safe='')}"), "GET"))


# --- the same request, sent in another way ----------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/test%24file.text", b"/test$file%2etext", b"/t%65st%24file.text"])
def test_a_path_may_be_encoded_in_any_way(path: bytes) -> None:
    verify(replace(put_object(), path=path))


def test_an_encoded_slash_is_a_slash() -> None:
    signed = by_botocore(S3SigV4Auth, target("a/b", ""))
    verify(replace(signed, path=b"/a%2Fb"))


@pytest.mark.parametrize("query", [b"prefix=J&max-keys=2", b"max%2dkeys=%32&prefix=%4A", b"&prefix=J&&max-keys=2&"])
def test_a_query_may_be_encoded_in_any_way(query: bytes) -> None:
    verify(replace(LISTING, query=query))


def test_a_plus_in_a_query_is_a_space() -> None:
    signed = by_botocore(S3SigV4Auth, target("", "prefix=a%20b"))
    sent = replace(signed, query=b"prefix=a+b")
    verify(sent)
    assert parse_query(sent.query) == [(b"prefix", b"a b")]


def test_spaces_round_the_parts_of_the_header_do_not_matter() -> None:
    value = f"  {authorization_header(PLAIN, get_object().values('authorization')[0][-64:])}  ".replace(",", " , ")
    verify(get_object(authorization=value))


def test_a_repeated_header_is_joined() -> None:
    signed = by_botocore(S3SigV4Auth, target("key", ""), headers={"x-amz-meta-a": "1,2"})
    apart = [(name, value) for name, value in signed.headers if name != b"x-amz-meta-a"]
    verify(replace(signed, headers=[*apart, (b"x-amz-meta-a", b"1"), (b"x-amz-meta-a", b" 2 ")]))


@pytest.mark.parametrize(
    "date", ["Fri, 24 May 2013 00:00:00 GMT", "Friday, 24-May-13 00:00:00 GMT", "Fri May 24 00:00:00 2013", STAMP,
             "2013-05-24T00:00:00Z", "2013-05-24T00:00:00.123Z"]
)  # fmt: skip
def test_the_date_may_stand_in_the_header_date(date: str) -> None:
    headers = {"host": HOST, "x-amz-content-sha256": EMPTY, "date": date}
    unsigned = authorization_header("date;host;x-amz-content-sha256", "0" * 64)
    with refused("SignatureDoesNotMatch"):
        verify(request("GET", "/", headers | {"authorization": unsigned}))
    signature = expected(request("GET", "/", headers), ["date", "host", "x-amz-content-sha256"], EMPTY)
    signed = authorization_header("date;host;x-amz-content-sha256", signature)
    assert verify(request("GET", "/", headers | {"authorization": signed})).moment == NOW


def expected(unsigned: SignedRequest, names: list[str], payload: str) -> str:
    """The signature that a client would compute; independent of the store but for the canonical request."""
    canonical = hashlib.sha256(unsigned.canonical(names, payload)).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in SCOPE.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{STAMP}\n{SCOPE}\n{canonical}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


# --- tampering --------------------------------------------------------------------------------------------------


def with_header(signed: SignedRequest, name: str, value: str | None) -> SignedRequest:
    rest = [pair for pair in signed.headers if pair[0] != name.encode()]
    return replace(signed, headers=rest if value is None else [*rest, (name.encode(), value.encode())])


def test_a_signature_of_another_secret_is_refused_with_what_was_signed() -> None:
    claim = claimed(get_object())
    with refused(
        "SignatureDoesNotMatch",
        AWSAccessKeyId=ACCESS_KEY,
        SignatureProvided="f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        StringToSign=f"AWS4-HMAC-SHA256\n{STAMP}\n{SCOPE}\n"
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
        CanonicalRequest=f"GET\n/test.txt\n\nhost:{HOST}\nrange:bytes=0-9\nx-amz-content-sha256:{EMPTY}\n"
        f"x-amz-date:{STAMP}\n\n{PLAIN}\n{EMPTY}",
    ):
        claim.verify(SECRET + "x", NOW, REGION)


@pytest.mark.parametrize("signed", EXAMPLES.values(), ids=EXAMPLES.keys())
@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, method="DELETE"),
        lambda one: replace(one, path=one.path + b"x"),
        lambda one: replace(one, path=b"/" + one.path),
        lambda one: replace(one, path=one.path + b"/."),
        lambda one: replace(one, query=one.query + b"&acl"),
        lambda one: replace(one, query=one.query + b"&=x"),
        lambda one: with_header(one, "host", "examplebucket.s3.amazonaws.com:9000"),
        lambda one: with_header(one, "x-amz-date", "20130524T000001Z") if one.values("x-amz-date")
        else replace(one, query=one.query.replace(b"T000000Z", b"T000001Z")),
        lambda one: replace(one, headers=[(name, value.replace(SCOPE[:8].encode(), b"20130524"))
                                          for name, value in one.headers if name != b"host"]),
    ],
)  # fmt: skip
def test_tampering_is_refused(signed: SignedRequest, change: Callable[[SignedRequest], SignedRequest]) -> None:
    with refused("SignatureDoesNotMatch"):
        verify(change(signed))


@pytest.mark.parametrize(
    ("name", "value"),
    [("range", "bytes=0-10"), ("range", None), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
     ("x-amz-content-sha256", EMPTY[::-1])],
)  # fmt: skip
def test_a_tampered_header_is_refused(name: str, value: str | None) -> None:
    with refused("SignatureDoesNotMatch"):
        verify(with_header(get_object(), name, value))


def test_an_empty_signed_header_can_not_be_left_out() -> None:
    signed = by_botocore(S3SigV4Auth, target("key", ""), headers={"x-amz-meta-a": ""})
    with refused("SignatureDoesNotMatch"):
        verify(with_header(signed, "x-amz-meta-a", None))


def test_a_repeated_signed_header_is_refused() -> None:
    signed = get_object()
    with refused("SignatureDoesNotMatch"):
        verify(replace(signed, headers=[*signed.headers, (b"range", b"bytes=0-9")]))


@pytest.mark.parametrize(
    "names", ["host;x-amz-content-sha256;x-amz-date", f"{PLAIN};x-amz-meta-a", f"if-match;{PLAIN}"]
)
def test_a_tampered_list_of_signed_headers_is_refused(names: str) -> None:
    with refused("SignatureDoesNotMatch"):
        verify(get_object(authorization=authorization_header(names, get_object().values("authorization")[0][-64:])))


@pytest.mark.parametrize("signature", ["", "f0e8", "F0E8" + "0" * 60, "0" * 64, "é" * 64])
def test_a_garbled_signature_is_refused(signature: str) -> None:
    with refused("SignatureDoesNotMatch"):
        verify(get_object(authorization=authorization_header(PLAIN, signature)))


@pytest.mark.parametrize(
    ("names", "not_signed"),
    [("range;x-amz-content-sha256;x-amz-date", "host"), ("host;x-amz-content-sha256", "x-amz-date"),
     ("host;x-amz-date", "x-amz-content-sha256"), ("range", "host, x-amz-content-sha256, x-amz-date")],
)  # fmt: skip
def test_what_must_be_signed(names: str, not_signed: str) -> None:
    with refused("AccessDenied", "not signed", HeadersNotSigned=not_signed):
        verify(get_object(authorization=authorization_header(names, "0" * 64)))


@pytest.mark.parametrize("name", ["x-amz-acl", "x-amz-copy-source", "x-amz-meta-a", "x-amz-content-sha256"])
def test_a_header_of_s3_can_not_be_added(name: str) -> None:
    with refused("AccessDenied", HeadersNotSigned=name):
        verify(presigned(headers={name: EMPTY}))


def test_other_headers_can_be_added() -> None:
    verify(presigned(headers={"content-type": "text/plain", "user-agent": "curl"}))


# --- times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [timedelta(minutes=15), timedelta(minutes=-15)])
def test_a_signature_in_a_header_is_good_for_a_quarter_of_an_hour(skew: timedelta) -> None:
    verify(get_object(), NOW + skew)
    with refused("RequestTimeTooSkewed", RequestTime=STAMP, MaxAllowedSkewMilliseconds="900000"):
        verify(get_object(), NOW + skew * 1.01)


def test_a_presigned_request_is_good_for_as_long_as_it_says() -> None:
    verify(presigned(), NOW + timedelta(days=1))
    verify(presigned(), NOW - timedelta(minutes=15))
    expired = {"X-Amz-Expires": "86400", "Expires": "2013-05-25T00:00:00Z", "ServerTime": "2013-05-25T00:00:01Z"}
    with refused("AccessDenied", "Request has expired", **expired):
        verify(presigned(), NOW + timedelta(days=1, seconds=1))
    with refused("AccessDenied", "Request is not valid yet"):
        verify(presigned(), NOW - timedelta(minutes=15, seconds=1))


def test_the_time_of_the_server_may_be_in_any_zone() -> None:
    verify(get_object(), NOW.astimezone())


@pytest.mark.parametrize(
    "date", ["", "20130524", "2013-05-24T00:00:00Z", "20131324T000000Z", "20130524T000060Z", "soon"]
)
def test_a_date_that_can_not_be_read(date: str) -> None:
    with refused("AccessDenied", "requires a valid Date or x-amz-date header"):
        authorization(get_object(x_amz_date=date))


@pytest.mark.parametrize(
    "date", ["Fri, 99 May 2013 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "-", "2013-05-24"]
)
def test_a_header_date_that_can_not_be_read(date: str) -> None:
    with refused("AccessDenied", "requires a valid Date or x-amz-date header"):
        authorization(get_object(x_amz_date="", date=date))


# --- scopes -----------------------------------------------------------------------------------------------------

SCOPES = [
    (f"20130525/{REGION}/s3/aws4_request", 'Invalid credential date "20130525"', {}),
    (
        "20130524/eu-west-1/s3/aws4_request",
        "the region 'eu-west-1' is wrong; expecting 'us-east-1'",
        {"Region": REGION},
    ),
    (f"20130524/{REGION}/ec2/aws4_request", 'incorrect service "ec2"', {}),
    (f"20130524/{REGION}/s3/aws5_request", 'incorrect terminal "aws5_request"', {}),
]


@pytest.mark.parametrize(("scope", "message", "details"), SCOPES)
def test_another_scope_is_refused(scope: str, message: str, details: dict[str, str]) -> None:
    with refused("AuthorizationHeaderMalformed", message, **details):
        verify(get_object(authorization=authorization_header(PLAIN, "0" * 64, scope)))
    with refused("AuthorizationQueryParametersError", message, **details):
        verify(presigned({"X-Amz-Credential": f"{ACCESS_KEY}/{scope}"}))


@pytest.mark.parametrize(
    ("credential", "message"),
    [(ACCESS_KEY, "mal-formed"), (SCOPE, "mal-formed"), (f"/{SCOPE}", "non-empty Access Key"), ("", "")],
)
def test_a_credential_that_can_not_be_read(credential: str, message: str) -> None:
    value = f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={PLAIN},Signature={'0' * 64}"
    with refused("AuthorizationHeaderMalformed", message):
        authorization(get_object(authorization=value))
    with refused("AuthorizationQueryParametersError", message):
        authorization(presigned({"X-Amz-Credential": credential}))


def test_an_access_key_may_hold_slashes() -> None:
    value = authorization_header(PLAIN, "0" * 64).replace(ACCESS_KEY, "a/b")
    assert claimed(get_object(authorization=value)).access_key == "a/b"


# --- malformed claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "",
        f"Credential={ACCESS_KEY}/{SCOPE}",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host,Signature=0,Signature=1",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host,Sig=0",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host,Signature=0,",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=,Signature=0",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=Host,Signature=0",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host;;range,Signature=0",
        f"Credential={ACCESS_KEY}/{SCOPE},SignedHeaders=host;a b,Signature=0",
    ],
)
def test_a_malformed_header(rest: str) -> None:
    with refused("AuthorizationHeaderMalformed"):
        authorization(get_object(authorization=f"AWS4-HMAC-SHA256 {rest}"))


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (f"AWS {ACCESS_KEY}:frJIUN8DYpKDtOLCwo//yllqDzg=", "InvalidRequest", "Please use AWS4-HMAC-SHA256"),
        ("AWS", "InvalidRequest", "Please use AWS4-HMAC-SHA256"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "NotImplemented", "SigV4A"),
        ("Basic dXNlcjpwYXNz", "InvalidArgument", "Unsupported Authorization Type"),
        ("AWS4-HMAC-SHA1 Credential=a", "InvalidArgument", "Unsupported Authorization Type"),
        ("aws4-hmac-sha256 Credential=a", "InvalidArgument", "Unsupported Authorization Type"),
    ],
)
def test_another_scheme_is_refused(value: str, code: str, message: str) -> None:
    with refused(code, message):
        authorization(get_object(authorization=value))


def test_a_password_is_not_repeated() -> None:
    with refused("InvalidArgument", ArgumentValue="Basic"):
        authorization(get_object(authorization="Basic dXNlcjpwYXNz"))


def test_an_empty_header_is_no_anonymous_request() -> None:
    with refused("InvalidArgument"):
        authorization(request("GET", "/", {"host": HOST, "authorization": ""}))


def test_version_2_in_a_query_is_refused() -> None:
    query = f"AWSAccessKeyId={ACCESS_KEY}&Expires=1175139620&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D"
    with refused("InvalidRequest", "Please use AWS4-HMAC-SHA256"):
        authorization(request("GET", f"/key?{query}", {"host": HOST}))


def test_a_claim_is_made_once() -> None:
    header = {"authorization": authorization_header("host", "0" * 64)}
    for twice in (
        presigned(headers=header),
        presigned({"AWSAccessKeyId": "a", "Signature": "b"}),
        request("GET", "/?AWSAccessKeyId=a&Signature=b", header),
        replace(get_object(), headers=[*get_object().headers, (b"authorization", b"Basic a")]),
    ):
        with refused("InvalidArgument", "Only one auth mechanism allowed"):
            authorization(twice)


@pytest.mark.parametrize("name", PRESIGNED)
def test_a_presigned_request_has_all_parameters_once(name: str) -> None:
    with refused("AuthorizationQueryParametersError", "requires the X-Amz-Algorithm"):
        authorization(presigned({name: ""}))
    signed = presigned()
    with refused("AuthorizationQueryParametersError", f"{name} more than once"):
        authorization(replace(signed, query=signed.query + f"&{name}=x".encode()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1", "X-Amz-Algorithm only supports"),
        ("X-Amz-Date", "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Date must be"),
        ("X-Amz-Date", "20130524T250000Z", "X-Amz-Date must be"),
        ("X-Amz-Expires", "soon", "should be a number"),
        ("X-Amz-Expires", "1.5", "should be a number"),
        ("X-Amz-Expires", "\N{ARABIC-INDIC DIGIT ONE}", "should be a number"),
        ("X-Amz-Expires", "-1", "must be positive"),
        ("X-Amz-Expires", "0", "must be positive"),
        ("X-Amz-Expires", str(MAX_EXPIRES + 1), "less than a week"),
        ("X-Amz-Expires", "9" * 5000, "less than a week"),
        ("X-Amz-SignedHeaders", "host\nx-amz-acl", "X-Amz-SignedHeaders must be"),
        ("X-Amz-SignedHeaders", "Host", "X-Amz-SignedHeaders must be"),
    ],
)
def test_a_malformed_parameter(name: str, value: str, message: str) -> None:
    with refused("AuthorizationQueryParametersError", message):
        authorization(presigned({name: value}))


def test_a_presigned_request_of_version_4a_is_refused() -> None:
    with refused("NotImplemented", "SigV4A"):
        authorization(presigned({"X-Amz-Algorithm": "AWS4-ECDSA-P256-SHA256"}))


@pytest.mark.parametrize("expires", ["1", str(MAX_EXPIRES), "00060"])
def test_times_that_a_presigned_request_may_be_good_for(expires: str) -> None:
    assert claimed(presigned({"X-Amz-Expires": expires})).expires == int(expires)


# --- payloads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chunked", "signed_chunks", "trailer"),
    [
        ("UNSIGNED-PAYLOAD", False, False, False),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", True, False, True),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True, True, False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", True, True, True),
        (EMPTY, False, False, False),
    ],
)
def test_what_a_payload_is(text: str, chunked: bool, signed_chunks: bool, trailer: bool) -> None:
    payload = claimed(get_object(x_amz_content_sha256=text)).payload
    assert (payload.chunked, payload.signed_chunks, payload.trailer) == (chunked, signed_chunks, trailer)
    assert payload.sha256 == (EMPTY if text == EMPTY else None)


@pytest.mark.parametrize(
    "text",
    ["unsigned-payload", EMPTY.upper(), EMPTY[1:], EMPTY + "0", "STREAMING-", "\N{ARABIC-INDIC DIGIT ONE}" * 64],
)
def test_a_payload_that_can_not_be_read(text: str) -> None:
    sent = text.encode().decode("latin-1")
    with refused("InvalidArgument", ArgumentName="x-amz-content-sha256", ArgumentValue=sent):
        authorization(get_object(x_amz_content_sha256=text))


@pytest.mark.parametrize("ending", ["PAYLOAD", "PAYLOAD-TRAILER"])
def test_chunks_signed_by_version_4a_are_refused(ending: str) -> None:
    with refused("NotImplemented", "SigV4A"):
        authorization(get_object(x_amz_content_sha256=f"STREAMING-AWS4-ECDSA-P256-SHA256-{ending}"))


def test_a_signature_in_a_header_needs_a_payload() -> None:
    with refused("InvalidRequest", "Missing required header for this request: x-amz-content-sha256"):
        authorization(get_object(x_amz_content_sha256=""))


def test_a_header_that_is_to_stand_once() -> None:
    signed = get_object()
    with refused("InvalidRequest", "x-amz-content-sha256 more than once"):
        authorization(replace(signed, headers=[*signed.headers, (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")]))


def test_a_presigned_request_may_name_its_payload() -> None:
    assert claimed(presigned()).payload == Payload("UNSIGNED-PAYLOAD")
    assert claimed(presigned({"X-Amz-Content-Sha256": EMPTY})).payload == Payload(EMPTY)
    signed = {"X-Amz-SignedHeaders": "host;x-amz-content-sha256"}
    assert claimed(presigned(signed, {"x-amz-content-sha256": EMPTY})).payload == Payload(EMPTY)
    with refused("AuthorizationQueryParametersError", "is not the same"):
        authorization(presigned(signed | {"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, {"x-amz-content-sha256": EMPTY}))


def test_the_payload_of_an_anonymous_request() -> None:
    def payload(text: str) -> Payload:
        return anonymous_payload(request("PUT", "/bucket/key", {"x-amz-content-sha256": text}))

    assert anonymous_payload(request("PUT", "/bucket/key", {})) == Payload("UNSIGNED-PAYLOAD")
    assert payload(EMPTY).sha256 == EMPTY
    assert payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER").chunked
    with refused("InvalidRequest", "can't be signed"):
        payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")


def test_only_signed_chunks_have_a_signer() -> None:
    assert claimed(get_object()).verify(SECRET, NOW, REGION) is None
    assert claimed(presigned()).verify(SECRET, datetime(2013, 5, 24, tzinfo=UTC), REGION) is None
