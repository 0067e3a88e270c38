"""Chunked bodies: the examples of the S3 API reference, any cut of them, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import example, given
from hypothesis import strategies as st

from app.s3.aws_chunked import MAX_HEADER, MAX_SIGNED_CHUNK, MAX_TRAILER, Decoder
from app.s3.errors import S3Error
from app.s3.sigkey import HEADER, ChunkSigner, Credential
from app.s3.sigv4 import authorization
from tests.s3.tools import ACCESS_KEY, NOW, REGION, SCOPE, SECRET, STAMP, authorization_header, refused, request

SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
DATA = b"a" * 66_560
NONE: frozenset[str] = frozenset()
CRC = frozenset({"x-amz-checksum-crc32c"})


def signer(seed: str = SEED) -> ChunkSigner:
    key = Credential.parse(f"{ACCESS_KEY}/{SCOPE}", HEADER).signing_key(SECRET)
    return ChunkSigner(key, SCOPE, STAMP, seed)


def cut(body: bytes, at: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted(at), len(body)]
    return (body[start:stop] for start, stop in pairwise(edges))


def decode(decoder: Decoder, pieces: Iterator[bytes] | Sequence[bytes]) -> tuple[bytes, Mapping[str, str]]:
    data = b"".join(piece for fed in pieces for piece in decoder.feed(fed))
    return data, decoder.finish()


def plain(body: bytes, length: int | None = None, trailers: frozenset[str] = NONE) -> tuple[bytes, Mapping[str, str]]:
    return decode(Decoder(None, decoded_length=length, trailers=trailers), [body])


def encode(chunks: Sequence[bytes], trailers: Mapping[str, str], chain: ChunkSigner | None) -> bytes:
    """As a client does: `chunks` and the empty one."""
    body = bytearray()
    for chunk in (*chunks, b""):
        signature = f";chunk-signature={chain.chunk(hashlib.sha256(chunk).hexdigest())}" if chain else ""
        body += f"{len(chunk):x}{signature}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
    for name, value in trailers.items():
        body += f"{name}:{value}\r\n".encode()
    if chain and trailers:
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
        body += f"x-amz-trailer-signature:{chain.trailer(lines.encode())}\r\n".encode()
    return bytes(body) + b"\r\n"


# --- the examples of the reference ------------------------------------------------------------------------------

SIGNED = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n%s\r\n"
    b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n%s\r\n"
    b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
) % (DATA[:65_536], DATA[65_536:])
SIGNED_TRAILER = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n%s\r\n"
    b"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n%s\r\n"
    b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
) % (DATA[:65_536], DATA[65_536:])


def put_object(signed_headers: str, signature: str, headers: dict[str, str]) -> ChunkSigner:
    """The reference's "PUT Object" in chunks, verified."""
    given = {
        "host": "s3.amazonaws.com",
        "x-amz-date": STAMP,
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": authorization_header(signed_headers, signature),
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
    }
    claim = authorization(request("PUT", "/examplebucket/chunkObject.txt", given | headers))
    assert claim is not None
    chain = claim.verify(SECRET, NOW, REGION)
    assert chain is not None
    return chain


