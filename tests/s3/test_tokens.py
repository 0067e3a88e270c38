"""Continuation tokens."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from app.s3.errors import S3Error
from app.s3.tokens import from_token, to_token
from tests.s3.tools import refused


@given(place=st.text())
def test_a_token_means_its_place(place: str) -> None:
    token = to_token(place)
    assert from_token(token) == place
    assert token.isascii()
    assert not set(token) & set("+/&<> ")


@given(text=st.text())
@example(text="YQ")
@example(text="YR==")
@example(text="_w==")
def test_what_is_no_token_is_refused(text: str) -> None:
    try:
        assert to_token(from_token(text)) == text
    except S3Error:
        with refused("InvalidArgument", ArgumentName="continuation-token"):
            from_token(text)
