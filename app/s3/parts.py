"""What the S3 API is a face of."""

from __future__ import annotations

from dataclasses import dataclass

from app.s3.authorize import Authorizer
from app.store.access import Access
from app.store.buckets import BucketStore
from app.store.objects import ObjectStore
from app.store.sessions import SessionStore


@dataclass(frozen=True, slots=True)
class S3Parts:
    buckets: BucketStore
    objects: ObjectStore
    sessions: SessionStore
    authorizer: Authorizer
    access: Access
