"""Canned ACLs, as headers, as grants and as documents (S3 user guide, "Access control list overview").

What is kept of an ACL is the name of the canned one that it is. Grants that are none of these are not implemented.
An account is known by its name, which is also its canonical id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from app.models.buckets import Bucket
from app.s3.authorize import ACLS, acls_are_off, denied, is_public
from app.s3.configuration import MAX_DOCUMENT, keep, require_settings
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.versions import find_object, version_headers
from app.s3.xml import XSI, Attributed, Element, Value, parse

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"

OBJECT_ACLS = (*ACLS, "bucket-owner-read", "bucket-owner-full-control")

_NOT_KEPT = ("aws-exec-read", "log-delivery-write")
"""Canned ACLs that give something to services which are not here."""

_PERMISSIONS: Mapping[str, str] = {
    "x-amz-grant-full-control": "FULL_CONTROL",
    "x-amz-grant-read": "READ",
    "x-amz-grant-write": "WRITE",
    "x-amz-grant-read-acp": "READ_ACP",
    "x-amz-grant-write-acp": "WRITE_ACP",
}

_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]*)"?\s*')


@dataclass(frozen=True, slots=True)
class Grant:
    """`grantee` is the name of an account, or the URI of a group."""

    grantee: str
    permission: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What has an ACL: whose it is, whose its bucket is, and which canned ACLs it may have."""

    owner: str
    bucket_owner: str
    canned: tuple[str, ...]

    def grants(self, acl: str) -> list[Grant]:
        given = {
            "public-read": [Grant(ALL_USERS, "READ")],
            "public-read-write": [Grant(ALL_USERS, "READ"), Grant(ALL_USERS, "WRITE")],
            "authenticated-read": [Grant(AUTHENTICATED_USERS, "READ")],
        }
        if self.owner != self.bucket_owner:
            given["bucket-owner-read"] = [Grant(self.bucket_owner, "READ")]
            given["bucket-owner-full-control"] = [Grant(self.bucket_owner, "FULL_CONTROL")]
        return [Grant(self.owner, "FULL_CONTROL"), *given.get(acl, [])]

    def asked(self, headers: Mapping[str, str]) -> str | None:
        """The canned ACL that headers with lower-case names ask for, by its name or by grants. Raises S3Error
        InvalidArgument, InvalidRequest, NotImplemented."""
        canned = headers.get("x-amz-acl")
        granted = [name for name in _PERMISSIONS if name in headers]
        if canned is not None and granted:
            raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
        if granted:
            return self._named({grant for name in granted for grant in _granted(name, headers[name])})
        if canned is None or canned in self.canned:
            return canned
        if canned in _NOT_KEPT:
            raise S3Error("NotImplemented", f"The canned ACL {canned} is not implemented.")
        raise S3Error("InvalidArgument", "The canned ACL is not known.", ArgumentName="x-amz-acl", ArgumentValue=canned)

    def read(self, policy: Element) -> str:
        """The canned ACL that an AccessControlPolicy is. Raises S3Error MalformedXML, InvalidArgument, AccessDenied,
        NotImplemented."""
        owner = policy.maybe("Owner")
        if owner and owner.text("ID") != self.owner:
            raise denied()
        return self._named({_read_grant(grant) for grant in policy.one("AccessControlList").all("Grant")})

    def document(self, acl: str) -> Mapping[str, Value]:
        grants: list[Value] = [
            {"Grantee": _grantee(grant.grantee), "Permission": grant.permission} for grant in self.grants(acl)
        ]
        return {"Owner": owner_document(self.owner), "AccessControlList": {"Grant": grants}}

    def _named(self, grants: set[Grant]) -> str:
        for acl in self.canned:
            if set(self.grants(acl)) == grants:
                return acl
        raise S3Error("NotImplemented", f"Only grants as those of the canned ACLs are: {', '.join(self.canned)}.")


def of_bucket(owner: str) -> Subject:
    return Subject(owner, owner, ACLS)


def of_object(owner: str, bucket: Bucket) -> Subject:
    return Subject(owner, bucket.owner, OBJECT_ACLS)


def acl_of_new_object(request: S3Request) -> str:
    """The ACL that an object which is put gets; it is the bucket owner's, whoever puts it. Raises S3Error as
    `Subject.asked`, AccessControlListNotSupported where the bucket has no ACLs, and AccessDenied where it takes no
    public ones."""
    acl = of_object(request.bucket.owner, request.bucket).asked(request.headers)
    if acls_are_off(request.bucket):
        if acl not in (None, "bucket-owner-full-control"):
            raise _not_supported()
        return "private"
    see_that_it_is_taken(request.bucket, acl or "private")
    return acl or "private"


