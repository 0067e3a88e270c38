"""The body of a request: decoded, summed up beside what is done with it, and compared with what was said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.types import Receive

from app.s3.aws_chunked import Decoder
from app.s3.checksums import Declared, declared
from app.s3.errors import S3Error
from app.s3.sigkey import ChunkSigner
from app.s3.sigv4 import Payload
from app.streams.sums import Kind, Sums
from app.web.bodies import body_pieces

_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_INLINE = 32 << 10
"""Bytes up to which a signed piece is hashed at once, rather than in a thread."""

Write = Callable[[bytes | memoryview], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    """What came: the bytes, and their digests, which are those that were `declared` if any were."""

    size: int
    sums: Mapping[Kind, bytes]
    declared: Declared


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was not read yet. `signer` is that of its chunks; where these are signed and nobody can tell whether
    rightly, as on an open server, it is None."""

    receive: Receive
    headers: Mapping[str, str]
    payload: Payload
    signer: ChunkSigner | None
    idle_timeout: float

    @property
    def length(self) -> int | None:
        """Bytes of it, decoded, where that is told. Raises S3Error InvalidArgument."""
        name = "x-amz-decoded-content-length" if self.payload.chunked else "content-length"
        text = self.headers.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise S3Error("InvalidArgument", f"The header {name} must be a number of bytes.")
        return int(text)

    async def copy_to(self, write: Write, kinds: Collection[Kind] = ()) -> Received:
        """Hand the bytes on as they come, and sum them up, by these digests and those that the request tells.

        Nothing that was written may be seen by anybody before this returns. Raises S3Error where it is not what the
        request said: BadDigest, XAmzContentSHA256Mismatch, IncompleteBody, and what `Decoder` raises; UploadStalled,
        ClientDisconnect, and what `write` raises.
        """
        told = declared(self.headers)
        wanted: set[Kind] = set(kinds)
        if told.md5 is not None:
            wanted.add("md5")
        if told.algorithm:
            wanted.add(told.algorithm.kind)
        if self.payload.sha256 is not None:
            wanted.add("sha256")
        decoder = self._decoder()
        sums, size = Sums(wanted), 0
        try:
            async for piece in body_pieces(self.receive, self.idle_timeout):
                for data in await _decoded(decoder, piece):
                    size += len(data)
                    await sums.update(data)
                    await write(data)
            trailers = decoder.finish() if decoder else {}
            found = await sums.finish()
        except BaseException:
            sums.close()
            raise
        if self.length not in (None, size):
            raise S3Error("IncompleteBody", "You did not provide the number of bytes specified by the headers.")
        if self.payload.sha256 not in (None, found.get("sha256", b"").hex()):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
                ClientComputedContentSHA256=str(self.payload.sha256),
                S3ComputedContentSHA256=found["sha256"].hex(),
            )
        told = told.with_trailers(trailers)
        told.check(found)
        return Received(size, MappingProxyType(dict(found)), told)

    async def document(self, limit: int, code: str = "MalformedXML") -> bytes:
        """All of it. Raises S3Error as `copy_to`, and with this code where it is longer than `limit` bytes."""
        held = bytearray()

        async def write(data: bytes | memoryview) -> None:
            held.extend(data)
            if len(held) > limit:
                raise S3Error(code, f"The body is longer than the {limit} bytes that are allowed here.")

        await self.copy_to(write)
        return bytes(held)

    def _decoder(self) -> Decoder | None:
        if not self.payload.chunked:
            return None
        trailers = frozenset(
            name.strip().lower() for name in self.headers.get("x-amz-trailer", "").split(",") if name.strip()
        )
        if self.payload.trailer and self.payload.signed_chunks and self.signer is None:
            trailers |= {_TRAILER_SIGNATURE}
        return Decoder(self.signer, decoded_length=self.length, trailers=trailers)


async def _decoded(decoder: Decoder | None, piece: bytes) -> list[bytes | memoryview]:
    if decoder is None:
        return [piece]
    return decoder.feed(piece) if len(piece) <= _INLINE else await asyncio.to_thread(decoder.feed, piece)
