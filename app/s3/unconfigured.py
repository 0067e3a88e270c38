"""What a bucket here never has: operations that ask for it get the answer that S3 gives where it is not configured,
and taking it away changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from app.s3.errors import S3Error
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.xml import Value

_NOT_FOUND: Mapping[str, tuple[str, str]] = {
    "GetBucketEncryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "GetBucketReplication": ("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    "GetBucketWebsite": ("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    **{
        f"GetBucket{kind}Configuration": ("NoSuchConfiguration", "The specified configuration does not exist.")
        for kind in ("Analytics", "IntelligentTiering", "Inventory", "Metrics")
    },
}

_EMPTY: Mapping[str, tuple[str, Mapping[str, Value]]] = {
    "GetBucketAccelerateConfiguration": ("AccelerateConfiguration", {}),
    "GetBucketLogging": ("BucketLoggingStatus", {}),
    "GetBucketNotificationConfiguration": ("NotificationConfiguration", {}),
    "GetBucketRequestPayment": ("RequestPaymentConfiguration", {"Payer": "BucketOwner"}),
    "ListBucketAnalyticsConfigurations": ("ListBucketAnalyticsConfigurationResult", {"IsTruncated": False}),
    "ListBucketIntelligentTieringConfigurations": (
        "ListBucketIntelligentTieringConfigurationsOutput",
        {"IsTruncated": False},
    ),
    "ListBucketInventoryConfigurations": ("ListInventoryConfigurationsResult", {"IsTruncated": False}),
    "ListBucketMetricsConfigurations": ("ListMetricsConfigurationsResult", {"IsTruncated": False}),
}

_DELETED = (
    "DeleteBucketEncryption",
    "DeleteBucketReplication",
    "DeleteBucketWebsite",
)


def unconfigured() -> Mapping[str, Handler]:
    return {**dict.fromkeys(_NOT_FOUND, _not_found), **dict.fromkeys(_EMPTY, _empty), **dict.fromkeys(_DELETED, _gone)}


async def _not_found(request: S3Request) -> Response:
    code, message = _NOT_FOUND[request.operation.name]
    raise S3Error(code, message, BucketName=request.bucket_name)


async def _empty(request: S3Request) -> Response:
    return answer(*_EMPTY[request.operation.name])


async def _gone(request: S3Request) -> Response:  # noqa: ARG001 - there is nothing to take away
    return empty(204)
