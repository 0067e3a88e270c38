"""The one place that knows the MongoDB driver (motor, on pymongo).

It offers the few calls that the models use, so that the driver can be exchanged here, and turns
the driver's errors into ours. Only calls that PyMongo's own asynchronous client has too are used.
All writes are `w: majority, j: true` (rule R6); all dates are UTC.
"""

import os

# Motor runs every call on a pool of threads that it sizes at import; its default of five a core
# lets a few uploads that wait for the journal hold up every lookup, and when the server is away the
# requests of a crowd would wait for that one after the other. Threads are started as they are needed.
os.environ.setdefault("MOTOR_MAX_WORKERS", "128")

from bson import ObjectId
from bson.errors import InvalidId
from pymongo import InsertOne, UpdateOne

from app.models.database.collection import Collection, Document, Session, begins_with, between
from app.models.database.errors import DuplicateKey, SnapshotTooOld
from app.models.database.opening import open_database
from app.models.database.transactions import Database

__all__ = [
    "Collection",
    "Database",
    "Document",
    "DuplicateKey",
    "InsertOne",
    "ObjectId",
    "Session",
    "SnapshotTooOld",
    "UpdateOne",
    "begins_with",
    "between",
    "object_id",
    "open_database",
]


def object_id(text: str) -> ObjectId | None:
    """The id that `text` spells, or None where it spells none."""
    try:
        return ObjectId(text)
    except InvalidId:
        return None