def see_that_it_is_taken(bucket: Bucket, acl: str) -> None:
    """Raises S3Error AccessControlListNotSupported where the bucket has no ACLs, and AccessDenied where it takes no
    public ones."""
    if acls_are_off(bucket) and acl != "private":
        raise _not_supported()
    if is_public(acl) and bucket.settings.get("publicAccessBlock", {}).get("BlockPublicAcls"):
        raise denied()


def owner_document(account: str) -> Mapping[str, Value]:
    """The content of an element Owner."""
    return {"ID": account, "DisplayName": account}


class Acls:
    def __init__(self, parts: S3Parts) -> None:
        self._buckets = parts.buckets
        self._objects = parts.objects

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketAcl": self.get_of_bucket,
            "PutBucketAcl": self.put_of_bucket,
            "GetObjectAcl": self.get_of_object,
            "PutObjectAcl": self.put_of_object,
        }

    async def get_of_bucket(self, request: S3Request) -> Response:
        bucket = request.bucket
        acl = "private" if acls_are_off(bucket) else bucket.settings.get("acl", "private")
        return answer("AccessControlPolicy", of_bucket(bucket.owner).document(acl))

    async def put_of_bucket(self, request: S3Request) -> Response:
        acl = await _asked(request, of_bucket(request.bucket.owner))
        await keep(self._buckets, request, "acl", None if acl == "private" else acl)
        return empty()

    async def get_of_object(self, request: S3Request) -> Response:
        version, file = await find_object(self._objects, request)
        acl = "private" if acls_are_off(request.bucket) or file.entry is None else file.entry.acl
        content = of_object(version.owner, request.bucket).document(acl)
        return answer("AccessControlPolicy", content, version_headers(request.bucket, version))

    async def put_of_object(self, request: S3Request) -> Response:
        require_settings(request)
        version, _ = await find_object(self._objects, request)
        acl = await _asked(request, of_object(version.owner, request.bucket))
        await self._objects.set_acl(version, acl)
        return empty(headers=version_headers(request.bucket, version))


async def _asked(request: S3Request, subject: Subject) -> str:
    """The ACL that a request is to put, by headers or by its body."""
    if acls_are_off(request.bucket):
        raise _not_supported()
    body = await request.body.document(MAX_DOCUMENT)
    acl = subject.asked(request.headers)
    if acl is not None and body:
        raise S3Error("UnexpectedContent", "This request names an ACL in its headers, and so takes no body.")
    if acl is None and not body:
        raise S3Error("MissingSecurityHeader", "The request needs an ACL: in x-amz-acl, in grants, or as its body.")
    chosen = acl or subject.read(parse(body, "AccessControlPolicy", MAX_DOCUMENT))
    see_that_it_is_taken(request.bucket, chosen)
    return chosen


def _granted(header: str, value: str) -> list[Grant]:
    """As `id="alice", uri="http://..."`."""
    grants = []
    for item in value.split(","):
        match = _GRANTEE.fullmatch(item)
        if match is None:
            raise S3Error(
                "InvalidArgument",
                'A grantee is id="…" or uri="…".',
                ArgumentName=header,
                ArgumentValue=item.strip()[:100],
            )
        if match[1] == "emailAddress":
            raise _by_email()
        grants.append(Grant(match[2], _PERMISSIONS[header]))
    return grants


def _read_grant(grant: Element) -> Grant:
    grantee = grant.one("Grantee")
    permission = grant.choice("Permission", tuple(_PERMISSIONS.values()))
    kind = grantee.attributes.get("type")
    if kind == "AmazonCustomerByEmail":
        raise _by_email()
    if kind not in ("CanonicalUser", "Group"):
        raise S3Error("MalformedACLError", "The type of a Grantee must be CanonicalUser or Group.")
    return Grant(grantee.text("URI" if kind == "Group" else "ID"), permission)


def _grantee(name: str) -> Attributed:
    if name in (ALL_USERS, AUTHENTICATED_USERS):
        return Attributed({"xmlns:xsi": XSI, "xsi:type": "Group"}, {"URI": name})
    return Attributed({"xmlns:xsi": XSI, "xsi:type": "CanonicalUser"}, owner_document(name))


def _not_supported() -> S3Error:
    return S3Error("AccessControlListNotSupported", "The bucket does not allow ACLs")


def _by_email() -> S3Error:
    return S3Error("NotImplemented", "Grantees by e-mail address are not implemented: accounts have none.")
