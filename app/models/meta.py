"""The store's own document: its identity and the version of its documents.

meta: {_id: "store", version, store}
"""

from __future__ import annotations

import asyncio
import secrets

from app.errors import ConfigError
from app.models.buckets import Buckets
from app.models.chunks import Chunks
from app.models.database import Database, UpdateOne
from app.models.files import Files
from app.models.objects import Objects
from app.models.pages import Pages
from app.models.sessions import UploadSessions
from app.models.suspects import Suspects
from app.models.tallies import Tallies
from app.models.uploads import Uploads

VERSION = 3
_TOGETHER = 2000
"""Documents brought to this version in one call."""


async def prepare(database: Database, *, create: bool = True) -> str:
    """Create what is missing, check the version, and return the store's id (32 hex digits).

    Raises ConfigError where another version of Mini-S3 wrote the database, or where it holds no store
    and none is to be created.
    """
    meta = database["meta"]
    if create:
        fresh = {"version": VERSION, "store": secrets.token_hex(16)}
        await meta.update_one({"_id": "store"}, {"$setOnInsert": fresh}, upsert=True)
    document = await meta.find_one({"_id": "store"})
    if document is None:
        raise ConfigError(
            "There is no store in this database. Is it the right one? "
            "Name it with --mongo-url and --mongo-database (or MINI_S3_MONGO_URL and MINI_S3_MONGO_DATABASE)."
        )
    if document["version"] in (1, 2):
        await _upgrade(database, document["version"])
    elif document["version"] != VERSION:
        version = document["version"]
        raise ConfigError(f"The database has format {version}; this Mini-S3 reads and writes format {VERSION} only.")
    models = (Files, Objects, Buckets, UploadSessions, Pages, Chunks, Uploads, Tallies, Suspects)
    await asyncio.gather(*(model(database).create_indexes() for model in models))
    store: str = document["store"]
    return store


async def _upgrade(database: Database, version: int) -> None:
    """From version 1, whose files had no place in a bucket, or 2, whose pages were not found by their chunks. Those who
    do it at the same time do the same."""
    if version == 1:
        await _place_files(database)
    await Pages(database).add_prefixes()
    await database["meta"].update_one({"_id": "store"}, {"$set": {"version": VERSION}})


async def _place_files(database: Database) -> None:
    async for documents in database["files"].stream({"bucket": None}, fields={"name": 1}, batch=_TOGETHER):
        places = [
            UpdateOne(
                {"_id": document["_id"], "bucket": None},
                {"$set": {"bucket": "", "key": f"{document['_id']}/{document['name']}", "listed": True}},
            )
            for document in documents
        ]
        await database["files"].bulk_update(places)
