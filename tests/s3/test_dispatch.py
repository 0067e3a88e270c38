"""Every request means one operation: against the model that AWS publishes with its SDK, and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.s3.compatibility import page
from app.s3.dispatch import Dispatch, find, not_implemented
from app.s3.errors import S3Error
from app.s3.operations import OPERATIONS, Operation

MODEL = botocore.session.Session().get_service_model("s3")

# Operations of the first API that have the same requests as their successors.
SUPERSEDED = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}

# Requests that no SDK has an operation for.
BROWSERS = {"PostObject", "PreflightBucket", "PreflightObject"}


def meant(request: str, *headers: str) -> Operation:
    """The operation of a request as "GET /bucket/key?query"."""
    method, _, target = request.partition(" ")
    path, _, query = target.partition("?")
    _, bucket, key = (f"{path}/" if path.count("/") < 2 else path).split("/", 2)
    return find(method, bucket, key, parse_qs(query, keep_blank_values=True), headers)


def refused(request: str, *headers: str) -> S3Error:
    with pytest.raises(S3Error) as caught:
        meant(request, *headers)
    return caught.value


def test_the_table_is_complete() -> None:
    names = {SUPERSEDED.get(name, name) for name in MODEL.operation_names}
    assert OPERATIONS.keys() == names | BROWSERS


@pytest.mark.parametrize("name", MODEL.operation_names)
@pytest.mark.parametrize("everything", [False, True], ids=["required", "all"])
def test_requests_of_the_sdk(name: str, everything: bool) -> None:
    """With all that is required, and with all parameters that there are: the SDK sends nothing else."""
    model = MODEL.operation_model(name)
    path, _, query = model.http["requestUri"].partition("?")
    parameters = parse_qs(query, keep_blank_values=True) | {"x-id": [name]}
    headers: list[str] = []
    shape = model.input_shape
    for member, described in shape.members.items() if shape else ():
        if not everything and member not in shape.required_members:
            continue
        if described.serialization.get("location") == "querystring":
            parameters[described.serialization["name"]] = ["1"]
        if described.serialization.get("location") == "header":
            headers.append(described.serialization["name"].lower())
    bucket = "" if path == "/" else "bucket"
    found = find(model.http["method"], bucket, "key" if "{Key+}" in path else "", parameters, headers)
    assert found.name == SUPERSEDED.get(name, name)


@pytest.mark.parametrize(
    ("request_line", "name"),
    [
        ("GET /", "ListBuckets"),
        ("GET /?x-id=ListBuckets", "ListBuckets"),
        ("GET /b", "ListObjects"),
        ("GET /b?prefix=a&delimiter=/", "ListObjects"),
        ("GET /b?list-type=1", "ListObjects"),
        ("GET /b?list-type=2&prefix=acl", "ListObjectsV2"),
        ("GET /b?versions&prefix=a", "ListObjectVersions"),
        ("GET /b?location", "GetBucketLocation"),
        ("GET /b?location=", "GetBucketLocation"),
        ("GET /b?uploads", "ListMultipartUploads"),
        ("GET /b?inventory&id=1", "GetBucketInventoryConfiguration"),
        ("GET /b?inventory", "ListBucketInventoryConfigurations"),
        ("POST /b?delete", "DeleteObjects"),
        ("POST /b", "PostObject"),
        ("OPTIONS /b", "PreflightBucket"),
        ("OPTIONS /b/k?partNumber=1&uploadId=2", "PreflightObject"),
        ("OPTIONS /b/k?acl&tagging", "PreflightObject"),
        ("GET /b/k", "GetObject"),
        ("GET /b/acl", "GetObject"),
        ("GET /b//", "GetObject"),
        ("GET /b/k?partNumber=1", "GetObject"),
        ("GET /b/k?versionId=1&response-content-type=x", "GetObject"),
        ("GET /b/k?id=5&v=7", "GetObject"),
        ("HEAD /b/k?partNumber=1", "HeadObject"),
        ("GET /b/k?uploadId=1", "ListParts"),
        ("GET /b/k?attributes", "GetObjectAttributes"),
        ("GET /b/k?torrent", "GetObjectTorrent"),
        ("POST /b/k?uploads", "CreateMultipartUpload"),
        ("POST /b/k?uploadId=1", "CompleteMultipartUpload"),
        ("DELETE /b/k?uploadId=1", "AbortMultipartUpload"),
        ("PUT /b/k?partNumber=1&uploadId=2", "UploadPart"),
        ("PUT /b/k?tagging&versionId=1", "PutObjectTagging"),
        ("DELETE /b/k?versionId=null", "DeleteObject"),
    ],
)
def test_requests(request_line: str, name: str) -> None:
    assert meant(request_line).name == name


def test_copies_are_known_by_their_source() -> None:
    assert meant("PUT /b/k", "x-amz-copy-source").name == "CopyObject"
    assert meant("PUT /b/k?partNumber=1&uploadId=2", "x-amz-copy-source").name == "UploadPartCopy"
    assert meant("PUT /b/k?tagging", "x-amz-copy-source").name == "PutObjectTagging"
    assert meant("GET /b/k", "x-amz-copy-source").name == "GetObject"


@pytest.mark.parametrize(
    ("request_line", "resource", "allow"),
    [
        ("PATCH /b/k", "OBJECT", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("POST /b/k", "OBJECT", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("HEAD /", "SERVICE", "GET"),
        ("DELETE /", "SERVICE", "GET"),
        ("OPTIONS /", "SERVICE", "GET"),
        ("get /b/k", "OBJECT", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("DELETE /b?acl", "ACL", "GET, PUT"),
        ("DELETE /b?versioning", "VERSIONING", "GET, PUT"),
        ("DELETE /b?uploads", "UPLOADS", "GET"),
        ("DELETE /b/k?acl&versionId=1", "ACL", "GET, PUT"),
        ("PUT /b/k?uploadId=1", "UPLOADID", "DELETE, GET, POST"),
        ("PUT /b/k?partNumber=1", "PARTNUMBER", "GET, HEAD"),
    ],
)
def test_methods_that_are_not_allowed(request_line: str, resource: str, allow: str) -> None:
    """A sub-resource that can't be deleted does not mean the bucket or the object that has it."""
    error = refused(request_line)
    assert (error.code, error.status) == ("MethodNotAllowed", 405)
    assert error.details == {"Method": request_line.partition(" ")[0], "ResourceType": resource}
    assert error.headers == {"allow": allow}


