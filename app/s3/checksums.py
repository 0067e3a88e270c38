"""Checksums as the S3 API writes them: names, headers, base64, what goes together, and what a request says of its body.

Source: the user guide of S3, "Checking object integrity", and PutObject and CreateMultipartUpload of the API reference.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from app.s3.errors import S3Error
from app.streams.sums import Kind

ChecksumType = Literal["FULL_OBJECT", "COMPOSITE"]

_PREFIX = "x-amz-checksum-"
_NO_VALUES = (f"{_PREFIX}algorithm", f"{_PREFIX}mode", f"{_PREFIX}type")
"""Headers of that prefix that say something else."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A checksum algorithm: its name in headers and XML, its size in bytes, and the types of checksum that a
    multipart upload may have with it, the default one first. An object of one piece always has FULL_OBJECT."""

    name: str
    kind: Kind
    size: int
    types: Sequence[ChecksumType]

    @property
    def header(self) -> str:
        return _PREFIX + self.kind

    @property
    def element(self) -> str:
        return f"Checksum{self.name}"

    def parse(self, text: str) -> bytes:
        """A checksum from base64. Raises S3Error InvalidRequest."""
        return _decode(text, self.size) or _invalid(f"Value for {self.header} header is invalid.")


ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("CRC32", "crc32", 4, ("COMPOSITE", "FULL_OBJECT")),
        Algorithm("CRC32C", "crc32c", 4, ("COMPOSITE", "FULL_OBJECT")),
        Algorithm("CRC64NVME", "crc64nvme", 8, ("FULL_OBJECT",)),
        Algorithm("SHA1", "sha1", 20, ("COMPOSITE",)),
        Algorithm("SHA256", "sha256", 32, ("COMPOSITE",)),
    )
}

DEFAULT = ALGORITHMS["CRC64NVME"]
"""What an object gets whose client names no algorithm."""

_BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}


@dataclass(frozen=True, slots=True)
class Declared:
    """What a request says about its body. A checksum whose value is not there yet comes as a trailer."""

    md5: bytes | None = None
    algorithm: Algorithm | None = None
    checksum: bytes | None = None

    @property
    def trailer(self) -> str | None:
        """The trailer that must follow the body."""
        return self.algorithm.header if self.algorithm and self.checksum is None else None

    def with_trailers(self, trailers: Mapping[str, str]) -> Declared:
        """With what followed the body; lower-case names. Raises S3Error MalformedTrailerError, InvalidRequest."""
        if self.algorithm is None or self.trailer is None:
            return self
        if self.trailer not in trailers:
            raise S3Error("MalformedTrailerError", f"The trailer {self.trailer} was announced and did not follow.")
        return replace(self, checksum=self.algorithm.parse(trailers[self.trailer]))

    def check(self, sums: Mapping[Kind, bytes]) -> None:
        """Compare with the digests of the body, by kind. Raises S3Error BadDigest."""
        if self.md5 is not None and self.md5 != sums["md5"]:
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=to_text(self.md5),
                CalculatedDigest=to_text(sums["md5"]),
            )
        if self.algorithm and self.checksum is not None and self.checksum != sums[self.algorithm.kind]:
            _mismatch(self.algorithm)


def declared(headers: Mapping[str, str]) -> Declared:
    """What the headers say about the body: Content-MD5, `x-amz-checksum-*`, `x-amz-trailer` and
    `x-amz-sdk-checksum-algorithm`. Names are in lower case.

    Raises S3Error InvalidDigest for a Content-MD5 that is none; InvalidRequest for values that are no checksums, for
    several checksums, for an algorithm that is not known here, and for one without its checksum; BadDigest for an
    algorithm other than the checksum's.
    """
    values = [name for name in headers if name.startswith(_PREFIX) and name not in _NO_VALUES]
    trailers = _names(headers.get("x-amz-trailer", ""))
    if len(values) + len(trailers) > 1:
        _invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    if values and values[0] not in _BY_HEADER:
        _invalid("The algorithm type you specified in x-amz-checksum- header is invalid.")
    if trailers and trailers[0] not in _BY_HEADER:
        _invalid("The value specified in the x-amz-trailer header is not supported")
    found = [_BY_HEADER[name] for name in (*values, *trailers)]
    _check_named(headers.get("x-amz-sdk-checksum-algorithm"), found)
    return Declared(
        md5=_md5(headers["content-md5"]) if "content-md5" in headers else None,
        algorithm=found[0] if found else None,
        checksum=found[0].parse(headers[values[0]]) if values else None,
    )


def multipart_choice(algorithm: str | None, kind: str | None) -> tuple[Algorithm, ChecksumType]:
    """What CreateMultipartUpload asks for by `x-amz-checksum-algorithm` and `x-amz-checksum-type`.

    Raises S3Error InvalidRequest for names that are not known here, and for what does not go together.
    """
    if algorithm is None and kind is not None:
        _invalid("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
    chosen = DEFAULT if algorithm is None else _named(algorithm)
    if kind is None:
        return chosen, chosen.types[0]
    for one in chosen.types:
        if one == kind.upper():
            return chosen, one
    if kind.upper() not in ("FULL_OBJECT", "COMPOSITE"):
        _invalid("Value for x-amz-checksum-type header is invalid.")
    name = chosen.name.lower()
    return _invalid(f"The {kind.upper()} checksum type cannot be used with the {name} checksum algorithm.")


def to_text(checksum: bytes) -> str:
    return b64encode(checksum).decode()


def from_text(text: str) -> bytes:
    """A checksum that `to_text` wrote."""
    return b64decode(text)


def composite_text(checksum: bytes, parts: int) -> str:
    """A COMPOSITE checksum in headers and XML: it tells the number of parts."""
    return f"{to_text(checksum)}-{parts}"


def _names(header: str) -> list[str]:
    return [name.strip().lower() for name in header.split(",") if name.strip()]


def _named(name: str) -> Algorithm:
    known = ", ".join(ALGORITHMS)
    return ALGORITHMS.get(name.upper()) or _invalid(
        f"Checksum algorithm provided is unsupported. Please try again with any of the valid types: [{known}]"
    )


def _check_named(name: str | None, found: Sequence[Algorithm]) -> None:
    if name is None:
        return
    named = _named(name)
    if not found:
        _invalid(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
            "headers were found."
        )
    if named != found[0]:
        _mismatch(named)


def _md5(text: str) -> bytes:
    digest = _decode(text, 16)
    if digest is None:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.", **{"Content-MD5": text})
    return digest


def _decode(text: str, size: int) -> bytes | None:
    """So many bytes from base64, or None where the text is something else."""
    try:
        decoded = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return decoded if len(decoded) == size else None


def _mismatch(algorithm: Algorithm) -> NoReturn:
    raise S3Error("BadDigest", f"The {algorithm.name} you specified did not match the calculated checksum.")


def _invalid(message: str) -> NoReturn:
    raise S3Error("InvalidRequest", message)
