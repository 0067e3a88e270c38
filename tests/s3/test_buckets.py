"""Buckets: made, found, listed, deleted."""

from __future__ import annotations

from typing import Any


def test_a_bucket_is_made_and_found(client: Any, bucket: str) -> None:
    assert client.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]
