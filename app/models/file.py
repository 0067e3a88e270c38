"""A file's document, which is also that of the object that it is.

    {_id, name, size, contentType, contentId, createdAt, owner, pages: [{id, size, chunks}],
     bucket, key, listed, seq, relied, versioned, etag, headers, metadata, tags, acl,
     sum: {kind, value, composite}, parts: [{number, size, sum}], lock: {mode, until, hold}}

What came by the native API has the bucket `""` and the key `ID/NAME`, and none of what follows `listed`.
Of the versions of an object `seq` says which one is newer; the newest one is `listed`, unless it is a delete
marker: {_id, bucket, key, seq, relied, versioned, owner, marker: true, createdAt}. `relied` changes whenever it is
decided what is listed, or what goes, on the ground that this one is the newest, or is there. Where it is missing,
`versioned` is false, `acl` private, and there is nothing of the rest. `headers`, `metadata` and `tags` are lists of
pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.models.database import Document, ObjectId
from app.models.object_lock import read_lock, written_lock
from app.types import Checksum, Entry, File, FileId, PageId, PageRef, PartSize

NO_MARKER: Mapping[str, None] = {"marker": None}
"""A query for files that are none."""


def read_file(document: Document) -> File:
    return File(
        FileId(str(document["_id"])),
        document["name"],
        document["size"],
        document["contentType"],
        document["contentId"],
        document["createdAt"],
        document["owner"],
        tuple(PageRef(PageId(page["id"]), page["size"], page["chunks"]) for page in document.get("pages", ())),
        _read_entry(document) if "etag" in document else None,
    )


def _read_entry(document: Document) -> Entry:
    checksum = document.get("sum")
    return Entry(
        document["bucket"],
        document["key"],
        document["etag"],
        dict(document.get("headers", ())),
        dict(document.get("metadata", ())),
        dict(document.get("tags", ())),
        document.get("acl", "private"),
        Checksum(checksum["kind"], checksum["value"], checksum["composite"]) if checksum else None,
        tuple(PartSize(part["number"], part["size"], part["sum"]) for part in document.get("parts", ())),
        document.get("versioned", False),
        read_lock(document),
    )


def written_file(file: File, seq: int = 0) -> Document:
    """The document of a file that is new; as an object it is the `seq`th version."""
    document = {
        "_id": ObjectId(file.id),
        "name": file.name,
        "size": file.size,
        "contentType": file.content_type,
        "contentId": file.content_id,
        "createdAt": file.created_at,
        "owner": file.owner,
        "pages": [{"id": page.id, "size": page.size, "chunks": page.chunks} for page in file.pages],
        "listed": True,
    }
    if file.entry is None:
        return {**document, "bucket": "", "key": f"{file.id}/{file.name}"}
    return {**document, "seq": seq, **_written_entry(file.entry)}


def _written_entry(entry: Entry) -> Document:
    written: Document = {"bucket": entry.bucket, "key": entry.key, "etag": entry.etag}
    pairs = {"headers": entry.headers, "metadata": entry.metadata, "tags": entry.tags}
    written |= {name: written_pairs(value) for name, value in pairs.items() if value}
    written |= written_lock(entry.lock)
    if entry.versioned:
        written["versioned"] = True
    if entry.acl != "private":
        written["acl"] = entry.acl
    if checksum := entry.checksum:
        written["sum"] = {"kind": checksum.kind, "value": checksum.value, "composite": checksum.composite}
    if entry.parts:
        written["parts"] = [{"number": part.number, "size": part.size, "sum": part.checksum} for part in entry.parts]
    return written


def written_pairs(pairs: Mapping[str, str]) -> list[list[str]]:
    """Names that users choose can't be those of fields: they may hold dots and dollars."""
    return [[name, value] for name, value in pairs.items()]