@pytest.mark.parametrize(
    ("request_line", "message"),
    [
        ("GET /b?versioning&acl", "Conflicting query string parameters: acl, versioning"),
        ("DELETE /b?policy&website", "Conflicting query string parameters: policy, website"),
        ("POST /b/k?uploads&uploadId=1", "Conflicting query string parameters: uploadId, uploads"),
        (
            "PUT /b/k?tagging&uploadId=1&partNumber=1",
            "Conflicting query string parameters: partNumber, tagging, uploadId",
        ),
        ("GET /b?id=1", "The query string parameter id needs another one that goes with it."),
    ],
)
def test_sub_resources_that_do_not_go_together(request_line: str, message: str) -> None:
    error = refused(request_line)
    assert (error.code, error.status, error.message) == ("InvalidArgument", 400, message)
    assert error.details["ArgumentName"] == "ResourceType"


NAMES = sorted({term.partition("=")[0] for one in OPERATIONS.values() for term in one.query})


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "X"]),
    path=st.sampled_from([("", ""), ("b", ""), ("b", "k")]),
    query=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([[""], ["2"], ["x", "2"]]), max_size=4),
    copied=st.booleans(),
)
def test_any_request_means_something_or_is_refused(
    method: str, path: tuple[str, str], query: Mapping[str, list[str]], copied: bool
) -> None:
    outcome: object
    try:
        found = find(method, *path, query, {"x-amz-copy-source"} if copied else set())
        outcome = (found.method, found.level)
    except S3Error as error:
        outcome = error.code
    level = "object" if path[1] else "bucket" if path[0] else "service"
    assert outcome in ((method, level), "MethodNotAllowed", "InvalidArgument")


def test_no_two_operations_have_the_same_request() -> None:
    requests = [(one.method, one.level, frozenset(one.query), frozenset(one.headers)) for one in OPERATIONS.values()]
    assert len(set(requests)) == len(requests)


def test_actions() -> None:
    assert meant("GET /b/k").actions_for({}) == ("s3:GetObject",)
    assert meant("GET /b/k?versionId=1").actions_for({"versionId": ["1"]}) == ("s3:GetObjectVersion",)
    assert meant("GET /b/k?retention").actions_for({"versionId": ["1"]}) == ("s3:GetObjectRetention",)
    without = {one.name for one in OPERATIONS.values() if not one.actions}
    assert without == {"PreflightBucket", "PreflightObject"}
    for one in OPERATIONS.values():
        for action in (*one.actions, *one.version_actions):
            assert action.partition(":")[0] in ("s3", "s3express", "s3-object-lambda")


def test_what_has_a_handler_is_supported() -> None:
    dispatch = Dispatch({"GetObject": 1})
    assert dispatch.find("GET", "b", "k", {}, ()) == (OPERATIONS["GetObject"], 1)
    assert dispatch.find("GET", "b", "k", {"acl": [""]}, ()) == (OPERATIONS["GetObjectAcl"], None)
    error = not_implemented(OPERATIONS["GetObjectAcl"])
    assert (error.code, error.status) == ("NotImplemented", 501)
    assert "GetObjectAcl" in error.message


def test_handlers_are_for_operations() -> None:
    with pytest.raises(ValueError, match=r"no operations of the S3 API: GetObjekt\."):
        Dispatch({"GetObjekt": 1, "GetObject": 2})


def test_the_compatibility_page() -> None:
    lines = page({"GetObject": "", "CopyObject": "Without ACLs."}).splitlines()
    assert "| GetObject | yes | |" in lines
    assert "| CopyObject | partly | Without ACLs. |" in lines
    assert "| RenameObject | no | For directory buckets only. |" in lines
    assert "| DeleteObject | no | |" in lines
    rows = [line for line in lines if line.startswith("| ") and line.split()[1] in OPERATIONS]
    assert len(rows) == len(OPERATIONS)
    with pytest.raises(ValueError, match="no operations of the S3 API: GetObjekt"):
        page({"GetObjekt": ""})
