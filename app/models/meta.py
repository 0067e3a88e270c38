"""The store's own document: its identity and the version of its documents.

meta: {_id: "store", version, store}
"""

from __future__ import annotations

import secrets

from app.errors import ConfigError
from app.models.database import Database
from app.models.files import Files
from app.models.uploads import Uploads

VERSION = 1


async def prepare(database: Database) -> str:
    """Create what is missing, check the version, and return the store's id (32 hex digits).

    Raises ConfigError where another version of Mini-S3 wrote the database.
    """
    meta = database["meta"]
    fresh = {"version": VERSION, "store": secrets.token_hex(16)}
    await meta.update_one({"_id": "store"}, {"$setOnInsert": fresh}, upsert=True)
    document = await meta.find_one({"_id": "store"})
    if document is None or document["version"] != VERSION:
        version = document["version"] if document else None
        raise ConfigError(f"The database has format {version}; this Mini-S3 reads and writes format {VERSION} only.")
    await Files(database).create_indexes()
    await Uploads(database).create_indexes()
    store: str = document["store"]
    return store
