"""The compatibility page says what the server does. `python -m tests.s3.test_compatibility` writes it anew."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

from app.s3.compatibility import page
from app.s3.handlers import LACKING, handlers

PAGE = Path(__file__).parents[2] / "docs" / "s3-compatibility.md"


def as_it_is() -> str:
    return page({name: LACKING.get(name, "") for name in handlers(Mock(), "us-east-1")})


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_it_is()


def test_what_is_lacking_is_of_operations_that_there_are() -> None:
    assert LACKING.keys() <= handlers(Mock(), "us-east-1").keys()


if __name__ == "__main__":
    PAGE.write_text(as_it_is(), encoding="utf-8")
