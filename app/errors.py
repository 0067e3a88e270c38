"""The one error tree.

Every error that may reach a user derives from `MiniS3Error` and carries a stable `code`, a
sentence for people and, where one helps, a hint when to try again. Errors of drivers and of the
operating system are translated into these where they enter; the HTTP faces map the classes below
to status codes and never look at the text.
"""

from __future__ import annotations

from collections.abc import Sequence


class MiniS3Error(Exception):
    """Base of all errors that Mini-S3 raises on purpose.

    `code` is part of the API and never changes; the message may be reworded.
    """

    code = "internal-error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(MiniS3Error):
    """Settings, or the surroundings that they name, do not allow a start."""

    code = "bad-configuration"


class BadRequest(MiniS3Error):
    """The caller sent something that can't be understood."""

    code = "bad-request"


class BadForm(BadRequest):
    """A multipart body without a boundary, garbled, truncated, or over a limit."""

    code = "bad-form"


class NotLockable(BadRequest):
    """The bucket has no object lock."""

    code = "not-lockable"

    def __init__(self, message: str = "Bucket is missing Object Lock Configuration") -> None:
        super().__init__(message)


class NoFilePart(BadRequest):
    code = "no-file-part"


class DigestMismatch(BadRequest):
    """The bytes are not those that the caller's digest is of."""

    code = "digest-mismatch"


class ChecksumMismatch(MiniS3Error):
    """The same of the checksum of a tus upload, which has a status of its own."""

    code = "checksum-mismatch"


class WrongMediaType(MiniS3Error):
    """The body is of another media type than the call takes."""

    code = "wrong-media-type"


class NotMultipart(WrongMediaType):
    code = "not-multipart"


class TooLarge(MiniS3Error):
    """A file is larger than the configured maximum."""

    code = "file-too-large"


class Unauthenticated(MiniS3Error):
    """The caller does not say who he is, or can't prove it."""

    code = "unauthenticated"


class UnknownKey(Unauthenticated):
    code = "unknown-key"


class WrongSecret(Unauthenticated):
    code = "wrong-secret"


class KeyDisabled(Unauthenticated):
    code = "key-disabled"


class KeyExpired(Unauthenticated):
    code = "key-expired"


class Forbidden(MiniS3Error):
    """The caller is known, and is not allowed to do this."""

    code = "forbidden"


class ObjectLocked(Forbidden):
    """A version is kept from being removed, or its retention from becoming another one."""

    code = "object-locked"

    def __init__(self, message: str = "Access Denied because object protected by object lock.") -> None:
        super().__init__(message)


class NotFound(MiniS3Error):
    code = "not-found"


class NoSuchBucket(NotFound):
    code = "no-such-bucket"


class NoSuchKey(NotFound):
    """`marker` is the version id of the delete marker that is in the object's place, or empty."""

    code = "no-such-key"

    def __init__(self, message: str, marker: str = "") -> None:
        super().__init__(message)
        self.marker = marker


class NoSuchVersion(NotFound):
    code = "no-such-version"


class NoSuchUpload(NotFound):
    """There is no such multipart upload: it was completed or given up, or it expired."""

    code = "no-such-upload"


class BucketExists(MiniS3Error):
    code = "bucket-exists"

    def __init__(self, message: str, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


class BucketNotEmpty(MiniS3Error):
    code = "bucket-not-empty"


class WrongBucketState(MiniS3Error):
    """The bucket is set so that it can't be set like this."""

    code = "wrong-bucket-state"


class InvalidPart(MiniS3Error):
    """A part that is to be in an object was not uploaded, or is another one."""

    code = "invalid-part"


class Conflict(MiniS3Error):
    """What is asked for does not go with what there is."""

    code = "conflict"


class OffsetMismatch(Conflict):
    """Bytes are to be appended elsewhere than at the end of what came before, or another call does so now."""

    code = "offset-mismatch"


class SizeMismatch(Conflict):
    """A file is longer or shorter than was announced."""

    code = "size-mismatch"


class ChunksMissing(Conflict):
    """A file is to consist of chunks that were not sent: `digests`, of which a great many are not all named."""

    code = "chunks-missing"

    def __init__(self, digests: Sequence[bytes]) -> None:
        super().__init__(
            "Chunks are missing that this upload neither sent nor was found to have. Send them, and ask again."
        )
        self.digests = digests


class ContentUnknown(Conflict):
    """There is no file of this content that the caller may read."""

    code = "content-unknown"


class PreconditionFailed(MiniS3Error):
    """`condition`, the name of a header as RFC 9110 has it, does not hold, where it is told which one."""

    code = "precondition-failed"

    def __init__(self, message: str, condition: str = "") -> None:
        super().__init__(message)
        self.condition = condition


class UnsupportedVersion(MiniS3Error):
    """The caller speaks another version of a protocol."""

    code = "unsupported-version"


class RangeNotSatisfiable(MiniS3Error):
    """No byte of the file lies in the asked ranges, or there are too many of them."""

    code = "range-not-satisfiable"

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class RateLimited(MiniS3Error):
    code = "rate-limited"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UploadStalled(MiniS3Error):
    """The client sent nothing for too long."""

    code = "upload-stalled"


class Unavailable(MiniS3Error):
    """Something that the store needs is away for now; the same call may succeed later."""

    code = "unavailable"
    retry_after = 5


class DatabaseUnavailable(Unavailable):
    code = "database-unavailable"


class NodesUnavailable(Unavailable):
    """No storage node takes the write."""

    code = "nodes-unavailable"


class UploadInterrupted(Unavailable):
    """Chunks of this upload were reclaimed before it could commit; sending it again works."""

    code = "upload-interrupted"


class NoSpace(MiniS3Error):
    """Every storage node is full."""

    code = "no-space"


class Damaged(MiniS3Error):
    """Stored bytes are missing or wrong, and no good copy is left."""

    code = "content-damaged"


class NodeError(MiniS3Error):
    """A call on one storage node failed; another node, or a later time, may do."""

    code = "node-error"


class NodeFull(NodeError):
    code = "node-full"


class NodeHung(NodeError):
    """There was no answer in time. What was asked for may still happen."""

    code = "node-hung"


class NodeDown(NodeError):
    """The node was not asked: it failed or hung lately."""

    code = "node-down"


class BlobMissing(NodeError):
    code = "blob-missing"


class BlobDamaged(NodeError):
    """A blob is there but is not what its name says."""

    code = "blob-damaged"