def test_the_example_of_signed_chunks() -> None:
    names = (
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class"
    )
    assert len(SIGNED) == 66_824
    chain = put_object(names, SEED, {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"})
    assert decode(Decoder(chain, decoded_length=66_560, trailers=NONE), [SIGNED]) == (DATA, {})


def test_the_example_of_a_signed_trailer() -> None:
    names = (
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;"
        "x-amz-trailer"
    )
    kind = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"}
    chain = put_object(names, TRAILER_SEED, kind | {"x-amz-trailer": "x-amz-checksum-crc32c"})
    decoder = Decoder(chain, decoded_length=66_560, trailers=CRC)
    assert decode(decoder, [SIGNED_TRAILER]) == (DATA, {"x-amz-checksum-crc32c": "sOO8/Q=="})


def test_an_unsigned_trailer_as_botocore_sends_it() -> None:
    body = AwsChunkedWrapper(io.BytesIO(DATA), Crc32Checksum, "x-amz-checksum-crc32", chunk_size=1000).read()
    crc = base64.b64encode(zlib.crc32(DATA).to_bytes(4)).decode()
    assert plain(body, len(DATA), frozenset({"x-amz-checksum-crc32"})) == (DATA, {"x-amz-checksum-crc32": crc})


# --- any cut ----------------------------------------------------------------------------------------------------

CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
CUTS = st.lists(st.integers(0, 600), max_size=20)
TRAILERS = st.dictionaries(
    st.from_regex(r"x-[a-z]{1,8}", fullmatch=True), st.from_regex(r"[!-~]{0,12}", fullmatch=True)
)


@given(chunks=CHUNKS, trailers=TRAILERS, signed=st.booleans(), cuts=CUTS)
@example(chunks=[b"ab", b"\r\n"], trailers={"x-a": "b"}, signed=True, cuts=list(range(600)))
@example(chunks=[], trailers={}, signed=False, cuts=list(range(600)))
def test_every_cut_decodes_alike(chunks: list[bytes], trailers: dict[str, str], signed: bool, cuts: list[int]) -> None:
    data = b"".join(chunks)
    body = encode(chunks, trailers, signer() if signed else None)
    decoder = Decoder(signer() if signed else None, decoded_length=len(data), trailers=frozenset(trailers))
    assert decode(decoder, cut(body, [min(one, len(body)) for one in cuts])) == (data, trailers)


@given(chunks=CHUNKS, trailers=TRAILERS, signed=st.booleans(), data=st.data())
def test_no_beginning_of_a_body_is_a_body(
    chunks: list[bytes], trailers: dict[str, str], signed: bool, data: st.DataObject
) -> None:
    body = encode(chunks, trailers, signer() if signed else None)
    shorter = body[: data.draw(st.integers(0, len(body) - 1))]
    decoder = Decoder(signer() if signed else None, decoded_length=None, trailers=frozenset(trailers))
    with refused("IncompleteBody"):
        decode(decoder, [shorter])


Outcome = tuple[bytes, Mapping[str, str]] | str


def outcome(make: Callable[[], Decoder], pieces: Iterator[bytes]) -> Outcome:
    try:
        return decode(make(), pieces)
    except S3Error as error:
        return error.code


GARBAGE = st.lists(
    st.one_of(
        st.sampled_from([b"0\r\n", b"\r\n", b"3\r\nabc\r\n", b"x-a:b\r\n", b"10", b";", b"\n", b"chunk-signature="]),
        st.binary(max_size=8),
    )
).map(b"".join)


@given(body=GARBAGE, length=st.none() | st.integers(0, 9), names=st.sampled_from([NONE, frozenset({"x-a"})]), cuts=CUTS)
def test_any_bytes_decode_or_are_refused_however_cut(
    body: bytes, length: int | None, names: frozenset[str], cuts: list[int]
) -> None:
    def make() -> Decoder:
        return Decoder(None, decoded_length=length, trailers=names)

    assert outcome(make, cut(body, [min(one, len(body)) for one in cuts])) == outcome(make, iter([body]))


@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_byte_of_a_signed_body_can_be_changed(place: int, flip: int) -> None:
    chunks, trailers = [b"abc" * 9, b"\r\n0;"], {"x-amz-checksum-crc32": "aaaa"}
    body = bytearray(encode(chunks, trailers, signer()))
    body[place % len(body)] ^= flip
    decoder = Decoder(signer(), decoded_length=None, trailers=frozenset(trailers))
    got = outcome(lambda: decoder, iter([bytes(body)]))
    assert isinstance(got, str) or got == (b"".join(chunks), trailers), "spelled otherwise at the most: A for a"


# --- what is passed on ------------------------------------------------------------------------------------------


def test_data_is_not_copied() -> None:
    decoder = Decoder(None, decoded_length=None, trailers=NONE)
    decoder.feed(b"8\r\n")
    data = b"all data"[:8]
    assert decoder.feed(data)[0] is data
    (view,) = Decoder(None, decoded_length=None, trailers=NONE).feed(piece := b"3\r\nabc\r\n")
    assert isinstance(view, memoryview)
    assert view.obj is piece


def test_data_is_passed_on_before_its_chunk_is_complete() -> None:
    decoder = Decoder(signer(), decoded_length=None, trailers=NONE)
    assert b"".join(decoder.feed(SIGNED[:1000])) == DATA[: 1000 - SIGNED.index(b"\n") - 1]


def test_an_empty_body() -> None:
    assert plain(b"0\r\n\r\n", 0) == (b"", {})


# --- signatures -------------------------------------------------------------------------------------------------


def swapped(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\r\naaaa", b"\r\naaab"), (b"ad80", b"ad81"), (b"0055", b"1055"), (b"b6c6", b"c6c6")],
)
def test_a_tampered_chunk_is_refused(old: bytes, new: bytes) -> None:
    with refused("SignatureDoesNotMatch"):
        decode(Decoder(signer(), decoded_length=None, trailers=NONE), [swapped(SIGNED, old, new)])


def test_chunks_can_not_be_left_out() -> None:
    first = SIGNED.index(b"400;")
    for body in (SIGNED[first:], SIGNED[:first] + SIGNED[SIGNED.index(b"0;chunk-signature=b6") :]):
        with refused("SignatureDoesNotMatch"):
            decode(Decoder(signer(), decoded_length=None, trailers=NONE), [body])


@pytest.mark.parametrize(("old", "new"), [(b"sOO8", b"sOO9"), (b"d81f", b"e81f")])
def test_a_tampered_trailer_is_refused(old: bytes, new: bytes) -> None:
    with refused("SignatureDoesNotMatch"):
        decode(Decoder(signer(TRAILER_SEED), decoded_length=None, trailers=CRC), [swapped(SIGNED_TRAILER, old, new)])


def test_a_trailer_without_its_signature_is_refused() -> None:
    body = SIGNED_TRAILER[: SIGNED_TRAILER.index(b"x-amz-trailer-signature")] + b"\r\n"
    with refused("MalformedTrailerError", "x-amz-trailer-signature"):
        decode(Decoder(signer(TRAILER_SEED), decoded_length=None, trailers=CRC), [body])


@pytest.mark.parametrize(
    "header", [b"3\r\n", b"3;chunk-signature=\r\n", b"3;a=b\r\n", b"3;chunk-signature=" + b"A" * 64]
)
def test_a_chunk_without_a_signature_is_refused(header: bytes) -> None:
    with refused("InvalidRequest"):
        decode(Decoder(signer(), decoded_length=None, trailers=NONE), [header + b"\r\nabc\r\n0\r\n\r\n"])


def test_extensions_of_unsigned_chunks_do_not_matter() -> None:
    assert plain(b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n3 ; a=b;c\r\ndef\r\n0;x\r\n\r\n") == (b"abcdef", {})


# --- limits and lengths -----------------------------------------------------------------------------------------


def test_a_signed_chunk_has_so_many_bytes_at_the_most() -> None:
    signature = b";chunk-signature=" + b"0" * 64 + b"\r\n"
    Decoder(signer(), decoded_length=None, trailers=NONE).feed(b"%x" % MAX_SIGNED_CHUNK + signature)
    with refused("InvalidRequest", "signed chunk exceeds"):
        Decoder(signer(), decoded_length=None, trailers=NONE).feed(b"%x" % (MAX_SIGNED_CHUNK + 1) + signature)


@pytest.mark.parametrize("step", [1, 100, MAX_HEADER, 3 * MAX_HEADER])
def test_a_header_has_so_many_bytes_at_the_most(step: int) -> None:
    fits = b"3;" + b"x" * (MAX_HEADER - 4) + b"\r\n"
    body = fits + b"abc\r\n0\r\n\r\n"
    decoder = Decoder(None, decoded_length=None, trailers=NONE)
    assert decode(decoder, cut(body, range(0, len(body), step))) == (b"abc", {})
    with refused("InvalidRequest", "header of a chunk exceeds"):
        decode(Decoder(None, decoded_length=None, trailers=NONE), cut(b"3;x" + fits[2:], range(0, len(fits), step)))
    with refused("InvalidRequest", "header of a chunk exceeds"):
        decode(Decoder(None, decoded_length=None, trailers=NONE), cut(b"3" * 9000, range(0, 9000, step)))


@pytest.mark.parametrize("step", [1000, 3 * MAX_TRAILER])
def test_a_trailer_has_so_many_bytes_at_the_most(step: int) -> None:
    for tail, code in ((b"x-a:" + b"b" * (MAX_TRAILER - 8) + b"\r\n\r\n", ""), (b"\r\n" * MAX_TRAILER, "exceeds")):
        decoder = Decoder(None, decoded_length=None, trailers=frozenset({"x-a"}))
        pieces = cut(b"0\r\n" + tail, range(0, len(tail), step))
        if code:
            with refused("MalformedTrailerError", code):
                decode(decoder, pieces)
        else:
            assert len(decode(decoder, pieces)[1]["x-a"]) == MAX_TRAILER - 8


@pytest.mark.parametrize("length", [2, 4])
def test_the_length_is_that_which_was_told(length: int) -> None:
    with refused("IncompleteBody", "x-amz-decoded-content-length"):
        plain(b"3\r\nabc\r\n0\r\n\r\n", length)


def test_a_chunk_beyond_the_length_is_refused_before_it_comes() -> None:
    with refused("IncompleteBody", "x-amz-decoded-content-length"):
        Decoder(None, decoded_length=10, trailers=NONE).feed(b"ffffffffffffffff\r\n")


@pytest.mark.parametrize(
    "body",
    [b"\r\n", b"x\r\n", b"-3\r\nabc", b"0x3\r\nabc", b" 3\r\nabc", b"3\nabc", b"3\r\nabcd", b"3\r\nabc\n",
     b"11111111111111111\r\n", b"3_0\r\n", b"3 3\r\n", b"3\rabc\r\n", "\N{ARABIC-INDIC DIGIT ONE}\r\n".encode()],
)  # fmt: skip
def test_what_is_no_chunk(body: bytes) -> None:
    with refused("InvalidRequest", "not encoded as aws-chunked"):
        plain(body)


def test_after_an_error_every_call_is_one() -> None:
    decoder = Decoder(None, decoded_length=None, trailers=frozenset({"x-a"}))
    with refused("MalformedTrailerError"):
        decoder.feed(b"0\r\nx-a:" + b"b" * (MAX_TRAILER - 7) + b"\r\n\r\n")
    with refused("InvalidRequest"):
        decoder.feed(b"0\r\nx-a:b\r\n\r\n")
    with refused("IncompleteBody"):
        decoder.finish()


# --- trailing headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [b"x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n", b"X-Amz-Checksum-CRC32C: sOO8/Q== \r\n\r\n",
     b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n\r\n", b"\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n\r\n"],
)  # fmt: skip
def test_trailers_as_clients_write_them(tail: bytes) -> None:
    assert plain(b"0\r\n" + tail, 0, CRC) == (b"", {"x-amz-checksum-crc32c": "sOO8/Q=="})


@pytest.mark.parametrize(
    ("tail", "announced"),
    [
        (b"x-a:1\r\n\r\n", NONE),
        (b"\r\n", CRC),
        (b"x-a:1\r\n\r\n", CRC),
        (b"x-a:1\r\nx-b:2\r\n\r\n", frozenset({"x-a"})),
        (b"x-a:1\r\nX-A:1\r\n\r\n", frozenset({"x-a"})),
        (b"x-a\r\n\r\n", frozenset({"x-a"})),
        (b":1\r\n\r\n", NONE),
        (b"x-a:1\r\nx-amz-trailer-signature:0\r\n\r\n", frozenset({"x-a"})),
        (b"3\r\nabc\r\n\r\n", NONE),
    ],
)
def test_trailers_are_those_that_were_announced(tail: bytes, announced: frozenset[str]) -> None:
    with refused("MalformedTrailerError"):
        plain(b"0\r\n" + tail, 0, announced)


def test_signed_chunks_without_an_announced_trailer_have_none() -> None:
    body = SIGNED[:-2] + b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n"
    with refused("MalformedTrailerError"):
        decode(Decoder(signer(), decoded_length=None, trailers=NONE), [body])
