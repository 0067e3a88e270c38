"""The headers of tus requests."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from app.api.tus_protocol import Checksum, Creation, checksum, number
from app.errors import BadRequest, TooLarge
from app.streams.multipart import DEFAULT_CONTENT_TYPE

MOST = 1000


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def created(**headers: str) -> Creation:
    return Creation.read({name.replace("_", "-"): value for name, value in headers.items()}, MOST)


@pytest.mark.parametrize(("headers", "size"), [({"upload_length": "1000"}, 1000), ({"upload_defer_length": "1"}, None)])
def test_the_size_is_told_or_deferred(headers: dict[str, str], size: int | None) -> None:
    assert created(**headers).size == size


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"upload_length": "5", "upload_defer_length": "1"},
        {"upload_defer_length": "2"},
        {"upload_length": "-1"},
        {"upload_length": ""},
        {"upload_length": "1e3"},
        {"upload_length": "²"},
        {"upload_length": "9" * 19},
    ],
)
def test_a_size_that_can_not_be_read_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        created(**headers)


def test_a_size_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        created(upload_length="1001")


@pytest.mark.parametrize(
    ("metadata", "name", "content_type"),
    [
        ("", "", DEFAULT_CONTENT_TYPE),
        (f"filename {b64('ü.txt')}", "ü.txt", DEFAULT_CONTENT_TYPE),
        (f"filetype {b64('text/plain')},filename {b64('a')}", "a", "text/plain"),
        # As Uppy has them.
        (f"relativePath bnVsbA==,name {b64('b')}, type {b64('x/y')}", "b", "x/y"),
        (f"name {b64('second')},filename {b64('first')}", "first", DEFAULT_CONTENT_TYPE),
        ("is_confidential,filename", "", DEFAULT_CONTENT_TYPE),
        ("thumbnail /9j/,", "", DEFAULT_CONTENT_TYPE),
        (f"filetype {b64('no type')}", "", DEFAULT_CONTENT_TYPE),
        (f"filetype {b64('text/plain' + chr(10))}", "", DEFAULT_CONTENT_TYPE),
    ],
)
def test_the_name_and_the_type_are_in_the_metadata(metadata: str, name: str, content_type: str) -> None:
    found = created(upload_length="1", upload_metadata=metadata)
    assert (found.name, found.content_type, found.metadata) == (name, content_type, metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        "filename ?",
        "filename YQ",
        f"filename {b64('a')} {b64('b')}",
        "ü YQ==",
        "a YQ==,a Yg==",
        "filename /w==",
        "a" * 8193,
    ],
)
def test_metadata_that_can_not_be_read_are_refused(metadata: str) -> None:
    with pytest.raises(BadRequest):
        created(upload_length="1", upload_metadata=metadata)


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("final;/api/tus/a /api/tus/b", ["a", "b"]),
        ("final; https://example.org/before/api/tus/a?x=1 /c/", ["a", "c"]),
        ("final;a a", ["a", "a"]),
    ],
)
def test_what_is_to_be_concatenated(header: str, parts: list[str]) -> None:
    found = created(upload_concat=header)
    assert (found.parts, found.size, found.concat) == (parts, None, header)


@pytest.mark.parametrize("header", ["final", "final;", "final; /", "first;/a", "partially", "partial;/a"])
def test_a_concatenation_that_can_not_be_read_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        created(upload_concat=header)
    with pytest.raises(BadRequest):
        created(upload_concat="final;/a", upload_length="5")


def test_a_partial_upload_has_a_size_of_its_own() -> None:
    assert created(upload_concat="partial", upload_length="5").size == 5
    with pytest.raises(BadRequest):
        created(upload_concat="partial")


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_checksums(kind: str) -> None:
    digest = hashlib.new(kind, b"x").digest()
    assert checksum({"upload-checksum": f"{kind} {b64encode(digest).decode()}"}) == Checksum(kind, digest)  # type: ignore[arg-type]
    assert checksum({}) is None


@pytest.mark.parametrize(
    "header", ["", "sha1", "sha1 ", "sha1 x", "sha1 AAAA", "crc32 AAAAAA==", f"md5 {b64('a' * 20)}", f"sha1 {'0' * 40}"]
)
def test_checksums_that_can_not_be_read_are_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        checksum({"upload-checksum": header})


def test_a_checksum_behind_the_body_is_refused() -> None:
    with pytest.raises(BadRequest):
        checksum({"trailer": "Upload-Checksum"})


def test_numbers() -> None:
    assert number({"upload-offset": "0"}, "Upload-Offset") == 0
    assert number({}, "Upload-Offset") is None
    with pytest.raises(BadRequest, match="Upload-Offset"):
        number({"upload-offset": "+1"}, "Upload-Offset")
