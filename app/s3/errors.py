"""Errors as the S3 API reference names them ("Error responses"): each code has its status there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from app import errors
from app.errors import MiniS3Error

STATUS: Mapping[str, int] = {
    "AccessControlListNotSupported": 400,
    "AccessDenied": 403,
    "AccessForbidden": 403,
    "AccountProblem": 403,
    "AllAccessDisabled": 403,
    "AmbiguousGrantByEmailAddress": 400,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "CredentialsNotSupported": 400,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "IllegalLocationConstraintException": 400,
    "IllegalVersioningConfigurationException": 400,
    "IncompleteBody": 400,
    "IncorrectNumberOfFilesInPostRequest": 400,
    "InlineDataTooLarge": 400,
    # The reference has no code for a full store; this is the name of its HTTP status (RFC 4918, section 11.5).
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketAclWithObjectOwnership": 400,
    "InvalidBucketName": 400,
    "InvalidBucketOwnerAWSAccountID": 400,
    "InvalidBucketState": 409,
    "InvalidDigest": 400,
    "InvalidEncryptionAlgorithmError": 400,
    "InvalidHostHeader": 400,
    "InvalidHttpMethod": 400,
    "InvalidLocationConstraint": 400,
    "InvalidObjectState": 403,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidPayer": 403,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRegion": 403,
    "InvalidRequest": 400,
    "InvalidSecurity": 403,
    "InvalidSessionException": 400,
    "InvalidSignature": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidTargetBucketForLogging": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedACLError": 400,
    "MalformedPOSTRequest": 400,
    "MalformedPolicy": 400,
    "MalformedTrailerError": 400,
    "MalformedXML": 400,
    "MaxMessageLengthExceeded": 400,
    "MaxPostPreDataLengthExceededError": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingAuthenticationToken": 403,
    "MissingContentLength": 411,
    "MissingRequestBodyError": 400,
    "MissingSecurityElement": 400,
    "MissingSecurityHeader": 400,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "ObjectLockConfigurationNotFoundError": 404,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PermanentRedirect": 301,
    "PreconditionFailed": 412,
    "Redirect": 307,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestExpired": 400,
    "RequestHeaderSectionTooLarge": 400,
    "RequestIsNotMultiPartContent": 400,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "RequestTorrentOfBucketError": 400,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "TemporaryRedirect": 307,
    "TokenRefreshRequired": 400,
    "TooManyBuckets": 400,
    "UnauthorizedAccess": 403,
    "UnexpectedContent": 400,
    "UnresolvableGrantByEmailAddress": 400,
    "UnsupportedArgument": 400,
    "UnsupportedSignature": 400,
    "UserKeyMustBeSpecified": 400,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(MiniS3Error):
    """An answer that the S3 API names. `details` are further elements of its document, by name.

    `headers` are further headers of the answer, by lower-case name.
    """

    def __init__(self, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS[code]
        self.details = details
        self.headers: dict[str, str] = {}

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        self.headers |= headers
        return self


# What the store says about a file is about a key here. A handler that looks for something else translates that itself.
_CODES: Mapping[type[MiniS3Error], str] = {
    MiniS3Error: "InternalError",
    errors.BadRequest: "InvalidRequest",
    errors.BadForm: "MalformedPOSTRequest",
    errors.NoFilePart: "IncorrectNumberOfFilesInPostRequest",
    errors.NotMultipart: "RequestIsNotMultiPartContent",
    errors.TooLarge: "EntityTooLarge",
    errors.NotFound: "NoSuchKey",
    errors.NoSuchBucket: "NoSuchBucket",
    errors.NoSuchVersion: "NoSuchVersion",
    errors.NoSuchUpload: "NoSuchUpload",
    errors.BucketExists: "BucketAlreadyExists",
    errors.BucketNotEmpty: "BucketNotEmpty",
    errors.WrongBucketState: "InvalidBucketState",
    errors.InvalidPart: "InvalidPart",
    errors.Forbidden: "AccessDenied",
    errors.Unauthenticated: "AccessDenied",
    errors.PreconditionFailed: "PreconditionFailed",
    errors.RangeNotSatisfiable: "InvalidRange",
    errors.RateLimited: "SlowDown",
    errors.UploadStalled: "RequestTimeout",
    errors.Unavailable: "ServiceUnavailable",
    errors.NoSpace: "InsufficientStorage",
    errors.Damaged: "InternalError",
}


def as_s3(error: MiniS3Error) -> S3Error:
    """The answer for an error of the store. One that is no user's business is an InternalError without its message."""
    if isinstance(error, S3Error):
        return error
    kind = next(kind for kind in type(error).__mro__ if kind in _CODES)
    if kind is MiniS3Error:
        return S3Error("InternalError", "We encountered an internal error. Please try again.")
    answer = S3Error(_CODES[kind], error.message)
    if isinstance(error, errors.RangeNotSatisfiable):
        answer.details["ActualObjectSize"] = str(error.size)
        answer.headers["content-range"] = f"bytes */{error.size}"
    if isinstance(error, errors.PreconditionFailed) and error.condition:
        answer.details["Condition"] = error.condition
    if isinstance(error, errors.NoSuchKey) and error.marker:
        answer.headers |= {"x-amz-delete-marker": "true", "x-amz-version-id": error.marker}
    if isinstance(error, errors.RateLimited | errors.Unavailable):
        answer.headers["retry-after"] = str(error.retry_after)
    return answer
