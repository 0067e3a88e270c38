"""Errors of the store as S3 clients see them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

import botocore.session
import pytest

from app import errors
from app.errors import MiniS3Error
from app.s3.errors import STATUS, S3Error, as_s3


def test_every_code_has_a_status_of_http() -> None:
    for status in STATUS.values():
        assert HTTPStatus(status) >= 300


def test_statuses_are_those_of_the_reference() -> None:
    """As the SDK's model of the API repeats them. The model has not all of the codes."""
    described = botocore.session.Session().get_service_model("s3").shape_for("Error").members["Code"].documentation
    codes = re.findall(r"<i>Code:</i> *(\w+)\s*</p>.*?HTTP Status Code:</i> *(\d+)", described, re.DOTALL)
    reference = {code: int(status) for code, status in codes if code in STATUS}
    assert len(reference) > 60
    assert reference == {code: STATUS[code] for code in reference}


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.NotFound("x"), "NoSuchKey", 404),
        (errors.PreconditionFailed("x"), "PreconditionFailed", 412),
        (errors.RangeNotSatisfiable("x", 7), "InvalidRange", 416),
        (errors.TooLarge("x"), "EntityTooLarge", 400),
        (errors.RateLimited("x", 3), "SlowDown", 503),
        (errors.DatabaseUnavailable("x"), "ServiceUnavailable", 503),
        (errors.UploadInterrupted("x"), "ServiceUnavailable", 503),
        (errors.NoSpace("x"), "InsufficientStorage", 507),
        (errors.Damaged("x"), "InternalError", 500),
        (errors.UploadStalled("x"), "RequestTimeout", 400),
        (errors.BadForm("x"), "MalformedPOSTRequest", 400),
        (errors.BadRequest("x"), "InvalidRequest", 400),
    ],
)
def test_what_the_store_says(error: MiniS3Error, code: str, status: int) -> None:
    answer = as_s3(error)
    assert (answer.code, answer.status, answer.message) == (code, status, "x")


def test_what_is_no_business_of_users_is_not_told() -> None:
    answer = as_s3(errors.NodeFull("/srv/secret is full"))
    assert (answer.code, answer.status) == ("InternalError", 500)
    assert "secret" not in answer.message


def kinds(base: type[MiniS3Error] = MiniS3Error) -> Iterator[type[MiniS3Error]]:
    for kind in base.__subclasses__():
        if kind is not S3Error:
            yield kind
            yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=lambda kind: kind.__qualname__))
def test_every_error_has_an_answer(kind: type[MiniS3Error]) -> None:
    error = kind.__new__(kind)
    error.message, error.size, error.retry_after, error.marker, error.condition = "x", 1, 1, "1", "If-Match"
    assert as_s3(error).status >= 400


def test_headers_of_answers() -> None:
    beyond = as_s3(errors.RangeNotSatisfiable("x", 7))
    assert beyond.headers == {"content-range": "bytes */7"}
    assert beyond.details == {"ActualObjectSize": "7"}
    assert as_s3(errors.RateLimited("x", 3)).headers == {"retry-after": "3"}
    assert as_s3(errors.NodesUnavailable("x")).headers == {"retry-after": "5"}
    assert as_s3(errors.NotFound("x")).headers == {}
    assert S3Error("MethodNotAllowed", "x").with_headers({"allow": "GET"}).headers == {"allow": "GET"}


def test_an_answer_stays_itself() -> None:
    error = S3Error("NoSuchBucket", "x", BucketName="b")
    assert as_s3(error) is error
    assert error.details == {"BucketName": "b"}


def test_codes_are_those_of_the_table() -> None:
    with pytest.raises(KeyError):
        S3Error("NoSuchCode", "x")
