"""Bodies encoded as aws-chunked: chunks of data, each with its size before it, then trailing headers. Sans-io.

    10000;chunk-signature=<64 digits>\\r\\n<65,536 bytes>\\r\\n
    0;chunk-signature=<64 digits>\\r\\n
    x-amz-checksum-crc32c:sOO8/Q==\\r\\n
    x-amz-trailer-signature:<64 digits>\\r\\n
    \\r\\n

Without signatures there are only the sizes. Source: the S3 API reference, "Transferring Payload in Multiple Chunks" and
"Signature calculations for trailing headers".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

from app.s3.errors import S3Error
from app.s3.sigkey import ChunkSigner, mismatch, same

MAX_SIGNED_CHUNK = 16 << 20
"""Bytes of a signed chunk: so much of a body is handed on at the most before its signature is seen to be wrong."""

MAX_HEADER = 1024
"""Bytes of the line before a chunk's data."""

MAX_TRAILER = 16 << 10
"""Bytes of all that follows the last chunk."""

_SIGNED = re.compile(rb"([0-9A-Fa-f]{1,16});chunk-signature=([0-9a-f]{64})\r\n")
_UNSIGNED = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\r\n]*)?\r\n")
_SIGNATURE = "x-amz-trailer-signature"

Pieces = list[bytes | memoryview]


class Decoder:
    """Decodes one body. How it is cut into pieces makes no difference.

    With a `signer` every chunk must be signed, and the trailing headers too; without one, extensions of chunks are
    not looked at. `decoded_length` is the number of bytes that must come out, None where it was not told.
    `trailers` are the names of the trailing headers, in lower case: all of them must come, and no others.

    Bytes are handed on before the signature of their chunk is checked. So they count only once `finish` has returned,
    and nothing may be visible of them before. After an error every further call raises S3Error.
    """

    def __init__(self, signer: ChunkSigner | None, *, decoded_length: int | None, trailers: frozenset[str]) -> None:
        self._signer = signer
        self._decoded_length = decoded_length
        self._trailers = trailers
        self._stage: Callable[[bytes, int, Pieces], int] = self._read_header
        self._held = bytearray()  # what is complete only with the next piece
        self._left = 0
        self._announced = 0
        self._signature = ""
        self._hash = hashlib.sha256()
        self._ended = False

    def feed(self, data: bytes) -> Pieces:
        """Take the next piece, return the data in it: views of it, or itself. Signed data is hashed on the way.

        Raises S3Error: SignatureDoesNotMatch, InvalidRequest where it is garbled or over a limit, IncompleteBody
        where more comes than announced, MalformedTrailerError.
        """
        pieces: Pieces = []
        at = 0
        try:
            while at < len(data):
                at = self._stage(data, at, pieces)
        except S3Error:
            self._ended = False
            self._stage = self._refuse
            raise
        return pieces

    def finish(self) -> Mapping[str, str]:
        """Return the trailing headers, by their names in lower case.

        Raises S3Error: IncompleteBody, SignatureDoesNotMatch, MalformedTrailerError.
        """
        rest = bytes(self._held)
        if not self._ended or not (rest == b"\r\n" or rest.endswith(b"\r\n\r\n")):
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly")
        if self._decoded_length not in (None, self._announced):
            raise _wrong_length()
        trailers = _parse_trailers(rest)
        signature = trailers.pop(_SIGNATURE, None) if self._signer and self._trailers else None
        if trailers.keys() != self._trailers:
            raise _malformed_trailer("Its headers are to be those that x-amz-trailer names, each of them once.")
        if self._signer and self._trailers:
            lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
            if signature is None:
                raise _malformed_trailer(f"Its last line is to be {_SIGNATURE}.")
            if not same(self._signer.trailer(lines.encode("latin-1")), signature):
                raise mismatch()
        return trailers

    # Each stage takes bytes of `data` from `at` on and returns the offset where the next one goes on.

    def _read_header(self, data: bytes, at: int, _pieces: Pieces) -> int:
        end = data.find(b"\n", at, at + MAX_HEADER)
        stop = end + 1 if end >= 0 else min(at + MAX_HEADER, len(data))
        self._held += data[at:stop]
        if len(self._held) > MAX_HEADER or (end < 0 and len(self._held) == MAX_HEADER):
            raise _garbled(f"The header of a chunk exceeds {MAX_HEADER} bytes.")
        if end >= 0:
            header = bytes(self._held)
            self._held.clear()
            self._open_chunk(header)
        return stop

    def _read_data(self, data: bytes, at: int, pieces: Pieces) -> int:
        stop = min(at + self._left, len(data))
        piece = data if stop - at == len(data) else memoryview(data)[at:stop]
        if self._signer:
            self._hash.update(piece)
        pieces.append(piece)
        self._left -= stop - at
        if not self._left:
            self._stage = self._read_end
        return stop

    def _read_end(self, data: bytes, at: int, _pieces: Pieces) -> int:
        """The two bytes behind a chunk's data."""
        stop = min(at + 2 - len(self._held), len(data))
        self._held += data[at:stop]
        if not b"\r\n".startswith(self._held):
            raise _garbled("A chunk is longer than its header says.")
        if len(self._held) == 2:
            self._held.clear()
            self._check_signature()
            self._stage = self._read_header
        return stop

    def _read_rest(self, data: bytes, at: int, _pieces: Pieces) -> int:
        """What follows the last chunk is looked at in the end: clients put empty lines at various places of it."""
        self._held += data[at : at + MAX_TRAILER + 1]
        if len(self._held) > MAX_TRAILER:
            raise _malformed_trailer(f"It exceeds {MAX_TRAILER} bytes.")
        return len(data)

    def _refuse(self, _data: bytes, _at: int, _pieces: Pieces) -> int:
        raise _garbled("The body is broken.")

    def _open_chunk(self, header: bytes) -> None:
        match = (_SIGNED if self._signer else _UNSIGNED).fullmatch(header)
        if match is None:
            raise _garbled("The header of a chunk can't be read.")
        self._left = int(match[1], 16)
        if self._signer and self._left > MAX_SIGNED_CHUNK:
            raise _garbled(f"A signed chunk exceeds {MAX_SIGNED_CHUNK} bytes.")
        self._announced += self._left
        if self._decoded_length is not None and self._announced > self._decoded_length:
            raise _wrong_length()
        self._signature = match[2].decode() if self._signer else ""
        self._stage = self._read_data
        if not self._left:
            self._check_signature()
            self._ended = True
            self._stage = self._read_rest

    def _check_signature(self) -> None:
        if self._signer and not same(self._signer.chunk(self._hash.hexdigest()), self._signature):
            raise mismatch()
        self._hash = hashlib.sha256()


def _parse_trailers(rest: bytes) -> dict[str, str]:
    trailers: dict[str, str] = {}
    for line in rest.decode("latin-1").split("\n"):
        name, colon, value = line.strip(" \t\r").partition(":")
        name = name.lower()
        if name in trailers or (name and not colon):
            raise _malformed_trailer("It has a line that is no header, or a header twice.")
        if colon:
            trailers[name] = value.strip(" \t")
    return trailers


def _garbled(message: str) -> S3Error:
    return S3Error("InvalidRequest", f"The body is not encoded as aws-chunked. {message}")


def _wrong_length() -> S3Error:
    return S3Error(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header.",
    )


def _malformed_trailer(message: str) -> S3Error:
    return S3Error(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema. "
        + message,
    )
