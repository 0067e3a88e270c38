"""Every operation of the Amazon S3 API reference, and how a request names it.

Whether an operation is supported is not said here: that is whether it has a handler (`app.s3.dispatch`).
Actions are those of the Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["service", "bucket", "object"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    `query` has what must be in the query string, either `name` or `name=value`, and `headers` the headers that
    must be there; the operation that asks for most is the one that is meant. `also` are names that select
    another operation elsewhere, but are plain parameters of this one.

    `actions` are what a policy must allow; instead of them `version_actions`, if there are any, for a request with
    `versionId`. `note` is for the compatibility page.
    """

    name: str
    method: str
    level: Level
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    version_actions: tuple[str, ...] = ()
    note: str = ""

    @property
    def resource(self) -> tuple[str, ...]:
        """The names of the sub-resource that selects this."""
        return tuple(term for term in self.query if "=" not in term)

    def actions_for(self, query: Mapping[str, list[str]]) -> tuple[str, ...]:
        """What a policy must allow for a request with this query."""
        return self.version_actions if "versionId" in query and self.version_actions else self.actions


def _bucket(name: str, method: str, query: str, action: str, **more: str) -> Operation:
    return _operation(name, method, "bucket", query, action, **more)


def _object(name: str, method: str, query: str, action: str, **more: str) -> Operation:
    return _operation(name, method, "object", query, action, **more)


def _operation(name: str, method: str, level: Level, query: str, action: str, **more: str) -> Operation:
    """Lists are written with spaces between."""
    lists = {key: tuple(more.get(key, "").split()) for key in ("headers", "also", "version_actions")}
    return Operation(
        name, method, level, tuple(query.split()), actions=tuple(action.split()), note=more.get("note", ""), **lists
    )


_DIRECTORY = "For directory buckets only."

_SERVICE = (
    Operation("ListBuckets", "GET", "service", actions=("s3:ListAllMyBuckets",)),
    Operation(
        "ListDirectoryBuckets",
        "GET",
        "service",
        ("x-id=ListDirectoryBuckets",),
        actions=("s3express:ListAllMyDirectoryBuckets",),
        note=_DIRECTORY,
    ),
)

