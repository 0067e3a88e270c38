"""What a CompleteMultipartUpload asks for: which parts, and what the object is that they make (S3 user guide, "Checking
object integrity", and the API reference)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import NoReturn

from app.errors import InvalidPart
from app.models.sessions import Part, UploadSession
from app.s3.checksums import ALGORITHMS, DEFAULT, Algorithm, from_text, to_text
from app.s3.entry import checksum_text, checksum_type
from app.s3.errors import S3Error
from app.s3.preconditions import unquoted
from app.s3.xml import Element
from app.streams.crcs import combine
from app.streams.sums import composite, multipart_etag
from app.types import Checksum, Entry, File, PartSize

MIN_PART = 5 << 20
"""Bytes of every part but the last."""

_ETAG = re.compile(r"[0-9a-f]{32}")
_CHECKSUM = "Checksum"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A part as the request names it; `checksums` are base64 by the names of their elements."""

    number: int
    etag: str
    checksums: Mapping[str, str]

    @classmethod
    def read(cls, element: Element) -> Chosen:
        checksums = {one.name: one.own_text() for one in element.children if one.name.startswith(_CHECKSUM)}
        return cls(element.integer("PartNumber"), unquoted(element.text("ETag")), checksums)

    def agrees(self, part: Part, algorithm: Algorithm) -> bool:
        """Whether the checksums are those of the part. Where the upload was begun without an algorithm, a part may have
        been summed up by any, which was verified then."""
        return all(
            text == part.sums.checksum if name == algorithm.element else algorithm == DEFAULT
            for name, text in self.checksums.items()
        )


@dataclass(frozen=True, slots=True)
class Assembly:
    """`headers` are those of the request, which may tell the size and the checksum of the object."""

    parts: Sequence[Chosen]
    headers: Mapping[str, str]

    @classmethod
    def read(cls, root: Element, headers: Mapping[str, str]) -> Assembly:
        """Raises S3Error MalformedXML, InvalidPartOrder."""
        parts = [Chosen.read(element) for element in root.all("Part")]
        if not parts:
            raise S3Error("MalformedXML", "You must specify at least one part.")
        if any(one.number >= following.number for one, following in pairwise(parts)):
            raise S3Error(
                "InvalidPartOrder",
                "The list of parts was not in ascending order. The parts list must be "
                "specified in order by part number.",
            )
        return cls(parts, headers)

    def chosen(self, session: UploadSession, there: Sequence[Part]) -> list[Part]:
        """Those of the parts that there are. Raises InvalidPart; S3Error EntityTooSmall."""
        by_number = {part.number: part for part in there}
        algorithm = ALGORITHMS[session.checksum]
        found: list[Part] = []
        for wanted in self.parts:
            part = by_number.get(wanted.number)
            if part is None or part.sums.etag != wanted.etag:
                _invalid_part(wanted)
            if not wanted.agrees(part, algorithm):
                _invalid_part(wanted)
            found.append(part)
        for part in found[:-1]:
            if part.size < MIN_PART:
                raise S3Error(
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    ProposedSize=str(part.size),
                    MinSizeAllowed=str(MIN_PART),
                    PartNumber=str(part.number),
                    ETag=part.sums.etag,
                )
        return found

    def entry(self, session: UploadSession, parts: Sequence[Part], most: int) -> Entry:
        """The object that they make. Raises S3Error EntityTooLarge, BadDigest, InvalidRequest."""
        size = sum(part.size for part in parts)
        self._check_size(size, most)
        sizes = tuple(PartSize(part.number, part.size, part.sums.checksum) for part in parts)
        etag = multipart_etag([bytes.fromhex(part.sums.etag) for part in parts])
        entry = replace(session.entry, etag=unquoted(etag), checksum=_checksum(session, parts), parts=sizes)
        self._check_sum(entry, ALGORITHMS[session.checksum])
        return entry

    def _check_size(self, size: int, most: int) -> None:
        told = self.headers.get("x-amz-mp-object-size")
        if told is not None and told != str(size):
            raise S3Error("InvalidRequest", f"The x-amz-mp-object-size is {told[:30]}, and the parts are {size} bytes.")
        if size > most:
            raise S3Error(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                ProposedSize=str(size),
                MaxSizeAllowed=str(most),
            )

    def _check_sum(self, entry: Entry, algorithm: Algorithm) -> None:
        checksum = entry.checksum
        assert checksum is not None  # noqa: S101 - it was made a moment ago
        kind = checksum_type(checksum)
        if self.headers.get("x-amz-checksum-type", kind).upper() != kind:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using the {kind} checksum mode. The complete request must use the same "
                "checksum mode.",
            )
        for one in ALGORITHMS.values():
            told = self.headers.get(one.header)
            if told is not None and (one != algorithm or told not in (checksum.value, checksum_text(entry, checksum))):
                raise S3Error("BadDigest", f"The {one.name} you specified did not match the calculated checksum.")

    def check_made(self, file: File) -> None:
        """Whether these are the parts that an object was made of. Raises InvalidPart."""
        for part in self.parts:
            if not _ETAG.fullmatch(part.etag):
                _invalid_part(part)
        etag = unquoted(multipart_etag([bytes.fromhex(part.etag) for part in self.parts]))
        if file.entry is None or file.entry.etag != etag:
            raise InvalidPart("The upload was completed with other parts.")


def _checksum(session: UploadSession, parts: Sequence[Part]) -> Checksum:
    algorithm = ALGORITHMS[session.checksum]
    sums = [from_text(part.sums.checksum) for part in parts]
    if session.composite:
        return Checksum(algorithm.name, to_text(composite(algorithm.kind, sums)), composite=True)
    pairs = zip(sums[1:], parts[1:], strict=True)
    whole = reduce(lambda first, pair: combine(algorithm.kind, first, pair[0], pair[1].size), pairs, sums[0])
    return Checksum(algorithm.name, to_text(whole))


def _invalid_part(part: Chosen) -> NoReturn:
    raise InvalidPart(
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified "
        f"entity tag may not match the part's entity tag: part {part.number}."
    )
