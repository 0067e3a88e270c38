"""From the body of a request to a file that is ready to be committed."""

from __future__ import annotations

import asyncio

from app.s3.body import Body, Received
from app.s3.checksums import Algorithm, declared
from app.s3.errors import S3Error
from app.s3.xml import Element, parse
from app.streams.ingest import Ingest

MAX_DOCUMENT = 8 << 20
"""Bytes of the longest documents that there are: a thousand keys, ten thousand parts."""

_LONG = 32 << 10
"""Bytes from which on a document is read in a thread."""


def check_length(body: Body, most: int) -> None:
    """Refuse a body before it is read. Raises S3Error MissingContentLength, EntityTooLarge."""
    length = body.length
    if length is None:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    if length > most:
        raise S3Error(
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed size",
            ProposedSize=str(length),
            MaxSizeAllowed=str(most),
        )


async def take(body: Body, ingest: Ingest, name: str, content_type: str, algorithm: Algorithm) -> Received:
    """Write the body into a file of an upload, which is to be committed then. Summed up by MD5 and this algorithm.
    Raises what `Body.copy_to` raises."""
    await ingest.begin_file(name, content_type)
    received = await body.copy_to(ingest.write, {"md5", algorithm.kind})
    await ingest.end_file()
    return received


def algorithm_of(body: Body, default: Algorithm) -> Algorithm:
    """That by which the request itself sums up its body."""
    return declared(body.headers).algorithm or default


async def read_document(body: Body, root: str) -> Element:
    """The root element of the body. Raises S3Error MalformedXML, and what `Body.copy_to` raises."""
    content = await body.document(MAX_DOCUMENT)
    if len(content) < _LONG:
        return parse(content, root, MAX_DOCUMENT)
    return await asyncio.to_thread(parse, content, root, MAX_DOCUMENT)