_BUCKET = (
    _bucket("CreateBucket", "PUT", "", "s3:CreateBucket"),
    _bucket("HeadBucket", "HEAD", "", "s3:ListBucket"),
    _bucket("DeleteBucket", "DELETE", "", "s3:DeleteBucket"),
    _bucket("GetBucketLocation", "GET", "location", "s3:GetBucketLocation"),
    _bucket("ListObjects", "GET", "", "s3:ListBucket"),
    _bucket("ListObjectsV2", "GET", "list-type=2", "s3:ListBucket"),
    _bucket("ListObjectVersions", "GET", "versions", "s3:ListBucketVersions"),
    _bucket("ListMultipartUploads", "GET", "uploads", "s3:ListBucketMultipartUploads"),
    _bucket("DeleteObjects", "POST", "delete", "s3:DeleteObject"),
    _bucket("PostObject", "POST", "", "s3:PutObject", note="A browser's form."),
    _bucket("PreflightBucket", "OPTIONS", "", "", note="CORS preflight."),
    _bucket("CreateSession", "GET", "session", "s3express:CreateSession", note=_DIRECTORY),
    _bucket("GetBucketVersioning", "GET", "versioning", "s3:GetBucketVersioning"),
    _bucket("PutBucketVersioning", "PUT", "versioning", "s3:PutBucketVersioning"),
    _bucket("GetObjectLockConfiguration", "GET", "object-lock", "s3:GetBucketObjectLockConfiguration"),
    _bucket("PutObjectLockConfiguration", "PUT", "object-lock", "s3:PutBucketObjectLockConfiguration"),
    _bucket("GetBucketLifecycleConfiguration", "GET", "lifecycle", "s3:GetLifecycleConfiguration"),
    _bucket("PutBucketLifecycleConfiguration", "PUT", "lifecycle", "s3:PutLifecycleConfiguration"),
    _bucket("DeleteBucketLifecycle", "DELETE", "lifecycle", "s3:PutLifecycleConfiguration"),
    _bucket("GetBucketPolicy", "GET", "policy", "s3:GetBucketPolicy"),
    _bucket("PutBucketPolicy", "PUT", "policy", "s3:PutBucketPolicy"),
    _bucket("DeleteBucketPolicy", "DELETE", "policy", "s3:DeleteBucketPolicy"),
    _bucket("GetBucketPolicyStatus", "GET", "policyStatus", "s3:GetBucketPolicyStatus"),
    _bucket("GetPublicAccessBlock", "GET", "publicAccessBlock", "s3:GetBucketPublicAccessBlock"),
    _bucket("PutPublicAccessBlock", "PUT", "publicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    _bucket("DeletePublicAccessBlock", "DELETE", "publicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    _bucket("GetBucketOwnershipControls", "GET", "ownershipControls", "s3:GetBucketOwnershipControls"),
    _bucket("PutBucketOwnershipControls", "PUT", "ownershipControls", "s3:PutBucketOwnershipControls"),
    _bucket("DeleteBucketOwnershipControls", "DELETE", "ownershipControls", "s3:PutBucketOwnershipControls"),
    _bucket("GetBucketAcl", "GET", "acl", "s3:GetBucketAcl"),
    _bucket("PutBucketAcl", "PUT", "acl", "s3:PutBucketAcl"),
    _bucket("GetBucketAbac", "GET", "abac", "s3:GetBucketAbac"),
    _bucket("PutBucketAbac", "PUT", "abac", "s3:PutBucketABAC"),
    _bucket("GetBucketCors", "GET", "cors", "s3:GetBucketCORS"),
    _bucket("PutBucketCors", "PUT", "cors", "s3:PutBucketCORS"),
    _bucket("DeleteBucketCors", "DELETE", "cors", "s3:PutBucketCORS"),
    _bucket("GetBucketTagging", "GET", "tagging", "s3:GetBucketTagging"),
    _bucket("PutBucketTagging", "PUT", "tagging", "s3:PutBucketTagging"),
    _bucket("DeleteBucketTagging", "DELETE", "tagging", "s3:PutBucketTagging"),
    _bucket("GetBucketEncryption", "GET", "encryption", "s3:GetEncryptionConfiguration"),
    _bucket("PutBucketEncryption", "PUT", "encryption", "s3:PutEncryptionConfiguration"),
    _bucket("DeleteBucketEncryption", "DELETE", "encryption", "s3:PutEncryptionConfiguration"),
    _bucket("GetBucketWebsite", "GET", "website", "s3:GetBucketWebsite"),
    _bucket("PutBucketWebsite", "PUT", "website", "s3:PutBucketWebsite"),
    _bucket("DeleteBucketWebsite", "DELETE", "website", "s3:DeleteBucketWebsite"),
    _bucket("GetBucketNotificationConfiguration", "GET", "notification", "s3:GetBucketNotification"),
    _bucket("PutBucketNotificationConfiguration", "PUT", "notification", "s3:PutBucketNotification"),
    _bucket("GetBucketLogging", "GET", "logging", "s3:GetBucketLogging"),
    _bucket("PutBucketLogging", "PUT", "logging", "s3:PutBucketLogging"),
    _bucket("GetBucketReplication", "GET", "replication", "s3:GetReplicationConfiguration"),
    _bucket("PutBucketReplication", "PUT", "replication", "s3:PutReplicationConfiguration"),
    _bucket("DeleteBucketReplication", "DELETE", "replication", "s3:PutReplicationConfiguration"),
    _bucket("GetBucketRequestPayment", "GET", "requestPayment", "s3:GetBucketRequestPayment"),
    _bucket("PutBucketRequestPayment", "PUT", "requestPayment", "s3:PutBucketRequestPayment"),
    _bucket("GetBucketAccelerateConfiguration", "GET", "accelerate", "s3:GetAccelerateConfiguration"),
    _bucket("PutBucketAccelerateConfiguration", "PUT", "accelerate", "s3:PutAccelerateConfiguration"),
    _bucket("ListBucketAnalyticsConfigurations", "GET", "analytics", "s3:GetAnalyticsConfiguration"),
    _bucket("GetBucketAnalyticsConfiguration", "GET", "analytics id", "s3:GetAnalyticsConfiguration"),
    _bucket("PutBucketAnalyticsConfiguration", "PUT", "analytics", "s3:PutAnalyticsConfiguration", also="id"),
    _bucket("DeleteBucketAnalyticsConfiguration", "DELETE", "analytics", "s3:PutAnalyticsConfiguration", also="id"),
    _bucket(
        "ListBucketIntelligentTieringConfigurations",
        "GET",
        "intelligent-tiering",
        "s3:GetIntelligentTieringConfiguration",
    ),
    _bucket(
        "GetBucketIntelligentTieringConfiguration",
        "GET",
        "intelligent-tiering id",
        "s3:GetIntelligentTieringConfiguration",
    ),
    _bucket(
        "PutBucketIntelligentTieringConfiguration",
        "PUT",
        "intelligent-tiering",
        "s3:PutIntelligentTieringConfiguration",
        also="id",
    ),
    _bucket(
        "DeleteBucketIntelligentTieringConfiguration",
        "DELETE",
        "intelligent-tiering",
        "s3:PutIntelligentTieringConfiguration",
        also="id",
    ),
    _bucket("ListBucketInventoryConfigurations", "GET", "inventory", "s3:GetInventoryConfiguration"),
    _bucket("GetBucketInventoryConfiguration", "GET", "inventory id", "s3:GetInventoryConfiguration"),
    _bucket("PutBucketInventoryConfiguration", "PUT", "inventory", "s3:PutInventoryConfiguration", also="id"),
    _bucket("DeleteBucketInventoryConfiguration", "DELETE", "inventory", "s3:PutInventoryConfiguration", also="id"),
    _bucket("ListBucketMetricsConfigurations", "GET", "metrics", "s3:GetMetricsConfiguration"),
    _bucket("GetBucketMetricsConfiguration", "GET", "metrics id", "s3:GetMetricsConfiguration"),
    _bucket("PutBucketMetricsConfiguration", "PUT", "metrics", "s3:PutMetricsConfiguration", also="id"),
    _bucket("DeleteBucketMetricsConfiguration", "DELETE", "metrics", "s3:PutMetricsConfiguration", also="id"),
    _bucket(
        "CreateBucketMetadataConfiguration",
        "POST",
        "metadataConfiguration",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    _bucket("GetBucketMetadataConfiguration", "GET", "metadataConfiguration", "s3:GetBucketMetadataTableConfiguration"),
    _bucket(
        "DeleteBucketMetadataConfiguration",
        "DELETE",
        "metadataConfiguration",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    _bucket(
        "CreateBucketMetadataTableConfiguration",
        "POST",
        "metadataTable",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    _bucket("GetBucketMetadataTableConfiguration", "GET", "metadataTable", "s3:GetBucketMetadataTableConfiguration"),
    _bucket(
        "DeleteBucketMetadataTableConfiguration",
        "DELETE",
        "metadataTable",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    _bucket(
        "UpdateBucketMetadataInventoryTableConfiguration",
        "PUT",
        "metadataInventoryTable",
        "s3:UpdateBucketMetadataInventoryTableConfiguration",
    ),
    _bucket(
        "UpdateBucketMetadataJournalTableConfiguration",
        "PUT",
        "metadataJournalTable",
        "s3:UpdateBucketMetadataJournalTableConfiguration",
    ),
    _bucket(
        "UpdateBucketMetadataAnnotationTableConfiguration",
        "PUT",
        "metadataAnnotationTable",
        "s3:UpdateBucketMetadataAnnotationTableConfiguration",
    ),
    _bucket(
        "WriteGetObjectResponse",
        "POST",
        "",
        "s3-object-lambda:WriteGetObjectResponse",
        headers="x-amz-request-route",
        note="For S3 Object Lambda only.",
    ),
)

_OBJECT = (
    _object("PutObject", "PUT", "", "s3:PutObject"),
    _object("CopyObject", "PUT", "", "s3:PutObject", headers="x-amz-copy-source"),
    _object("GetObject", "GET", "", "s3:GetObject", also="partNumber", version_actions="s3:GetObjectVersion"),
    _object("HeadObject", "HEAD", "", "s3:GetObject", also="partNumber", version_actions="s3:GetObjectVersion"),
    _object("DeleteObject", "DELETE", "", "s3:DeleteObject", version_actions="s3:DeleteObjectVersion"),
    _object(
        "GetObjectAttributes",
        "GET",
        "attributes",
        "s3:GetObject s3:GetObjectAttributes",
        version_actions="s3:GetObjectVersion s3:GetObjectVersionAttributes",
    ),
    _object("PreflightObject", "OPTIONS", "", "", note="CORS preflight."),
    _object("CreateMultipartUpload", "POST", "uploads", "s3:PutObject"),
    _object("UploadPart", "PUT", "partNumber uploadId", "s3:PutObject"),
    _object("UploadPartCopy", "PUT", "partNumber uploadId", "s3:PutObject", headers="x-amz-copy-source"),
    _object("CompleteMultipartUpload", "POST", "uploadId", "s3:PutObject"),
    _object("AbortMultipartUpload", "DELETE", "uploadId", "s3:AbortMultipartUpload"),
    _object("ListParts", "GET", "uploadId", "s3:ListMultipartUploadParts"),
    _object("GetObjectTagging", "GET", "tagging", "s3:GetObjectTagging", version_actions="s3:GetObjectVersionTagging"),
    _object("PutObjectTagging", "PUT", "tagging", "s3:PutObjectTagging", version_actions="s3:PutObjectVersionTagging"),
    _object(
        "DeleteObjectTagging",
        "DELETE",
        "tagging",
        "s3:DeleteObjectTagging",
        version_actions="s3:DeleteObjectVersionTagging",
    ),
    _object("GetObjectAcl", "GET", "acl", "s3:GetObjectAcl", version_actions="s3:GetObjectVersionAcl"),
    _object("PutObjectAcl", "PUT", "acl", "s3:PutObjectAcl", version_actions="s3:PutObjectVersionAcl"),
    _object("GetObjectRetention", "GET", "retention", "s3:GetObjectRetention"),
    _object("PutObjectRetention", "PUT", "retention", "s3:PutObjectRetention"),
    _object("GetObjectLegalHold", "GET", "legal-hold", "s3:GetObjectLegalHold"),
    _object("PutObjectLegalHold", "PUT", "legal-hold", "s3:PutObjectLegalHold"),
    _object("GetObjectTorrent", "GET", "torrent", "s3:GetObjectTorrent"),
    _object("RestoreObject", "POST", "restore", "s3:RestoreObject"),
    _object("SelectObjectContent", "POST", "select", "s3:GetObject"),
    _object("RenameObject", "PUT", "renameObject", "s3express:CreateSession", note=_DIRECTORY),
    _object("UpdateObjectEncryption", "PUT", "encryption", "s3:UpdateObjectEncryption"),
    _object("ListObjectAnnotations", "GET", "annotation", "s3:ListObjectAnnotations"),
    _object("GetObjectAnnotation", "GET", "annotation annotationName", "s3:GetObjectAnnotation"),
    _object("PutObjectAnnotation", "PUT", "annotation", "s3:PutObjectAnnotation", also="annotationName"),
    _object("DeleteObjectAnnotation", "DELETE", "annotation", "s3:DeleteObjectAnnotation", also="annotationName"),
)

OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in (*_SERVICE, *_BUCKET, *_OBJECT)}
"""All of them by name, in the order of the compatibility page."""

ACTIONS: Mapping[str, Level] = {
    action: operation.level
    for operation in OPERATIONS.values()
    for action in (*operation.actions, *operation.version_actions)
    if operation.level != "service" and action.startswith("s3:")
} | {"s3:BypassGovernanceRetention": "object"}
"""What the policy of a bucket may name, and whether it is about the bucket or about objects. Operations on a bucket
that touch objects ask for the same actions as those on objects, which stand behind them; one action is asked for by a
header."""
