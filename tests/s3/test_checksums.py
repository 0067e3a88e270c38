"""What requests say about the digests of their bodies."""

from __future__ import annotations

from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.s3.checksums import ALGORITHMS, DEFAULT, Declared, composite_text, declared, multipart_choice, to_text
from app.s3.errors import S3Error
from app.streams.sums import Kind

CRC32 = {"x-amz-checksum-crc32": "y/Q5Jg=="}
CRC64 = {"x-amz-checksum-crc64nvme": "rosUhgp5mIg="}
MD5 = {"content-md5": "JfnnlDI7RTiF9RgfG2JNCw=="}
SUMS: dict[Kind, bytes] = {
    "md5": md5(b"123456789").digest(),
    "crc32": bytes.fromhex("cbf43926"),
    "crc64nvme": bytes.fromhex("ae8b14860a799888"),
}


def test_nothing_is_said() -> None:
    said = declared({"content-length": "5", "x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "FULL_OBJECT"})
    assert said == Declared()
    said.check({})


def test_checksums_in_headers() -> None:
    assert declared(CRC32) == Declared(algorithm=ALGORITHMS["CRC32"], checksum=SUMS["crc32"])
    said = declared({**CRC64, **MD5, "x-amz-sdk-checksum-algorithm": "crc64nvme"})
    assert said == Declared(SUMS["md5"], ALGORITHMS["CRC64NVME"], SUMS["crc64nvme"])
    assert said.trailer is None
    assert said.with_trailers({}) == said
    said.check(SUMS)


def test_a_checksum_that_follows() -> None:
    said = declared({"x-amz-trailer": "X-Amz-Checksum-CRC32", "x-amz-sdk-checksum-algorithm": "CRC32"})
    assert said == Declared(algorithm=ALGORITHMS["CRC32"])
    assert said.trailer == "x-amz-checksum-crc32"
    assert said.with_trailers(CRC32) == declared(CRC32)
    with pytest.raises(S3Error) as missing:
        said.with_trailers({"x-amz-checksum-crc32c": "AAAAAA=="})
    assert missing.value.code == "MalformedTrailerError"
    with pytest.raises(S3Error) as garbled:
        said.with_trailers({"x-amz-checksum-crc32": "AAAA"})
    assert garbled.value.code == "InvalidRequest"


@pytest.mark.parametrize("headers", [MD5, CRC32, CRC64])
def test_bodies_that_are_not_as_said(headers: dict[str, str]) -> None:
    wrong: dict[Kind, bytes] = {"md5": bytes(16), "crc32": bytes(4), "crc64nvme": bytes(8)}
    with pytest.raises(S3Error) as caught:
        declared(headers).check(wrong)
    assert (caught.value.code, caught.value.status) == ("BadDigest", 400)


def test_what_bad_digest_tells() -> None:
    with pytest.raises(S3Error, match="The Content-MD5 you specified did not match what we received") as caught:
        declared(MD5).check({"md5": bytes(16)})
    assert caught.value.details == {"ExpectedDigest": MD5["content-md5"], "CalculatedDigest": "A" * 22 + "=="}
    with pytest.raises(S3Error, match="The CRC32 you specified did not match the calculated checksum"):
        declared(CRC32).check({"crc32": bytes(4)})


@pytest.mark.parametrize(
    ("headers", "code", "message"),
    [
        ({"content-md5": ""}, "InvalidDigest", "The Content-MD5 you specified was invalid"),
        ({"content-md5": "YWJyYWNhZGFicmE="}, "InvalidDigest", "was invalid"),
        ({"content-md5": "\u00e4"}, "InvalidDigest", "was invalid"),
        ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid"),
        ({"x-amz-checksum-crc32": "y/Q5-g=="}, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid"),
        ({"x-amz-checksum-crc32": "y/Q5Jg==!"}, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid"),
        ({**CRC32, **CRC64}, "InvalidRequest", "Expecting a single x-amz-checksum- header"),
        ({**CRC32, "x-amz-trailer": "x-amz-checksum-crc32"}, "InvalidRequest", "Expecting a single"),
        ({"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, "InvalidRequest", "Expecting a single"),
        ({"x-amz-checksum-sha512": "AAAA"}, "InvalidRequest", "The algorithm type you specified"),
        ({"x-amz-trailer": "x-other"}, "InvalidRequest", "The value specified in the x-amz-trailer header"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest", "but no corresponding x-amz-checksum-"),
        ({**CRC32, "x-amz-sdk-checksum-algorithm": "MD4"}, "InvalidRequest", "CRC32C, CRC64NVME, SHA1, SHA256]"),
        ({**CRC32, "x-amz-sdk-checksum-algorithm": "SHA256"}, "BadDigest", "The SHA256 you specified"),
    ],
)
def test_what_is_refused(headers: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(S3Error) as caught:
        declared(headers)
    assert caught.value.code == code
    assert message in caught.value.message


@given(st.binary(min_size=4, max_size=4))
def test_text_and_back(checksum: bytes) -> None:
    assert ALGORITHMS["CRC32"].parse(to_text(checksum)) == checksum


def test_the_number_of_parts() -> None:
    assert composite_text(bytes(4), 3) == "AAAAAA==-3"


def test_names() -> None:
    assert [(one.header, one.element) for one in ALGORITHMS.values()] == [
        ("x-amz-checksum-crc32", "ChecksumCRC32"),
        ("x-amz-checksum-crc32c", "ChecksumCRC32C"),
        ("x-amz-checksum-crc64nvme", "ChecksumCRC64NVME"),
        ("x-amz-checksum-sha1", "ChecksumSHA1"),
        ("x-amz-checksum-sha256", "ChecksumSHA256"),
    ]


def test_types_of_multipart_uploads() -> None:
    assert multipart_choice(None, None) == (DEFAULT, "FULL_OBJECT")
    allowed = {
        (name, kind)
        for name in ALGORITHMS
        for kind in ("FULL_OBJECT", "COMPOSITE")
        if _allowed(name, kind) and multipart_choice(name, kind) == (ALGORITHMS[name], kind)
    }
    assert allowed == {
        ("CRC32", "FULL_OBJECT"),
        ("CRC32", "COMPOSITE"),
        ("CRC32C", "FULL_OBJECT"),
        ("CRC32C", "COMPOSITE"),
        ("CRC64NVME", "FULL_OBJECT"),
        ("SHA1", "COMPOSITE"),
        ("SHA256", "COMPOSITE"),
    }
    defaults = [multipart_choice(name, None)[1] for name in ALGORITHMS]
    assert defaults == ["COMPOSITE", "COMPOSITE", "FULL_OBJECT", "COMPOSITE", "COMPOSITE"]


def _allowed(name: str, kind: str) -> bool:
    try:
        multipart_choice(name, kind)
    except S3Error as error:
        return error.code != "InvalidRequest"
    return True


@pytest.mark.parametrize(
    ("algorithm", "kind", "message"),
    [
        ("SHA1", "FULL_OBJECT", "The FULL_OBJECT checksum type cannot be used with the sha1 checksum algorithm."),
        ("CRC64NVME", "composite", "The COMPOSITE checksum type cannot be used with the crc64nvme"),
        ("CRC32", "x", "Value for x-amz-checksum-type header is invalid."),
        (None, "COMPOSITE", "can only be used with the x-amz-checksum-algorithm header."),
        ("XXHASH64", None, "Checksum algorithm provided is unsupported."),
    ],
)
def test_what_does_not_go_together(algorithm: str | None, kind: str | None, message: str) -> None:
    with pytest.raises(S3Error) as caught:
        multipart_choice(algorithm, kind)
    assert caught.value.code == "InvalidRequest"
    assert message in caught.value.message
