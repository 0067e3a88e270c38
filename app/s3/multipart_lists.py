"""What there is of multipart uploads: those of a bucket, and the parts of one."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from app.errors import NoSuchUpload
from app.models.database import object_id
from app.models.objects import Position
from app.models.sessions import Part, UploadSession
from app.s3.acls import owner_document
from app.s3.asked import MOST, Asked
from app.s3.checksums import ALGORITHMS
from app.s3.entry import STORAGE_CLASS
from app.s3.errors import S3Error
from app.s3.lifecycle import abort_headers
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer
from app.s3.xml import Value
from app.store.listing import Query
from app.store.sessions import SessionStore


async def session_of(sessions: SessionStore, request: S3Request) -> UploadSession:
    """That which the request names. Raises NoSuchUpload; it may be `done`."""
    return await sessions.find(request.bucket, request.key, request.parameter("uploadId") or "")


class MultipartLists:
    def __init__(self, parts: S3Parts) -> None:
        self._sessions = parts.sessions

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"ListParts": self.list_parts, "ListMultipartUploads": self.list_uploads}

    async def list_parts(self, request: S3Request) -> Response:
        marker, limit = request.number("part-number-marker", 0), min(request.number("max-parts", MOST), MOST)
        session = await session_of(self._sessions, request)
        if session.done:
            raise NoSuchUpload("The upload was completed already.")
        found = await self._sessions.parts(session, marker, limit + 1)
        shown = found[:limit]
        truncated = 0 < limit < len(found)
        result: dict[str, Value] = {
            "Bucket": request.bucket_name,
            "Key": request.key,
            "UploadId": str(session.id),
            "PartNumberMarker": marker,
            "NextPartNumberMarker": shown[-1].number if truncated else None,
            "MaxParts": limit,
            "IsTruncated": truncated,
            "Part": [_part(part, session) for part in shown],
        }
        return answer("ListPartsResult", result | _of_session(session), abort_headers(request.bucket, session))

    async def list_uploads(self, request: S3Request) -> Response:
        asked = Asked.of(request, "max-uploads")
        marker, upload_marker = request.parameter("key-marker") or "", request.parameter("upload-id-marker") or ""
        found = await self._sessions.list(request.bucket, asked.query, _position(asked.query, marker, upload_marker))
        last = found.items[-1] if found.truncated else None
        following: dict[str, Value] = {}
        if isinstance(last, UploadSession):
            following = {"NextKeyMarker": asked.encode(last.entry.key), "NextUploadIdMarker": str(last.id)}
        elif last is not None:
            following = {"NextKeyMarker": asked.encode(last), "NextUploadIdMarker": ""}
        result: dict[str, Value] = {
            "Bucket": request.bucket_name,
            "KeyMarker": asked.encode(marker),
            "UploadIdMarker": upload_marker,
            **following,
            **asked.head(),
            "MaxUploads": asked.query.limit,
            "IsTruncated": found.truncated,
            "Upload": [_upload(one, asked.encode(one.entry.key)) for one in found.entries],
            "CommonPrefixes": asked.prefixes(found),
        }
        return answer("ListMultipartUploadsResult", result)


def _position(query: Query, marker: str, upload_marker: str) -> Position:
    """Behind an upload of the key, if one is named, else behind all of them. Raises S3Error InvalidArgument."""
    if not marker or not upload_marker:
        return query.after(marker)
    upload = object_id(upload_marker)
    if upload is None:
        raise S3Error("InvalidArgument", "Invalid uploadId marker", ArgumentName="upload-id-marker")
    return Position(marker, upload=upload) if marker.startswith(query.prefix) else query.after(marker)


def _part(part: Part, session: UploadSession) -> dict[str, Value]:
    return {
        "PartNumber": part.number,
        "LastModified": part.created_at,
        "ETag": f'"{part.sums.etag}"',
        "Size": part.size,
        ALGORITHMS[session.checksum].element: part.sums.checksum,
    }


def _of_session(session: UploadSession) -> dict[str, Value]:
    owner = owner_document(session.owner)
    return {
        "Initiator": owner,
        "Owner": owner,
        "StorageClass": session.entry.headers.get(STORAGE_CLASS, "STANDARD"),
        "ChecksumAlgorithm": session.checksum,
        "ChecksumType": "COMPOSITE" if session.composite else "FULL_OBJECT",
    }


def _upload(session: UploadSession, key: str) -> dict[str, Value]:
    return {"Key": key, "UploadId": str(session.id), "Initiated": session.created_at, **_of_session(session)}
